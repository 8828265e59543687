// Keeps the board's parts fresh without taking the keyboard's place, and sends a person's word on the brake.
(() => {
  "use strict";

  const EVERY_MS = 5_000;
  const PATIENCE_MS = 10_000;

  const refresh = document.getElementById("refresh");
  const stale = document.getElementById("stale");
  const said = document.getElementById("said");
  const parts = [...document.querySelectorAll("[data-live]")];
  // What the server last told, as a part on the page has details that somebody opened.
  const told = new Map(parts.map((part) => [part.id, part.outerHTML]));
  let freshAt = new Date();

  const replace = (part, newer) => {
    const active = document.activeElement;
    const focused = part.contains(active) ? active.id : undefined;
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((each) => [each.id, each.scrollLeft]);
    part.className = newer.className;
    part.replaceChildren(...newer.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, left] of scrolled) {
      const found = document.getElementById(id);
      if (found) found.scrollLeft = left;
    }
    if (focused === undefined) return;
    const again = document.getElementById(focused);
    if (!again) part.tabIndex = -1;
    (again ?? part).focus({ preventScroll: true });
  };

  const adopt = (page) => {
    document.title = page.title;
    for (const part of parts) {
      const newer = page.getElementById(part.id);
      const html = newer?.outerHTML;
      if (html === undefined || html === told.get(part.id)) continue;
      told.set(part.id, html);
      replace(part, newer);
    }
  };

  const look = async () => {
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" },
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (!answer.ok) throw new Error(answer.status);
      adopt(new DOMParser().parseFromString(await answer.text(), "text/html"));
      freshAt = new Date();
      if (stale.textContent) stale.textContent = "";
    } catch {
      stale.textContent = `Purger does not answer. What you see is of ${freshAt.toLocaleTimeString()}.`;
    }
  };

  const keepLooking = async () => {
    if (refresh.checked && !document.hidden) await look();
    setTimeout(keepLooking, EVERY_MS);
  };

  const send = async (form) => {
    const word = Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim()));
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(word),
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      const { title, detail, engaged } = await answer.json();
      if (!answer.ok) said.textContent = `Nothing was noted: ${detail ?? title}`;
      else said.textContent = engaged ? "Noted. The brake holds." : "Released. Purges start again.";
      if (answer.ok) form.reset();
    } catch {
      said.textContent = "Purger does not answer. Nothing is known to be noted.";
    }
    await look();
  };

  for (const id of ["pull", "release"]) {
    document.getElementById(id).addEventListener("submit", (event) => {
      event.preventDefault();
      send(event.target);
    });
  }
  document.addEventListener("tables:used", () => {
    refresh.checked = false;
  });
  setTimeout(keepLooking, EVERY_MS);
})();
