// The page around an app's frame: fetches context tokens for the frame, and for nobody else.
const frame = document.querySelector("iframe");
const origin = new URL(frame.src).origin;

window.addEventListener("message", async (event) => {
  if (event.source !== frame.contentWindow || event.origin !== origin) return;
  if (event.data?.kind !== "context-token") return;
  const answer = await fetch(frame.dataset.contextToken);
  if (!answer.ok) return;
  const { token } = await answer.json();
  frame.contentWindow.postMessage({ kind: "context-token", id: event.data.id, token }, origin);
});
