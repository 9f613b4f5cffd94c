"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const rows = [...document.querySelectorAll("[data-item]")];
  const search = one("input[type=search]");
  const help = one("dialog");
  const perPage = 50;
  let matching = rows, page = 0, here = -1;

  const words = (text) => text.normalize("NFKD").toLowerCase();

  function mark(place, scroll) {
    if (rows.length === 0 || matching.length === 0) return;
    here = Math.max(0, Math.min(place, matching.length - 1));
    if (search && Math.floor(here / perPage) !== page) show(Math.floor(here / perPage));
    rows.forEach((row) => row.classList.toggle("here", row === matching[here]));
    if (scroll) matching[here].scrollIntoView({ block: search ? "nearest" : "start" });
  }

  // The table of classes: search and pages. Elsewhere nothing is ever hidden.
  function show(number) {
    const pages = Math.max(1, Math.ceil(matching.length / perPage));
    page = Math.max(0, Math.min(number, pages - 1));
    const shown = new Set(matching.slice(page * perPage, (page + 1) * perPage));
    rows.forEach((row) => { row.hidden = !shown.has(row); });
    one("#count").textContent = `${matching.length} of ${rows.length} classes`;
    one("#page").textContent = `page ${page + 1} of ${pages}`;
    one("#before").disabled = page === 0;
    one("#after").disabled = page === pages - 1;
    const state = new URLSearchParams();
    if (search.value) state.set("q", search.value);
    if (page) state.set("p", String(page + 1));
    const hash = state.toString();
    if (hash || location.hash) location.replace("#" + hash);
  }

  function find() {
    const wanted = words(search.value).split(/\s+/).filter(Boolean);
    matching = rows.filter((row) => wanted.every((word) => words(row.dataset.item).includes(word)));
    here = -1;
    rows.forEach((row) => row.classList.remove("here"));
  }

  if (search) {
    const state = new URLSearchParams(location.hash.slice(1));
    search.value = state.get("q") || "";
    find();
    show(Number(state.get("p") || 1) - 1);
    if (state.has("search")) search.focus();
    search.addEventListener("input", () => { find(); show(0); });
    one("#before").addEventListener("click", () => show(page - 1));
    one("#after").addEventListener("click", () => show(page + 1));
  } else if (rows.length) {
    const target = rows.findIndex((row) => "#" + row.id === location.hash);
    if (target >= 0) mark(target, true);
  }
  one("#help").addEventListener("click", () => help.showModal());

  const follow = (rel) => { const link = one(`a[rel~=${rel}]`); if (link) location.href = link.href; };
  const turn = (by) => { if (search) show(page + by); else follow(by > 0 ? "next" : "prev"); };
  const step = (by) => { if (rows.length) mark(here < 0 && by < 0 ? 0 : here + by, true); else follow(by > 0 ? "next" : "prev"); };
  const keys = {
    j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
    ArrowRight: () => turn(1), ArrowLeft: () => turn(-1),
    u: () => follow("up"), "?": () => help.showModal(),
    "/": () => { if (search) { search.focus(); search.select(); } else location.href = one("a[rel~=index]").href + "#search=1"; },
    Enter: () => { const link = here >= 0 && matching[here] && matching[here].querySelector("a"); if (link) location.href = link.href; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target === search) {
      if (event.key === "Escape") { search.value = ""; find(); show(0); search.blur(); }
      if (event.key === "Enter") { search.blur(); mark(0, true); }
      if (event.key === "Enter" || event.key === "Escape") event.preventDefault();
      return;
    }
    if (event.key === "Enter" && event.target !== document.body) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
