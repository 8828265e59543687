// The preview's page: has a worker make something of rows, converter and template, and shows it.
// It talks to the page around it by messages alone, and believes nobody else.
import program from "./preview-worker.text";

const MOST_MILLISECONDS = 1_000;
const worked = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
const result = document.querySelector("iframe");
let worker;
let timer;

// Without scripts, and nothing in it may be loaded: what this page may not do, its frame may not do either.
const show = (html, dark) => {
  const [text, ground, line] = dark ? ["#dddee1", "#1f1f21", "#45474d"] : ["#22272f", "#fff", "#d5d9e0"];
  result.srcdoc = `<!doctype html><meta charset="utf-8"><title>Result</title><style>
    :root { color-scheme: ${dark ? "dark" : "light"}; }
    body { margin: .5rem; font: 1rem/1.5 system-ui, sans-serif; color: ${text}; background: ${ground}; }
    table { border-collapse: collapse; } th, td { padding: .25rem .5rem; border: 1px solid ${line}; text-align: start; }
  </style>${html}`;
};

const stop = () => {
  clearTimeout(timer);
  worker?.terminate();
};

const run = ({ id, dark, ...given }) => {
  stop();
  const end = (made) => {
    stop();
    if (typeof made?.html === "string") show(made.html, dark === true);
    parent.postMessage({ id, trouble: made?.trouble ?? "", message: made?.message ?? "" }, "*");
  };
  worker = new Worker(worked);
  timer = setTimeout(end, MOST_MILLISECONDS, { trouble: "slow" });
  worker.addEventListener("message", ({ data }) => end(data));
  worker.addEventListener("error", ({ message }) => end({ trouble: "converter", message }));
  worker.postMessage(given);
};

addEventListener("message", ({ source, data }) => {
  if (source === parent) run(data);
});
parent.postMessage({ ready: true }, "*");
