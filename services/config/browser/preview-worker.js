// Runs a converter and a template once, in a worker that is thrown away afterwards. What it is
// given is the customer's own script: all around it is built so that nothing can be reached from here.
import nunjucks from "nunjucks/browser/nunjucks.js";

const MOST_CHARACTERS = 500_000;
const LONGEST_MESSAGE = 300;

// One expression, or statements that end with `return`.
const compile = (text) => {
  try {
    return new Function("rows", `"use strict"; return (${text}\n);`);
  } catch {
    return new Function("rows", `"use strict";\n${text}`);
  }
};

const failed = (trouble, error) => ({
  trouble,
  message: String(error?.message ?? error)
    .replace("(unknown path)", "")
    .trim()
    .slice(0, LONGEST_MESSAGE),
});

const make = ({ rows, converter, template }) => {
  let given;
  try {
    given = JSON.parse(rows);
  } catch {
    return { trouble: "rows" };
  }
  if (!Array.isArray(given)) return { trouble: "rows" };
  if (converter.trim() !== "") {
    try {
      given = compile(converter)(given);
    } catch (error) {
      return failed("converter", error);
    }
    if (!Array.isArray(given)) return { trouble: "result" };
  }
  try {
    const environment = new nunjucks.Environment([], { autoescape: true });
    const html = environment.renderString(template, { rows: given });
    return html.length > MOST_CHARACTERS ? { trouble: "large" } : { html };
  } catch (error) {
    return failed("template", error);
  }
};

addEventListener("message", ({ data }) => postMessage(make(data)));
