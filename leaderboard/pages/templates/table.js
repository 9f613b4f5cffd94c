"use strict";
// What every page with data shares. Text of users reaches the page as text nodes only, never as markup.
const Board = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function node(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  const missing = (value) => value === null || value === undefined || value === "";
  const fixed = (value, digits = 3, factor = 1) =>
    missing(value) ? "–" : (factor * value).toFixed(digits).replace("-", "−").replace(/^−(0\.?0*)$/, "$1");
  const ends = (low, high, digits = 3, factor = 1) =>
    missing(low) ? "" : `${fixed(low, digits, factor)} to ${fixed(high, digits, factor)}`;
  const millions = (value) => (missing(value) ? "–" : `${(value / 1e6).toFixed(1)} M`);
  const isId = (value) => /^[0-9a-f]{64}$/.test(value);

  // A data file is a script, so that the pages work from disk too, where nothing may be fetched.
  const asked = new Map();
  function load(address) {
    if (!asked.has(address)) asked.set(address, new Promise((resolve, reject) => {
      const script = node("script", { src: address });
      script.addEventListener("load", () => resolve());
      script.addEventListener("error", () => { asked.delete(address); reject(new Error(address)); });
      document.head.append(script);
    }));
    return asked.get(address);
  }
  async function table(version) {
    if (!window.boardTables?.[version]) await load(`data/table-${version}.js`);
    const { columns, rows } = window.boardTables[version];
    return rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
  }

  function kinTitle(row) { return `Related to models that chose the images: ${row.kin}`; }
  function marks(row) {
    const mark = (text, kind, title) => node("span", { class: `mark ${kind}`, ...(title ? { title } : {}) }, node("bdi", {}, text));
    return [
      ...(row.verified === 1 ? [mark("verified", "good", "Some images were run again and agreed")] : []),
      ...(row.verified === -1 ? [mark("not confirmed", "bad", "Some images were run again and did not agree")] : []),
      ...(row.kin ? [mark("related model", "warn", kinTitle(row))] : []),
      ...(row.mitigation ? [mark(row.mitigation, "", `Mitigation: ${row.mitigation}`)] : []),
    ];
  }
  return { node, svg, missing, fixed, ends, millions, isId, load, table, marks };
})();

// Tables that stand in the page sort by their columns; a missing value is last whichever way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const rising = now === null ? head.dataset.first === "ascending" : now === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.every((row) => value(row, column) === "" || !Number.isNaN(Number(value(row, column))));
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return rising ? compare(x, y) : compare(y, x);
    });
    table.tBodies[0].append(...rows);
  }));
}
