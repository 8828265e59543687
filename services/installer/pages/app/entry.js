// Keeps this page's session alive, and gives it to the app's screens:
//   await keepword.session()  a session token that is good for a while, for `Authorization: Bearer`
//   await keepword.renew()    a new one at once
// Both reject where there is none; the page then says what to do. The screens say what they meet:
//   keepword.interrupt()      they cannot be had now; tried again with the next session
//   keepword.end(why)         "gone", "left" or "kept-elsewhere": there are none to be had
(() => {
  "use strict";

  const RENEWED_BEFORE_END_MS = 3 * 60_000;
  const GOOD_FOR_MS = 30_000;
  const PATIENCE_MS = 10_000;
  const TRIED_AGAIN_AFTER_MS = 30_000;
  const ENDS = { 401: "ended", 403: "left", 410: "gone" };

  const state = document.getElementById("state");
  const bridge = document.getElementById("bridge");
  const app = document.getElementById("app");
  const reporter = document.getElementById("reporter");
  let token;
  let endsAt;
  let timer;
  let renewing;
  let screens;

  const show = (name) => {
    if (state.dataset.state === name) return;
    const hadFocus = state.contains(document.activeElement);
    const shown = document.querySelector(`template[data-state="${name}"]`);
    state.dataset.state = name;
    state.replaceChildren(shown.content.cloneNode(true));
    // The button that was pressed is gone, and the keyboard's place must not go with it.
    if (hadFocus) (state.checkVisibility() ? state : app).focus();
  };

  const keep = (session) => {
    token = session.token;
    endsAt = Date.now() + session.expires_in_seconds * 1000;
    renewAfter(endsAt - Date.now() - RENEWED_BEFORE_END_MS);
    show("ready");
    open();
    return token;
  };

  // Each session is a chance for screens that could not be loaded with the one before.
  const open = () => {
    if (app === null) return;
    app.dispatchEvent(new Event("keepword:ready"));
    if (screens !== undefined) return;
    screens = document.createElement("script");
    screens.type = "module";
    screens.src = app.dataset.src;
    screens.addEventListener("error", () => {
      screens.remove();
      screens = undefined;
      interrupt();
    });
    document.head.append(screens);
  };

  const interrupt = () => {
    renewAfter(TRIED_AGAIN_AFTER_MS);
    show("interrupted");
  };

  const end = (why) => {
    clearTimeout(timer);
    token = undefined;
    show(why);
  };

  const renewAfter = (milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(() => renew().catch(() => {}), milliseconds);
  };

  const contextToken = () =>
    new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("the bridge does not answer")), PATIENCE_MS);
      window.AP.context.getToken(resolve);
    });

  const ask = async () =>
    fetch("session-tokens", {
      method: "POST",
      headers: { Accept: "application/json", Authorization: `JWT ${await contextToken()}` },
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });

  const exchange = async () => {
    let answer;
    try {
      answer = await ask();
      if (answer.ok) return keep(await answer.json());
    } catch {
      answer = undefined;
    }
    return refuse(answer);
  };

  const refuse = async (answer) => {
    const otherwise = ENDS[answer?.status];
    if (otherwise === undefined) {
      interrupt();
      throw new Error("interrupted");
    }
    const { reason } = await answer.json().catch(() => ({}));
    const known = reason && document.querySelector(`template[data-state="${CSS.escape(reason)}"]`);
    end(known ? reason : otherwise);
    throw new Error(state.dataset.state);
  };

  const renew = () => {
    renewing ??= exchange().finally(() => {
      renewing = undefined;
    });
    return renewing;
  };

  const lasts = (milliseconds) => token !== undefined && Date.now() + milliseconds < endsAt;

  const session = async () => (lasts(GOOD_FOR_MS) ? token : renew());

  // The address has done its part, and nobody who reads it later shall find Atlassian's token there.
  const forgetToken = () => {
    const address = new URL(location.href);
    address.searchParams.delete("jwt");
    history.replaceState(history.state, "", address);
  };

  const follow = () => window.AP?.theming?.initializeTheming?.();

  const report = () => {
    const { release } = reporter.dataset;
    window.keepwordErrors.start({ session, release });
  };

  const start = () => {
    forgetToken();
    const given = document.getElementById("session");
    keep(JSON.parse(given.textContent));
    given.remove();

    if (window.AP) follow();
    else bridge.addEventListener("load", follow);
    if (window.keepwordErrors) report();
    else reporter?.addEventListener("load", report);
    state.addEventListener("click", (event) => {
      if (event.target.closest("button")) renew().catch(() => {});
    });
    // Timers stand still while a laptop sleeps.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && token !== undefined && !lasts(RENEWED_BEFORE_END_MS)) {
        renew().catch(() => {});
      }
    });
  };

  window.keepword = Object.freeze({ session, renew, interrupt, end });
  start();
})();
