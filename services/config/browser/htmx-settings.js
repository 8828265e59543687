// Read by htmx when it starts, which is why this is imported before it. And htmx starts with the page,
// or at once where all of that is loaded; in between it would wait for what is over.
const settings = document.createElement("meta");
settings.name = "htmx-config";
settings.content = JSON.stringify({
  // The page's policy allows neither style nor script of its own making.
  includeIndicatorStyles: false,
  attributesToSettle: ["class"],
  allowEval: false,
  allowScriptTags: false,
  // Screens come from config, which may have another address than the page; app.js asks nobody else.
  selfRequestsOnly: false,
  // Nothing of a customer's is left behind in the browser.
  historyEnabled: false,
  historyCacheSize: 0,
  timeout: 20_000,
  scrollIntoViewOnBoost: false,
});
document.head.append(settings);
if (document.readyState !== "complete") {
  await new Promise((resolve) => {
    addEventListener("load", resolve, { once: true });
  });
}
