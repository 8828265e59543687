// The preview beside an editor, seen from the app's page: watch(section) keeps it up to date.
const LATER_MS = 300;
const LONGEST_MESSAGE = 300;
// What a converter alone makes is shown as it is.
const AS_IT_IS = "<pre>{{ rows | dump(2) }}</pre>";

export const watch = (section, screens) => {
  const frame = section.querySelector("iframe");
  const trouble = section.querySelector("#preview-trouble");
  const sentences = section.querySelector("template").content;
  const text = document.getElementById("f-text");
  const sample = section.querySelector("#sample");
  const converter = section.querySelector("#converter-text");
  const isTemplate = section.dataset.preview === "template";
  let asked = 0;
  let timer;

  const isDark = () => {
    const mode = document.documentElement.dataset.colorMode;
    return mode ? mode === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };

  const ask = () => {
    if (text.value.trim() === "") return;
    asked += 1;
    // A page without an origin can only be addressed as whoever is there; the frame is ours.
    frame.contentWindow?.postMessage(
      {
        id: asked,
        rows: sample.value,
        converter: isTemplate ? converter.value : text.value,
        template: isTemplate ? text.value : AS_IT_IS,
        dark: isDark(),
      },
      "*",
    );
  };

  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, LATER_MS);
  };

  // Whatever comes is what a stranger's script may have said: two short texts, and shown as text.
  const tell = ({ trouble: kind, message }) => {
    const known = typeof kind === "string" && sentences.querySelector(`[data-trouble="${CSS.escape(kind)}"]`);
    const more = typeof message === "string" ? message.slice(0, LONGEST_MESSAGE) : "";
    trouble.textContent = known ? `${known.textContent} ${more}`.trim() : "";
    frame.classList.toggle("stale", Boolean(known));
  };

  const hear = ({ source, data }) => {
    if (!section.isConnected) removeEventListener("message", hear);
    else if (source !== frame.contentWindow) return;
    else if (data?.ready === true) ask();
    else if (data?.id === asked) tell(data);
  };

  addEventListener("message", hear);
  [text, sample].forEach((each) => each.addEventListener("input", later));
  converter.addEventListener("htmx:afterSwap", later);
  frame.src = `${screens}preview.html`;
};
