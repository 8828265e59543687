// A stand-in for the bridge that Atlassian serves to an app's frame: AP.context.getToken, AP.user.getLocale, no more.
window.AP = (() => {
  const waiting = new Map();
  let asked = 0;

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent) return;
    waiting.get(event.data?.id)?.(event.data.answer);
    waiting.delete(event.data?.id);
  });

  const ask = (kind) => (callback) => {
    asked += 1;
    waiting.set(asked, callback);
    // The question holds nothing secret, and the frame may have moved on from the URL that named its host.
    window.parent.postMessage({ kind, id: asked }, "*");
  };

  return { context: { getToken: ask("context-token") }, user: { getLocale: ask("locale") } };
})();
