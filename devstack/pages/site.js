// The page around an app's frame: answers the questions of the frame, and of nobody else.
const frame = document.querySelector("iframe");
const origin = new URL(frame.src).origin;

const answers = {
  "context-token": async () => {
    const answer = await fetch(frame.dataset.contextToken);
    return answer.ok ? (await answer.json()).token : undefined;
  },
  // Whose language is not the browser's says so in the page's address: ?locale=de_DE
  locale: () => new URLSearchParams(location.search).get("locale") ?? navigator.language,
};

window.addEventListener("message", async (event) => {
  if (event.source !== frame.contentWindow || event.origin !== origin) return;
  const answer = await answers[event.data?.kind]?.();
  if (answer === undefined) return;
  frame.contentWindow.postMessage({ id: event.data.id, answer }, origin);
});
