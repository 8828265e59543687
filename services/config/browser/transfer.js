// Export and import: files go and come by fetch, as no form of this page may be sent elsewhere.
const find = (id) => document.getElementById(id);
const SCREENS = new URL("./", import.meta.url).href;
const API = new URL("../api/v1/", SCREENS).href;

const authorized = async () => ({ Authorization: `Bearer ${await window.keepword.session()}` });

const exported = async () => {
  const ticket = await fetch(`${API}exports`, { method: "POST", headers: await authorized() });
  if (ticket.status === 410) window.keepword.end("gone");
  if (!ticket.ok) throw new Error(String(ticket.status));
  const body = new URLSearchParams({ ticket: (await ticket.json()).ticket });
  const archive = await fetch(`${API}exports/downloads`, { method: "POST", body });
  if (!archive.ok) throw new Error(String(archive.status));
  return archive.blob();
};

const give = (blob) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `keepword-${new Date().toISOString().slice(0, 10)}.zip`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

const exportAll = async (button) => {
  const told = find("export-told");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  told.textContent = told.dataset.wait;
  try {
    give(await exported());
    told.textContent = told.dataset.done;
  } catch {
    told.textContent = told.dataset.failed;
  }
  button.removeAttribute("aria-disabled");
};

// Of fetch nobody learns how much of a file has been sent.
const send = (path, file, headers) =>
  new Promise((resolve, reject) => {
    const progress = find("import-progress");
    const request = new XMLHttpRequest();
    request.open("POST", new URL(path, SCREENS).href);
    Object.entries(headers).forEach(([name, value]) => request.setRequestHeader(name, value));
    request.upload.onprogress = ({ loaded, total }) => {
      progress.value = loaded / total;
    };
    request.onload = () => resolve(request);
    request.onerror = reject;
    progress.value = 0;
    progress.hidden = false;
    request.onloadend = () => {
      progress.hidden = true;
    };
    request.send(file);
  });

const warn = (result, text) => {
  const box = document.createElement("p");
  box.className = "note";
  box.setAttribute("role", "alert");
  box.textContent = text;
  result.replaceChildren(box);
};

const importBy = async (path) => {
  const [file] = document.querySelector("form[data-archive]").elements.archive.files;
  const result = find("import-result");
  if (file === undefined) return;
  try {
    const language = document.querySelector("#app [lang]").lang;
    const headers = { ...(await authorized()), "Accept-Language": language };
    const answer = await send(path, file, { ...headers, "Content-Type": "application/zip" });
    if (answer.status === 410) window.keepword.end("gone");
    else if (answer.status === 413) warn(result, result.dataset.large);
    else if (answer.status === 200) result.innerHTML = answer.responseText;
    else {
      const { detail } = JSON.parse(answer.responseText);
      warn(result, [403, 409].includes(answer.status) ? detail : result.dataset.failed);
    }
  } catch {
    warn(result, result.dataset.failed);
  }
  result.focus();
};

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-export], [data-import]");
  if (button === null) return;
  if ("export" in button.dataset) exportAll(button);
  else importBy(button.dataset.import);
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-archive]")) return;
  event.preventDefault();
  importBy("transfer/preview");
});

// What was said of one file is not of the next.
document.addEventListener("change", ({ target }) => {
  if (target.matches("form[data-archive] input")) find("import-result").replaceChildren();
});
