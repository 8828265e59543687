// Lets an administrator name who gets the receipt of an erasure. The address goes to notifier alone,
// which never shows it again.
import { ask, isThere } from "./notifier.js";
import { tellTimes } from "./times.js";

const ADDRESS = "/receipt-address";

const part = () => document.querySelector("[data-receipt]");
const find = (name) => part().querySelector(`[data-receipt-${name}]`);
const said = (name) => part().dataset[name];

const tell = (text) => {
  document.getElementById("said").textContent = text;
};

const complain = (text) => {
  const why = find("why");
  const field = part().querySelector("input");
  why.textContent = text;
  why.hidden = text === "";
  if (field === null) return;
  if (text === "") {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  } else {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", why.id);
    field.focus();
  }
};

const look = async () => {
  try {
    const answer = await ask(ADDRESS);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const show = async () => {
  const state = await look();
  // Meanwhile another screen may be there.
  if (part() === null) return;
  find("away").hidden = state !== null;
  if (state === null) return;
  const isNamed = state.named_at !== null;
  find("named").hidden = !isNamed;
  find("nobody").hidden = isNamed;
  if (isNamed) find("named").querySelector("time").dateTime = state.named_at;
  tellTimes(part());
  find("form").hidden = !state.administers;
  find("others").hidden = state.administers;
  find("withdraw").hidden = !state.administers || !isNamed;
};

const SENTENCES = { 403: "others", 422: "wrong", 429: "often" };

const change = async (options, done) => {
  complain("");
  let status = 0;
  try {
    ({ status } = await ask(ADDRESS, options));
  } catch {
    // It is told as what is away.
  }
  if (part() === null) return;
  if (status === 410) {
    window.keepword.end("gone");
    return;
  }
  if (status !== 204) {
    complain(said(SENTENCES[status] ?? "away"));
    return;
  }
  find("form").reset();
  await show();
  if (part() === null) return;
  tell(said(done));
  part().querySelector("input").focus();
};

document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
  if (target.id !== "screen" || part() === null || !isThere) return;
  part().hidden = false;
  show();
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-receipt-form]")) return;
  event.preventDefault();
  const { lang } = part().closest("[lang]");
  const body = JSON.stringify({ address: event.target.elements.address.value, language: lang });
  change({ method: "PUT", body }, "done");
});

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-receipt-withdraw]") !== null) change({ method: "DELETE" }, "withdrawn");
});
