// The panel in which a labeler judges items by keyboard. Plain JavaScript on the React that the App provides; all that
// it knows comes from the plugin's operators, which write every answer to the labeler's journal before they reply.
(() => {
  const { createElement: h, Fragment, useEffect, useRef, useState } = window.React;
  const KEYS = { y: ["answer", "yes"], n: ["answer", "no"], u: ["answer", "unclear"], z: ["undo"], Backspace: ["undo"],
    j: ["go", 1], ArrowRight: ["go", 1], k: ["go", -1], ArrowLeft: ["go", -1], b: ["enlarge"], r: ["again"], Escape: ["close"] };
  const COLOURS = { yes: "#3fb950", no: "#f0705f", unclear: "#d9a520" };

  // The filters beside the grid and the advertisement over it would cover a third of the screen.
  localStorage.setItem("sidebarVisible-modal-false", "false");
  localStorage.setItem("fiftyone-enterprise-tooltip-seen", "true");

  const media = (path) => `/media?filepath=${encodeURIComponent(path)}`;

  async function run(operator, params) {
    const response = await fetch("/operators/execute", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ operator_uri: `@spurious-imagenet/review/${operator}`, params }),
    });
    const reply = await response.json().catch(() => ({}));
    if (!response.ok || reply.error) throw new Error(reply.error_message || lastLine(reply.error) || response.statusText);
    return reply.result;
  }

  const lastLine = (text) => (text || "").trim().split("\n").pop();

  // One key after the other: each acts on what the one before it brought to the screen, however fast they are typed.
  function useReview() {
    const [state, setState] = useState(null);
    const [error, setError] = useState(null);
    const [large, setLarge] = useState(false);
    const [again, setAgain] = useState(null); // a judged item that is to be judged anew: never by one key too many
    const mayAnswer = useRef(() => true);
    mayAnswer.current = ({ outcome, item }) => !outcome || again === item.item_id;
    const now = useRef(null);
    const queue = useRef(Promise.resolve());
    const show = (next) => {
      now.current = next;
      setState(next);
      setError(null);
      (next.preload || []).forEach((path) => { new Image().src = media(path); });
    };
    const act = (operator, value) => {
      if (operator === "enlarge") return setLarge((open) => !open);
      if (operator === "close") return setLarge(false);
      if (operator === "again") return setAgain(now.current && now.current.item && now.current.item.item_id);
      const step = async () => {
        const { item, current } = now.current || {};
        if (operator !== "state" && !item) return;
        if (operator === "answer" && !mayAnswer.current(now.current)) return;
        const params = { item_id: item && item.item_id };
        if (operator === "answer") Object.assign(params, { question: current, answer: value });
        if (operator === "go") params.step = value;
        const next = await run(operator, params);
        if (operator !== "answer" || next.item.item_id !== item.item_id) setLarge(false);
        setAgain(null);
        show(next);
      };
      queue.current = queue.current.then(step).catch((problem) => setError(problem.message));
    };
    useEffect(() => act("state"), []);
    return { state, error, large, again, act };
  }

  // In the capture phase, and no further: the App has meanings of its own for some of these keys.
  function useKeys(act) {
    useEffect(() => {
      const onKey = (event) => {
        const typing = event.target.closest && event.target.closest("input, textarea, [contenteditable=true]");
        const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
        if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !KEYS[key]) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        act(...KEYS[key]);
      };
      window.addEventListener("keydown", onKey, true);
      return () => window.removeEventListener("keydown", onKey, true);
    }, []);
  }

  const css = (strings) => strings.join("");
  const STYLE = css`
    .sr { height: 100%; display: flex; flex-direction: column; gap: 10px; padding: 12px 16px; box-sizing: border-box;
      font: 14px/1.4 system-ui, sans-serif; color: var(--fo-palette-text-primary, #eee); overflow: hidden; }
    .sr * { box-sizing: border-box; }
    .sr .top { display: flex; align-items: baseline; gap: 14px; }
    .sr .name { font-size: 20px; font-weight: 650; }
    .sr .dim { color: var(--fo-palette-text-secondary, #aaa); }
    .sr .push { margin-left: auto; white-space: nowrap; font-variant-numeric: tabular-nums; }
    .sr .bar { height: 4px; border-radius: 2px; background: #8884; flex: none; }
    .sr .bar > div { height: 100%; border-radius: 2px; background: #4c9aff; transition: width .15s; }
    .sr .stage { flex: 1; min-height: 0; display: flex; gap: 14px; }
    .sr .main { flex: 1; min-width: 0; display: flex; align-items: center; justify-content: center; border-radius: 8px;
      background: #0006; overflow: hidden; cursor: zoom-in; }
    .sr .main img { width: 100%; height: 100%; object-fit: contain; }
    .sr .side { width: 34%; max-width: 430px; min-height: 0; display: flex; flex-direction: column; gap: 8px; }
    .sr .side h4 { margin: 0; font-size: 12px; font-weight: 600; }
    .sr .refs { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; }
    .sr .refs img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 5px; }
    .sr .board { flex: 1; min-height: 0; cursor: zoom-in; border: 0; padding: 0; background: #0004; border-radius: 6px; }
    .sr .board img { width: 100%; height: 100%; object-fit: contain; }
    .sr .large { position: fixed; inset: 0; z-index: 10000; background: #000e; padding: 12px; cursor: zoom-out; }
    .sr .large img { width: 100%; height: 100%; object-fit: contain; }
    .sr .ask { flex: none; display: flex; flex-direction: column; gap: 8px; }
    .sr .question { display: flex; gap: 10px; align-items: baseline; padding: 7px 12px; border-radius: 8px;
      border: 1px solid #8883; opacity: .62; }
    .sr .question.now { opacity: 1; border-color: #4c9aff; background: #4c9aff1c; }
    .sr .question.now .text { font-size: 17px; font-weight: 600; }
    .sr .given { margin-left: auto; font-weight: 650; }
    .sr .help { font-size: 13px; padding: 3px 0 0; }
    .sr .keys { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
    .sr .keys button { font: inherit; color: inherit; background: #8882; border: 1px solid #8885; border-radius: 7px;
      padding: 6px 14px 6px 8px; cursor: pointer; }
    .sr .keys button.small { padding: 3px 9px 3px 5px; font-size: 12px; border-color: #8883; background: none; }
    .sr kbd { font: 600 12px ui-monospace, monospace; padding: 1px 6px; margin-right: 7px; border-radius: 4px;
      border: 1px solid #8887; background: #8882; }
    .sr .error { flex: none; padding: 8px 12px; border-radius: 8px; background: #8b1a1a; color: #fff; }
    .sr .done { flex: none; padding: 8px 12px; border-radius: 8px; background: #1f6f3a; color: #fff; }`;

  const image = (path, alt) => h("img", { key: path, src: media(path), alt, draggable: false });

  const Button = ({ name, label, colour, small, onClick }) =>
    // Without focus of its own, so that no key presses it a second time.
    h("button", { onClick, onMouseDown: (e) => e.preventDefault(), tabIndex: -1, className: small ? "small" : "",
      style: colour && { borderColor: colour } }, h("kbd", null, name), label);

  const Header = ({ state }) => {
    const pace = state.per_minute ? ` · ${Math.round(state.per_minute)} a minute` : "";
    return h(Fragment, null,
      h("div", { className: "top" },
        h("span", { className: "name" }, state.item.class_name),
        state.item.component != null && h("span", { className: "dim" }, `component ${state.item.component}`),
        h("span", { className: "push dim" }, `item ${state.position} · ${state.done} of ${state.total} judged${pace}`)),
      h("div", { className: "bar" }, h("div", { style: { width: `${(100 * state.done) / state.total}%` } })));
  };

  const References = ({ item }) => item.references.length > 0 && h(Fragment, null,
    h("h4", { className: "dim" }, `Images of the class “${item.class_name}”`),
    h("div", { className: "refs" }, item.references.map((path) => image(path, item.class_name))));

  // Where the item is itself a board, the questions stand beside it: it needs the height.
  const Stage = ({ item, act, children }) => h("div", { className: "stage" },
    h("div", { className: "main", "data-item": item.item_id, onClick: () => act("enlarge") }, image(item.media, "the item to judge")),
    h("div", { className: "side" },
      h(References, { item }),
      item.board && h("h4", { className: "dim" }, "The cue: what the component looks at"),
      item.board && h("button", { className: "board", tabIndex: -1, onClick: () => act("enlarge") }, image(item.board, "the cue's board")),
      children));

  const Question = ({ question, now }) => h("div", { className: now ? "question now" : "question" },
    h("div", null,
      h("div", { className: "text" }, question.text),
      now && question.help && h("div", { className: "help dim" }, question.help)),
    question.answer && h("span", { className: "given", style: { color: COLOURS[question.answer] } }, question.answer));

  const Questions = ({ state, open }) => h("div", { className: "ask" },
    state.questions.map((q) => h(Question, { key: q.id, question: q, now: open && q.id === state.current })));

  const Keys = ({ state, open, act }) => h("div", { className: "keys" },
    open ? h(Fragment, null,
      h(Button, { name: "Y", label: "yes", colour: COLOURS.yes, onClick: () => act("answer", "yes") }),
      h(Button, { name: "N", label: "no", colour: COLOURS.no, onClick: () => act("answer", "no") }),
      h(Button, { name: "U", label: "unclear", colour: COLOURS.unclear, onClick: () => act("answer", "unclear") }))
      : h(Fragment, null,
        h("span", null, "Your verdict: ", h("b", null, state.outcome)),
        h(Button, { name: "R", label: "judge again", onClick: () => act("again") })),
    h("span", { className: "push" }),
    state.can_undo && h(Button, { name: "Z", label: "undo", small: true, onClick: () => act("undo") }),
    h(Button, { name: "K", label: "back", small: true, onClick: () => act("go", -1) }),
    h(Button, { name: "J", label: "next", small: true, onClick: () => act("go", 1) }),
    h(Button, { name: "B", label: "enlarge the board", small: true, onClick: () => act("enlarge") }));

  function Panel() {
    const { state, error, large, again, act } = useReview();
    useKeys(act);
    const problem = error && h("div", { className: "error", role: "alert" }, `Not saved: ${error}`);
    const item = state && state.item;
    if (!item)
      return h("div", { className: "sr" }, h("style", null, STYLE), problem || (state ? "Nothing to judge here." : "Loading …"));
    const open = !state.outcome || again === item.item_id;
    const questions = h(Questions, { state, open });
    return h("div", { className: "sr", "data-done": state.done },
      h("style", null, STYLE),
      h(Header, { state }),
      problem,
      state.done === state.total
        && h("div", { className: "done" }, "All items are judged. Thank you. You can still look back, undo or close the page."),
      h(Stage, { item, act }, !item.board && questions),
      item.board && questions,
      h(Keys, { state, open, act }),
      large && h("div", { className: "large", onClick: () => act("enlarge") }, image(item.board || item.media, "the board")));
  }

  const { registerComponent, PluginComponentType } = window.__fop__;
  registerComponent({ name: "SpuriousReview", label: "Review", component: Panel, type: PluginComponentType.Panel,
    activator: () => true, panelOptions: { allowDuplicates: false, surfaces: "grid" } });
})();
