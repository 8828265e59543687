// Asks notifier, right from the page and by its session: what it is told goes by nobody else.
const PATIENCE_MS = 10_000;
const { notifier } = document.getElementById("app").dataset;

export const isThere = notifier !== undefined;

export const ask = async (path, options = {}) =>
  fetch(`${notifier}${path}`, {
    ...options,
    headers: {
      Authorization: `Bearer ${await window.keepword.session()}`,
      "Content-Type": "application/json",
    },
    credentials: "omit",
    referrerPolicy: "no-referrer",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
