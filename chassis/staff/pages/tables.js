// Lets people sort a table by a column, keep the rows with some words, and take them along as CSV.
// Without it, a table is as the service made it. CSV only where it says that no person is named.

const FEWEST_ROWS = 2;
// What a spreadsheet would run as a formula is written as the text that it is.
const FORMULA = /^[=+\-@\t\r]/;

prepareAll();
// A page that keeps itself fresh puts new tables in the place of old ones.
new MutationObserver(prepareAll).observe(document.querySelector("main"), {
  childList: true,
  subtree: true,
});

function prepareAll() {
  for (const table of document.querySelectorAll("table[data-tools]:not([data-prepared])")) {
    table.dataset.prepared = "";
    if (table.tBodies[0].rows.length >= FEWEST_ROWS) prepare(table);
  }
}

// By which the keyboard's place is found again when a table is replaced.
function idOf(table, part) {
  return `${table.dataset.name}-${part}`.replaceAll(/\s+/g, "-");
}

// Whoever keeps the page fresh hears that what somebody has arranged is not to be replaced.
function use(table) {
  table.dispatchEvent(new CustomEvent("tables:used", { bubbles: true }));
}

function prepare(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => addSorting(table, heads, head, column));
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(filterOf(table));
  if (table.dataset.tools === "csv") tools.append(csvOf(table, heads));
  (table.closest(".scroll") ?? table).before(tools);
}

function addSorting(table, heads, head, column) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  button.id = idOf(table, `sort-${column}`);
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    use(table);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows]
      .map((row) => ({ row, text: textOf(row.cells[column]) }))
      .sort((a, b) => a.text.localeCompare(b.text, "en", { numeric: true }))
      .map(({ row }) => row);
    body.append(...(up ? rows : rows.reverse()));
  });
}

function textOf(cell) {
  return cell.innerText.trim().replace(/\s+/g, " ");
}

function filterOf(table) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const said = document.createElement("span");
  input.type = "search";
  input.autocomplete = "off";
  input.id = idOf(table, "filter");
  said.setAttribute("role", "status");
  label.append("Only rows with", input);
  input.addEventListener("input", () => {
    use(table);
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
  const both = document.createElement("div");
  both.append(label, said);
  return both;
}

function csvOf(table, heads) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "These rows as CSV";
  button.id = idOf(table, "csv");
  button.addEventListener("click", () => {
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const lines = [heads.map(textOf), ...rows.map((row) => [...row.cells].map(textOf))];
    const text = lines.map((line) => line.map(quoted).join(",")).join("\r\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
    link.download = `${table.dataset.name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  return button;
}

// RFC 4180.
function quoted(text) {
  const plain = FORMULA.test(text) ? `'${text}` : text;
  return `"${plain.replaceAll('"', '""')}"`;
}
