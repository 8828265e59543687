// The code stands behind the "#", which is never sent; from the address it goes at once.
const code = location.hash.slice(1);
if (code) {
  document.getElementById("code").value = code;
  history.replaceState(null, "", location.pathname);
}
