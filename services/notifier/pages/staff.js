// Keeps the preview, the check list and what is under way fresh, without taking the keyboard's place.
(() => {
  "use strict";

  const TYPING_MS = 400;
  const EVERY_MS = 2_000;
  const PATIENCE_MS = 10_000;

  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

  const asked = async (url, options) => {
    const answer = await fetch(url, {
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...options,
    });
    if (!answer.ok) throw new Error(answer.status);
    return parsed(await answer.text());
  };

  const editor = document.getElementById("editor");
  const show = document.getElementById("show");
  if (editor && show) {
    const checks = document.getElementById("checks");
    let waiting;
    let turn = 0;

    const check = async () => {
      turn += 1;
      const mine = turn;
      try {
        const body = new URLSearchParams(new FormData(editor));
        const page = await asked(editor.dataset.checks, { method: "POST", body });
        if (mine === turn) checks.replaceChildren(...page.body.childNodes);
      } catch {
        if (mine === turn) checks.textContent = "Notifier does not answer. Nothing is checked.";
      }
    };

    // A frame that is new has no past: without this, each look would be a step of "back".
    const fill = () => {
      const frame = document.getElementById("preview");
      frame.replaceWith(frame.cloneNode(false));
      editor.requestSubmit(show);
    };

    const look = () => {
      fill();
      if (checks) check();
    };

    // What chooses the look stands beside the preview, outside of the form that it belongs to.
    document.addEventListener("input", (event) => {
      if (event.target.form !== editor) return;
      clearTimeout(waiting);
      waiting = setTimeout(look, event.target.type === "radio" ? 0 : TYPING_MS);
    });
    // A form has one submission at a time: a look would take the place of what a person sends.
    editor.addEventListener("submit", (event) => {
      if (event.submitter !== show) clearTimeout(waiting);
    });
    fill();
  }

  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length) {
    const stale = document.getElementById("stale");
    const steer = document.getElementById("steer");
    let freshAt = new Date();

    const refresh = async () => {
      try {
        const page = await asked(location.href);
        document.title = page.title;
        for (const part of parts) part.replaceChildren(...page.getElementById(part.id).childNodes);
        // What can be done now follows how far it has come, unless somebody is at it.
        const newer = page.getElementById("steer");
        const typing = steer?.contains(document.activeElement) || steer?.elements.by.value;
        if (steer && newer && !typing) steer.replaceChildren(...newer.childNodes);
        if (steer && !newer) steer.hidden = true;
        freshAt = new Date();
        stale.textContent = "";
      } catch {
        stale.textContent = `Notifier does not answer. What you see is of ${freshAt.toLocaleTimeString()}.`;
      }
    };

    const keepLooking = async () => {
      if (!document.hidden) await refresh();
      setTimeout(keepLooking, EVERY_MS);
    };
    setTimeout(keepLooking, EVERY_MS);
  }
})();
