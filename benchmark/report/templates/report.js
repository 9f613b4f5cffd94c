"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // A missing value is last whichever way a column is sorted.
  function sort(table, column, rising) {
    const value = (row) => row.cells[column].dataset.value;
    const rows = all("tbody tr", table);
    const numeric = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return rising ? compare(x, y) : compare(y, x);
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const rising = now === null ? head.dataset.first === "ascending" : now === "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        sort(table, column, rising);
      });
    });
  }

  // A model that is picked in one legend is picked in every figure of its group.
  for (const group of all("section.group")) {
    const buttons = all(".legend button", group);
    buttons.forEach((button) => button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      buttons.filter((other) => other.dataset.model === button.dataset.model)
        .forEach((other) => other.setAttribute("aria-pressed", String(pressed)));
      const picked = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.model));
      group.classList.toggle("picked", picked.size > 0);
      all("figure g[class^=m]", group).forEach((mark) => mark.classList.toggle("on", picked.has(mark.classList[0])));
    }));

    const search = group.querySelector("input[type=search]");
    if (search) search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      all(".classes details", group).forEach((item) => { item.hidden = !item.dataset.name.toLowerCase().includes(wanted); });
    });
  }
})();
