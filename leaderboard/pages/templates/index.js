"use strict";
(() => {
  const { node, missing, fixed, ends, millions, isId, table, marks } = Board;
  const PER_PAGE = 50;
  const at = (id) => document.getElementById(id);
  const measure = (key, digits = 3, factor = 1) => (row) =>
    [fixed(row[key], digits, factor), node("small", {}, ends(row[`${key}_low`], row[`${key}_high`], digits, factor))];
  const words = (key) => (row) => [row[key] ? node("bdi", {}, row[key]) : "–"];

  // key: where its value is and its name in the address; first: which way a first click sorts; open: shown unless asked otherwise.
  const COLUMNS = [
    { key: "rank", title: "Rank", first: 1, open: true, cells: rank, kind: "rank" },
    { key: "model", title: "Model", first: 1, open: true, fixed: true, cells: model },
    { key: "auc", title: "Spurious AUC", hint: "higher is better", first: -1, open: true, cells: measure("auc") },
    { key: "ap", title: "Spurious AP", hint: "higher is better", first: -1, open: true, cells: measure("ap") },
    { key: "worst", title: "Worst classes, AUC", hint: "higher is better", first: -1, open: true,
      cells: (row) => [fixed(row.worst), node("small", { class: "wrap" }, node("bdi", {}, row.worst_names))] },
    { key: "gap", title: "Spurious gap", hint: "0 is best", first: 1, open: true, cells: measure("gap") },
    { key: "robust", title: "Effective robustness", hint: "higher is better", first: -1, open: true, cells: measure("robust") },
    { key: "acc", title: "Accuracy, %", hint: "higher is better", first: -1, open: true, cells: measure("acc", 1, 100) },
    { key: "without", title: "AUC without a selection model", hint: "those it is related to, or the one that costs most", first: -1, open: true,
      cells: (row) => [fixed(row.without), node("small", { class: "wrap", title: row.without_title }, node("bdi", {}, row.without_who))] },
    { key: "gain", title: "Gain by mitigation, AUC", hint: "higher is better", first: -1, open: false, cells: measure("gain") },
    { key: "protocol", title: "Protocol", first: 1, open: true, cells: words("protocol"), kind: "text" },
    { key: "data", title: "Training data", first: 1, open: true, cells: words("data"), kind: "text" },
    { key: "params", title: "Parameters", first: 1, open: true, cells: (row) => [millions(row.params)] },
    { key: "mitigation", title: "Mitigation", first: 1, open: false, cells: words("mitigation"), kind: "text" },
    { key: "licence", title: "Licence", first: 1, open: false, cells: words("licence"), kind: "text" },
    { key: "received", title: "Received", first: -1, open: false, cells: words("received"), kind: "text" },
  ];

  function rank(row) {
    if (missing(row.rank)) return ["–"];
    if (!row.ties) return [String(row.rank)];
    const title = `Rank ${row.rank} to ${row.worst_rank}: ${row.ties} other ${row.ties === 1 ? "entry" : "entries"} cannot be told apart from it`;
    return [node("span", { title }, `${row.rank}–${row.worst_rank}`), node("small", {}, `${row.ties} ${row.ties === 1 ? "tie" : "ties"}`)];
  }
  function model(row) {
    const box = node("input", { type: "checkbox", "aria-label": `Compare ${row.model}` });
    box.checked = picked.has(row.id);
    box.addEventListener("change", () => { if (box.checked) picked.add(row.id); else picked.delete(row.id); sayPicked(); });
    return [box, " ", node("a", { href: `models/${row.id}.html` }, node("bdi", {}, row.model)),
      node("small", {}, node("bdi", {}, row.authors)), ...marks(row)];
  }

  const DEFAULT_COLUMNS = COLUMNS.filter((c) => c.open).map((c) => c.key);
  const latest = at("version").options[0]?.value ?? "";
  const picked = new Set();
  let rows = [], shown = [], state = {};

  // Everything that is seen is in the address, and only what differs from the first look.
  function read() {
    const query = new URLSearchParams(location.search);
    const get = (name) => (query.get(name) ?? "").slice(0, 200);
    const columns = get("columns").split(",").filter((key) => COLUMNS.some((c) => c.key === key));
    const sort = get("sort").replace(/^-/, "");
    state = {
      q: get("q"), protocol: query.has("protocol") ? get("protocol") : null, data: get("data"), mitigation: get("mitigation"),
      kin: ["yes", "no"].includes(get("kin")) ? get("kin") : "", verified: get("verified") === "1",
      version: [...at("version").options].some((o) => o.value === get("version")) ? get("version") : latest,
      columns: columns.length ? columns : DEFAULT_COLUMNS,
      sort: COLUMNS.some((c) => c.key === sort) ? sort : "rank", way: get("sort").startsWith("-") ? -1 : 1,
      page: Math.max(1, parseInt(get("page"), 10) || 1), measure: get("measure") === "ap" ? "ap" : "auc",
    };
  }
  function write() {
    const query = new URLSearchParams();
    for (const key of ["q", "data", "mitigation", "kin"]) if (state[key]) query.set(key, state[key]);
    if (state.protocol !== usual()) query.set("protocol", state.protocol);
    if (state.verified) query.set("verified", "1");
    if (state.version !== latest) query.set("version", state.version);
    if (state.columns.join() !== DEFAULT_COLUMNS.join()) query.set("columns", state.columns.join());
    if (state.sort !== "rank" || state.way !== 1) query.set("sort", (state.way < 0 ? "-" : "") + state.sort);
    if (state.page > 1) query.set("page", state.page);
    if (state.measure === "ap") query.set("measure", "ap");
    const text = query.toString();
    try { history.replaceState(null, "", text ? `?${text}` : location.pathname); } catch { /* from disk there is no history to write */ }
  }

  // Entries of different protocols have ranks of their own: the first look is at the protocol of most entries.
  let usual = () => "";
  function prepare() {
    const count = {};
    for (const row of rows) {
      count[row.protocol] = (count[row.protocol] ?? 0) + 1;
      row.text = [row.model, row.authors, row.data, row.mitigation, row.licence, row.id].join("\n").toLowerCase();
    }
    const most = Object.keys(count).sort((a, b) => count[b] - count[a] || a.localeCompare(b))[0] ?? "";
    usual = () => most;
    if (state.protocol === null) state.protocol = most;
    choices("protocol", "all", Object.keys(count));
    choices("data", "all", rows.map((row) => row.data));
    choices("mitigation", "all", rows.map((row) => row.mitigation).filter(Boolean), [["-", "none"]]);
    at("version").value = state.version;
  }
  function choices(id, all, values, more = []) {
    const unique = [...new Set(values)].sort((a, b) => a.localeCompare(b));
    const option = (value, text) => { const made = node("option", { value }); made.textContent = text; return made; };
    at(id).replaceChildren(option("", all), ...more.map(([v, t]) => option(v, t)), ...unique.map((v) => option(v, v.length > 60 ? `${v.slice(0, 59)}…` : v)));
    at(id).value = state[id];
    if (at(id).value !== state[id]) { state[id] = ""; at(id).value = ""; }
  }

  function choose() {
    const wanted = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    shown = rows.filter((row) =>
      (!state.protocol || row.protocol === state.protocol) && (!state.data || row.data === state.data)
      && (!state.mitigation || (state.mitigation === "-" ? !row.mitigation : row.mitigation === state.mitigation))
      && (!state.verified || row.verified === 1) && (!state.kin || (state.kin === "yes") === Boolean(row.kin))
      && wanted.every((word) => row.text.includes(word)));
    const { sort, way } = state;
    shown.sort((a, b) => {
      const [x, y] = [a[sort], b[sort]];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
      return way * order || b.auc - a.auc;
    });
  }

  function drawHead() {
    at("head").replaceChildren(node("tr", {}, ...visible().map((column) => {
      const button = node("button", { type: "button" }, column.title);
      button.addEventListener("click", () => {
        state.way = state.sort === column.key ? -state.way : column.first;
        state.sort = column.key; state.page = 1; update(true);
      });
      const head = node("th", { scope: "col", class: column.key === "model" ? "model" : column.kind === "text" ? "left" : "" }, button,
        ...(column.hint ? [node("small", {}, column.hint)] : []));
      if (state.sort === column.key) head.setAttribute("aria-sort", state.way > 0 ? "ascending" : "descending");
      return head;
    })));
  }
  const visible = () => COLUMNS.filter((c) => c.fixed || state.columns.includes(c.key));
  function drawBody() {
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    state.page = Math.min(state.page, pages);
    const first = (state.page - 1) * PER_PAGE, columns = visible();
    at("body").replaceChildren(...shown.slice(first, first + PER_PAGE).map((row) => node("tr", {}, ...columns.map((column) =>
      column.fixed ? node("th", { scope: "row" }, ...column.cells(row)) : node("td", { class: column.kind ?? "" }, ...column.cells(row))))));
    at("where").textContent = shown.length ? `${first + 1} to ${Math.min(first + PER_PAGE, shown.length)} of ${shown.length}` : "";
    at("previous").disabled = state.page <= 1;
    at("next").disabled = state.page >= pages;
    for (const id of ["previous", "next"]) at(id).hidden = pages === 1;
  }
  function sayPicked() {
    const two = [...picked].filter(isId);
    at("compare").hidden = two.length !== 2;
    if (two.length === 2) at("compare").href = `compare.html?a=${two[0]}&b=${two[1]}${state.version === latest ? "" : `&version=${state.version}`}`;
  }
  function update(heads = false) {
    choose();
    if (heads) drawHead();
    drawBody();
    write();
    at("said").textContent = rows.length === 0 ? "There are no entries yet."
      : `${shown.length} of ${rows.length} entries${state.version === latest ? "" : ` on version ${state.version}, which is not the latest`}.`;
    clearTimeout(update.later);
    update.later = setTimeout(() => scatter(shown, state.measure), 120);
    document.documentElement.dataset.ready = "1";
  }
  async function open() {
    try {
      rows = await table(state.version);
    } catch {
      at("said").textContent = `The ranking of version ${state.version} could not be loaded.`;
      return;
    }
    prepare();
    update(true);
  }

  function controls() {
    at("q").value = state.q; at("kin").value = state.kin; at("verified").checked = state.verified;
    document.querySelector(`[name=measure][value=${state.measure}]`).checked = true;
    at("columns").replaceChildren(...COLUMNS.filter((c) => !c.fixed).map((column) => {
      const box = node("input", { type: "checkbox" });
      box.checked = state.columns.includes(column.key);
      box.addEventListener("change", () => {
        const keys = new Set(state.columns);
        if (box.checked) keys.add(column.key); else keys.delete(column.key);
        state.columns = COLUMNS.map((c) => c.key).filter((key) => keys.has(key));
        update(true);
      });
      return node("label", {}, box, ` ${column.title}`);
    }));
  }
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("q").addEventListener("input", () => { state.q = at("q").value; state.page = 1; update(); });
  for (const id of ["protocol", "data", "mitigation", "kin"]) at(id).addEventListener("change", () => { state[id] = at(id).value; state.page = 1; update(); });
  at("verified").addEventListener("change", () => { state.verified = at("verified").checked; state.page = 1; update(); });
  at("version").addEventListener("change", () => { state.version = at("version").value; state.page = 1; open(); });
  at("previous").addEventListener("click", () => { state.page -= 1; update(); });
  at("next").addEventListener("click", () => { state.page += 1; update(); at("filters").scrollIntoView(); });
  at("reset").addEventListener("click", () => { history.replaceState(null, "", location.pathname); read(); controls(); open(); });
  document.addEventListener("click", (event) => { const list = document.querySelector(".columns"); if (!list.contains(event.target)) list.open = false; });
  for (const choice of document.querySelectorAll("[name=measure]")) choice.addEventListener("change", () => { state.measure = choice.value; update(); });
  read(); controls(); open();
})();
