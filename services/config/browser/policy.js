// Shows that the privacy policy has changed where nobody could be written to, until somebody has seen it.
//
// The word comes from notifier, right to the page and by its session. Without it there is no banner.
const PATIENCE_MS = 10_000;

const ask = async (path, options) =>
  fetch(`${document.getElementById("app").dataset.notifier}/policy/notice${path}`, {
    ...options,
    headers: {
      Authorization: `Bearer ${await window.keepword.session()}`,
      "Content-Type": "application/json",
    },
    credentials: "omit",
    referrerPolicy: "no-referrer",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });

const noticeOf = async () => {
  try {
    const answer = await ask("");
    return answer.status === 200 ? await answer.json() : null;
  } catch {
    return null;
  }
};

const noteSight = async (revision) => {
  try {
    return (await ask("/seen", { method: "POST", body: JSON.stringify({ revision }) })).ok;
  } catch {
    return false;
  }
};

// What was pressed is gone, and the keyboard's place must not go with it.
const leave = (place) => {
  place.replaceChildren();
  const heading = document.querySelector("#screen h2");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus();
};

export const showPolicy = async ({ tellTimes, complain }) => {
  if (document.getElementById("app").dataset.notifier === undefined) return;
  const notice = await noticeOf();
  const place = document.getElementById("policy");
  if (notice === null || place === null) return;
  const banner = document.getElementById("policy-changed").content.cloneNode(true);
  const { lang } = place.closest("[lang]");
  banner.querySelector("time").dateTime = notice.effective_on;
  banner.querySelector("[data-summary]").textContent = notice.summary[lang] ?? notice.summary.en;
  banner.querySelector("a").href = notice.url;
  const button = banner.querySelector("button");
  button.addEventListener("click", async () => {
    button.disabled = true;
    const isNoted = await noteSight(notice.revision);
    button.disabled = false;
    if (isNoted) leave(place);
    else complain();
  });
  tellTimes(banner);
  place.replaceChildren(banner);
};
