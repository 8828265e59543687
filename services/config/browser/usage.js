// Tells config which screens are used how often: names of a closed list, and nothing else of the page.
const SCREENS = new URL("./", import.meta.url).href;
const USAGE = new URL("../api/v1/usage", SCREENS).href;
const EVERY_MS = 60_000;
const MOST = 1_000;
const FEATURES = ["datasources", "queries", "converters", "templates", "your-data"];

let counts = new Map();

const count = (feature) => counts.set(feature, Math.min(MOST, (counts.get(feature) ?? 0) + 1));

const tell = async () => {
  if (counts.size === 0) return;
  const uses = [...counts].map(([feature, number]) => ({ feature, uses: number }));
  counts = new Map();
  try {
    await fetch(USAGE, {
      method: "POST",
      // Also while the page goes away.
      keepalive: true,
      headers: {
        Authorization: `Bearer ${await window.keepword.session()}`,
        "Content-Type": "application/json",
      },
      body: JSON.stringify({ batch_id: crypto.randomUUID(), uses }),
    });
  } catch {
    // Statistics are worth no second try, and no word to whoever works here.
  }
};

document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
  const area = target.id === "screen" && target.querySelector("article")?.dataset.area;
  if (FEATURES.includes(area)) count(area);
});

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-export]") !== null) count("export");
  if (target.closest("[data-import]") !== null) count("import");
});

setInterval(tell, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) tell();
});
