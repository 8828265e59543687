// What opens the export stands behind the "#", which is never sent; from the address it goes at once.
const code = location.hash.slice(1);
const form = document.getElementById("fetch");
if (code) {
  form.elements.token.value = code;
  form.hidden = false;
  document.getElementById("other").href += `#${code}`;
  history.replaceState(null, "", location.pathname + location.search);
  form.addEventListener("submit", () => {
    const told = document.getElementById("told");
    told.textContent = told.dataset.told;
  });
} else {
  document.getElementById("incomplete").hidden = false;
}
// Another link that is pasted into this window opens its own.
addEventListener("hashchange", () => location.reload());
