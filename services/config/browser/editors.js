// Editors of code in the place of plain fields: mount(textarea). The field stays, and holds the text.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { html } from "@codemirror/lang-html";
import { javascript } from "@codemirror/lang-javascript";
import { jinja } from "@codemirror/lang-jinja";
import { sql } from "@codemirror/lang-sql";
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

export { watch } from "./previewing.js";

const LANGUAGES = {
  sql: () => sql(),
  javascript: () => javascript(),
  template: () => jinja({ base: html() }),
};

// The colours are those of the page around, in either theme.
const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.tagName, tags.definitionKeyword], color: "var(--link)" },
  { tag: [tags.string, tags.special(tags.string), tags.attributeValue], color: "var(--good)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--warn)" },
  { tag: [tags.comment, tags.meta], color: "var(--quiet)" },
]);

const LOOK = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--surface)", border: "1px solid var(--quiet)", borderRadius: ".25rem" },
  "&.cm-focused": { outline: ".1875rem solid var(--link)", outlineOffset: ".125rem" },
  ".cm-scroller": { fontFamily: "ui-monospace, monospace", lineHeight: "1.5", maxHeight: "28rem", minHeight: "8rem" },
  ".cm-gutters": { color: "var(--quiet)", backgroundColor: "var(--sunken)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--line)" },
  "& > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": { background: "var(--line)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": { background: "var(--line)" },
});

export const mount = (area) => {
  const place = document.createElement("div");
  // In a tree of its own an editor brings its style as a sheet, which the page's policy allows.
  const root = place.attachShadow({ mode: "open" });
  place.dataset.code = "";
  area.after(place);

  const label = area.labels[0];
  const help = document.getElementById(area.getAttribute("aria-describedby"));
  const view = new EditorView({
    doc: area.value,
    parent: root,
    root,
    extensions: [
      lineNumbers(),
      history(),
      drawSelection(),
      indentOnInput(),
      bracketMatching(),
      highlightActiveLine(),
      LANGUAGES[area.dataset.editor](),
      syntaxHighlighting(COLOURS),
      LOOK,
      EditorView.lineWrapping,
      keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
      EditorView.contentAttributes.of({
        "aria-label": label.textContent,
        "aria-description": help?.textContent ?? "",
        "aria-required": "true",
        spellcheck: "false",
      }),
      EditorView.updateListener.of(({ docChanged, state }) => {
        if (!docChanged) return;
        area.value = state.doc.toString();
        area.dispatchEvent(new Event("input", { bubbles: true }));
      }),
    ],
  });
  area.hidden = true;
  place.focus = () => view.focus();
  label.addEventListener("click", () => view.focus());
};
