// Shows that the privacy policy has changed where nobody could be written to, until somebody has seen it.
//
// The word comes from notifier; without it there is no banner.
import { ask, isThere } from "./notifier.js";
import { tellTimes } from "./times.js";

const NOTICE = "/policy/notice";

const noticeOf = async () => {
  try {
    const answer = await ask(NOTICE);
    return answer.status === 200 ? await answer.json() : null;
  } catch {
    return null;
  }
};

const noteSight = async (revision) => {
  try {
    const body = JSON.stringify({ revision });
    return (await ask(`${NOTICE}/seen`, { method: "POST", body })).ok;
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

export const showPolicy = async (complain) => {
  if (!isThere) return;
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
