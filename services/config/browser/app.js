// The app's screens in the entry page: fetches them from config, and shows one at a time.
//
// A link to a screen is `href="#/its/path"`, a form has `hx-post`, `hx-put` or `hx-delete`. What
// comes back is an <article> whose data say where it is (path, area) and what is to be read out (said).
import "./htmx-settings.js";
import htmx from "htmx.org";
import { showPolicy } from "./policy.js";
import "./receipt.js";
import { tellTimes } from "./times.js";
import "./transfer.js";
import "./usage.js";

const SCREENS = new URL("./", import.meta.url).href;
const PATIENCE_MS = 2_000;
const TRIED_AGAIN_AFTER_MS = 1_500;
const MOST_TRIES = 6;
// What config says of a tenant that is not served at all: the entry page knows what to do then.
const ENDS = { going: "gone", left: "left", "kept-elsewhere": "kept-elsewhere" };

const app = document.getElementById("app");
const find = (id) => document.getElementById(id);
let token;
let language;
let shown = null;
let tries = 0;
let isDirty = false;
let renewed = false;

// -- where we are ------------------------------------------------------------------------------

// The hash is whatever a link said, and only screens are asked for.
const wanted = () => {
  const path = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
  const url = new URL(path, SCREENS).href;
  return url.startsWith(SCREENS) && url !== SCREENS ? url : find("screen").dataset.first;
};

const go = () => {
  if (find("screen") === null) {
    htmx.ajax("GET", "shell", { source: app, target: app, swap: "innerHTML" });
    return;
  }
  find("screen").setAttribute("aria-busy", "true");
  htmx.ajax("GET", wanted(), { source: "#screen", target: "#screen", swap: "innerHTML" });
};

const stayOrLeave = () => {
  if (!isDirty) {
    go();
    return;
  }
  const there = location.hash;
  history.replaceState(null, "", `#/${shown}`);
  const dialog = find("leaving");
  dialog.onclose = () => {
    if (dialog.returnValue !== "leave") return;
    isDirty = false;
    location.hash = there;
  };
  dialog.returnValue = "stay";
  dialog.showModal();
};

// -- what is said ------------------------------------------------------------------------------

const say = (text) => {
  find("said").textContent = text;
};

const complain = (text, again) => {
  const box = find("trouble");
  box.querySelector("p").textContent = text;
  box.querySelector("button").hidden = !again;
  box.hidden = false;
};

const sentence = (status) =>
  (
    find("sentences").content.querySelector(`[data-status="${status}"]`) ??
    find("sentences").content.querySelector('[data-status="other"]')
  ).textContent;

// -- what comes back ---------------------------------------------------------------------------

const arrive = (screen) => {
  const article = screen.querySelector("article");
  screen.removeAttribute("aria-busy");
  if (article === null) return;
  const isFirst = shown === null;
  shown = article.dataset.path;
  history.replaceState(null, "", `#/${shown}`);
  app.querySelectorAll("nav a").forEach((link) => {
    if (link.dataset.area === article.dataset.area) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  isDirty = false;
  // Who opens the app is somewhere else in the site's page, and stays there.
  if (!isFirst) {
    const heading = article.querySelector("h2");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus();
  }
  say(article.dataset.said ?? "");
  equip(article).catch(() => {
    // A plain field does as well.
  });
};

const problemOf = (xhr) => {
  try {
    return JSON.parse(xhr.responseText);
  } catch {
    return {};
  }
};

const refused = async ({ xhr, requestConfig }) => {
  const { status } = xhr;
  if (status === 401 && !renewed) {
    renewed = true;
    try {
      await window.keepword.renew();
    } catch {
      return;
    }
    repeat(requestConfig);
    return;
  }
  const { reason, detail } = problemOf(xhr);
  if (status === 410 || reason in ENDS) {
    window.keepword.end(ENDS[reason] ?? "gone");
    return;
  }
  if (status === 503 && requestConfig.verb === "get" && ++tries < MOST_TRIES) {
    setTimeout(go, TRIED_AGAIN_AFTER_MS);
    return;
  }
  if (find("screen") === null) {
    window.keepword.interrupt();
    return;
  }
  find("screen").removeAttribute("aria-busy");
  const known = detail !== undefined && [403, 409, 422, 428].includes(status);
  complain(
    known ? detail : sentence(status === 503 ? "away" : status),
    requestConfig.verb === "get" && status !== 404,
  );
};

// Once more with what the person had typed: nothing of the page has changed meanwhile.
const repeat = ({ verb, path, elt, triggeringEvent, target }) =>
  htmx.ajax(verb.toUpperCase(), path, { source: elt, event: triggeringEvent, target });

const away = ({ detail }) => {
  if (find("screen") === null) {
    window.keepword.interrupt();
    return;
  }
  find("screen").removeAttribute("aria-busy");
  complain(sentence("away"), detail.requestConfig.verb === "get");
};

// -- forms -------------------------------------------------------------------------------------

const fieldOf = (name) => app.querySelector(`#editor [data-field="${CSS.escape(name)}"]`);
// An editor of code lives in a tree of its own.
const controlOf = (field) =>
  field.querySelector("[data-code]")?.shadowRoot.querySelector("[role=textbox]") ??
  field.querySelector("input:not([type=hidden]), select, textarea, button");

const describe = (control, why, isWrong) => {
  const others = (control.getAttribute("aria-describedby") ?? "").split(" ");
  const ids = [...others.filter((id) => id !== "" && id !== why), ...(isWrong ? [why] : [])];
  if (ids.length > 0) control.setAttribute("aria-describedby", ids.join(" "));
  else control.removeAttribute("aria-describedby");
  control.setAttribute("aria-invalid", String(isWrong));
};

const forgive = () => {
  app.querySelectorAll("#editor [data-wrong]").forEach((field) => {
    const why = field.querySelector(".why");
    const control = controlOf(field);
    if (control !== null) describe(control, why.id, false);
    field.removeAttribute("data-wrong");
    why.remove();
  });
};

// Puts what is wrong beside each field, and the keyboard's place before all of it.
const point = (errors) => {
  forgive();
  errors.querySelectorAll("[data-why]").forEach((reason) => {
    const field = fieldOf(reason.dataset.why);
    if (field === null || field.dataset.wrong !== undefined) return;
    const why = document.createElement("p");
    why.className = "why";
    why.id = `why-${reason.dataset.why}`;
    why.textContent = reason.textContent;
    field.append(why);
    field.dataset.wrong = "";
    const control = controlOf(field);
    if (control !== null) describe(control, why.id, true);
  });
  errors.querySelector("h3").focus();
};

const clicked = {
  mend: (button) => controlOf(fieldOf(button.dataset.mend))?.focus(),
  overwrite: (button) => {
    const form = find("editor");
    form.elements.version.value = button.dataset.overwrite;
    form.requestSubmit();
  },
  take: () => go(),
  back: () => {
    find("errors").replaceChildren();
    controlOf(fieldOf("name")).focus();
  },
};

app.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  const act = button && Object.keys(clicked).find((name) => name in button.dataset);
  if (act) clicked[act](button);
});

// The editors of code are half a megabyte, and loaded with the first form that has one.
const equip = async (article) => {
  const areas = article.querySelectorAll("textarea[data-editor]");
  if (areas.length === 0) return;
  const { mount, watch } = await import(`${SCREENS}editors.js`);
  areas.forEach(mount);
  const preview = article.querySelector("[data-preview]");
  if (preview !== null) watch(preview, SCREENS);
};

// -- how htmx works for us ---------------------------------------------------------------------

// Forms travel as a list of pairs, so that texts are not blown up by percent signs.
htmx.defineExtension("pairs", {
  onEvent: (name, event) => {
    if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
    return true;
  },
  encodeParameters: (xhr, parameters) => JSON.stringify([...parameters.entries()]),
});

const listen = (name, hear) => document.body.addEventListener(name, hear);

listen("htmx:confirm", async (event) => {
  event.preventDefault();
  try {
    token = await window.keepword.session();
  } catch {
    // The entry page says what to do.
    return;
  }
  event.detail.issueRequest(true);
});

listen("htmx:configRequest", ({ detail }) => {
  // Templates name a screen by its path; the page they stand in has an address of its own.
  detail.path = new URL(detail.path, SCREENS).href;
  // They name the page's address, which tells of the customer's site.
  Object.keys(detail.headers)
    .filter((name) => name.startsWith("HX-"))
    .forEach((name) => delete detail.headers[name]);
  Object.assign(detail.headers, {
    Accept: "text/html",
    "Accept-Language": language,
    Authorization: `Bearer ${token}`,
  });
});

listen("htmx:validateUrl", (event) => {
  if (!event.detail.url.href.startsWith(SCREENS)) event.preventDefault();
});

// Screens say what they have to say in their markup. htmx asks for headers all the same, and the
// browser complains of each that may not be read from elsewhere.
listen("htmx:beforeSend", ({ detail: { xhr } }) => {
  const read = xhr.getResponseHeader.bind(xhr);
  xhr.getResponseHeader = (name) => (name.startsWith("HX-") ? null : read(name));
});

// A form that was refused stays as it is, and is told what is wrong with it.
const REFUSED = [412, 422];

listen("htmx:beforeSwap", ({ detail }) => {
  const isFragment = (detail.xhr.getResponseHeader("Content-Type") ?? "").startsWith("text/html");
  detail.shouldSwap = isFragment;
  detail.isError = !isFragment;
  if (isFragment) {
    tries = 0;
    renewed = false;
    if (find("trouble") !== null) find("trouble").hidden = true;
    if (REFUSED.includes(detail.xhr.status)) detail.target = find("errors");
  }
});

listen("htmx:responseError", ({ detail }) => refused(detail));
listen("htmx:sendError", away);
listen("htmx:timeout", away);

listen("htmx:afterSwap", ({ detail }) => {
  const { target } = detail;
  if (target === app) {
    const screen = find("screen");
    screen.dataset.first = app.querySelector("nav a").dataset.area;
    find("trouble").querySelector("button").addEventListener("click", () => {
      find("trouble").hidden = true;
      tries = 0;
      go();
    });
    go();
    showPolicy(() => complain(sentence("away"), false));
    return;
  }
  tellTimes(app);
  if (target.id === "screen") arrive(target);
  else if (target.id === "errors") point(target);
  else say([...(target.isConnected ? target : find("rows")).querySelectorAll("[data-said]")].pop()?.dataset.said ?? "");
});

// What came in the place of what was pressed goes on with the keyboard's place.
listen("htmx:load", ({ detail }) => {
  const { elt } = detail;
  if (elt.closest("article") !== null) elt.querySelector("[data-focus]")?.focus();
});

listen("input", ({ target }) => {
  if (target.closest("form[data-guarded]") !== null) isDirty = true;
});

// htmx notes the page's address there, which tells of the customer's site, for a history it does not keep.
try {
  sessionStorage.removeItem("htmx-current-path-for-history");
} catch {
  // A browser may keep nothing for a page in a frame.
}

// -- the beginning -----------------------------------------------------------------------------

const style = () =>
  new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = `${SCREENS}app.css`;
    link.addEventListener("load", resolve);
    link.addEventListener("error", resolve);
    document.head.append(link);
  });

// The site knows the person's language; the browser's is the next best.
const localeOf = () =>
  new Promise((resolve) => {
    const otherwise = navigator.languages.join(",");
    setTimeout(resolve, PATIENCE_MS, otherwise);
    if (window.AP?.user?.getLocale === undefined) resolve(otherwise);
    else window.AP.user.getLocale((locale) => resolve(`${locale.replace("_", "-")},${otherwise}`));
  });

[language] = await Promise.all([localeOf(), style()]);
addEventListener("hashchange", stayOrLeave);
app.addEventListener("keepword:ready", () => {
  if (find("screen") === null) go();
});
go();
