// Draws nothing and computes nothing: labelled native controls, and the SVG that Python drew.
// A control changes or a cell is picked -> `values` goes to Python -> Python answers with `svg`.
// Where Python has drawn a position beforehand (`frames`), no kernel is needed to show it. A page
// that has none (`launch` says where there is one) keeps to those positions, and says so.

const LOST =
  "The kernel has not answered yet. If a cell is still running, wait for it. If the kernel was " +
  "restarted or shut down, click this panel's cell, choose Run → Run All Above Selected Cell, and " +
  "then run the cell itself.";
const PATIENCE = 3000; // milliseconds
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

// What a page knows of each kind of control: what it looks like, and how its value is read and set.
const KINDS = {
  slider: {
    make: () => Object.assign(document.createElement("input"), { type: "range" }),
    read: (input) => Number(input.value),
    // The ends may move with the values, and an input keeps no value beyond them.
    set: (input, spec, value) =>
      Object.assign(input, { min: spec.low, max: spec.high, step: spec.step, value }),
  },
  choice: {
    make: (spec) => {
      const select = document.createElement("select");
      for (const option of spec.options) select.add(new Option(option, option));
      return select;
    },
    read: (input) => input.value,
    set: (input, _, value) => Object.assign(input, { value }),
  },
  tick: {
    make: () => Object.assign(document.createElement("input"), { type: "checkbox" }),
    read: (input) => input.checked,
    set: (input, _, checked) => Object.assign(input, { checked }),
  },
};

function add(parent, tag, properties) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

// JupyterLab takes arrow keys and letters for commands of its own; Ctrl+S and the like it may have.
function keep(event) {
  if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
}

// --- What is asked of Python, and what needs no Python ---

class Values {
  constructor(model) {
    this.model = model;
    this.launch = model.get("launch");
    this.controls = model.get("controls").filter((spec) => spec.kind !== "cells");
    this.cells = model.get("controls").find((spec) => spec.kind === "cells");
    this.leaveTour = () => {};
  }

  get(name) {
    return this.model.get("values")[name];
  }

  names() {
    return Object.keys(this.model.get("values")).sort();
  }

  // What Python drew beforehand for these values, if it did.
  frame(values = this.model.get("values")) {
    const key = this.names()
      .map((name) => values[name])
      .join("|");
    return this.model.get("frames")[key];
  }

  // The stops of the tour that can be shown here.
  stops() {
    return this.model.get("tour").filter(([, values]) => !this.launch || this.frame(values));
  }

  // Can the value of this name change here? Without a kernel, only where a frame has another.
  reachable(name) {
    if (!this.launch) return true;
    const place = this.names().indexOf(name);
    const now = String(this.get(name));
    return Object.keys(this.model.get("frames")).some((key) => key.split("|")[place] !== now);
  }

  pickable() {
    return Boolean(this.cells) && this.reachable(this.cells.name);
  }

  change(changed, byTour = false) {
    if (!byTour) this.leaveTour();
    this.model.set("asked", this.model.get("asked") + 1);
    this.model.set("values", { ...this.model.get("values"), ...changed });
    this.model.save_changes();
  }

  pick(cell) {
    this.change({ [this.cells.name]: cell.dataset.pick });
    // A switch is pressed, not chosen: the next message must not press it again.
    if ("toggle" in cell.dataset) this.forget();
  }

  forget() {
    this.model.set("values", { ...this.model.get("values"), [this.cells.name]: "" });
  }
}

// --- Controls ---

function buildControl(values, spec, bar) {
  const id = `vl-${Math.random().toString(36).slice(2)}`;
  const { make, read } = KINDS[spec.kind];
  const group = add(bar, "div", { className: spec.small ? "vl-small" : "" });
  const input = Object.assign(make(spec), { id });
  const label = Object.assign(document.createElement("label"), {
    htmlFor: id,
    textContent: spec.label,
  });
  group.append(...(spec.kind === "tick" ? [input, label] : [label, input]));
  const shown = add(group, "output", { className: spec.unit ? "" : "vl-bare" });
  shown.htmlFor = id;
  shown.hidden = spec.kind !== "slider";
  input.addEventListener("keydown", keep);
  input.addEventListener("input", () => {
    // A slider moves on from the cell that was picked; a choice keeps it.
    const picked = values.cells && spec.kind !== "choice" ? { [values.cells.name]: "" } : {};
    values.change({ [spec.name]: read(input), ...picked });
  });
  return { input, shown };
}

function followControls(values, built) {
  for (const spec of values.model.get("controls")) {
    if (spec.kind === "cells") continue;
    const { input, shown } = built[spec.name];
    const value = values.get(spec.name);
    input.disabled = spec.off || !values.reachable(spec.name);
    KINDS[spec.kind].set(input, spec, value);
    if (spec.kind === "slider") shown.textContent = `${value} ${spec.unit}`;
  }
}

// On a page without a kernel: which controls need one, and where it is found.
function addNote(values, bar) {
  const dead = values.controls.filter((spec) => !values.reachable(spec.name));
  if (!dead.length) return;
  const which = dead.length < values.controls.length ? "The greyed controls" : "These controls";
  const picks = values.cells && !values.pickable() ? ", and picking a cell," : "";
  const note = Object.assign(document.createElement("p"), { className: "vl-words" });
  note.append(`${which}${picks} need a running kernel: `);
  add(note, "a", { href: values.launch, textContent: "launch on Binder" });
  bar.after(note);
}

// The tour moves the controls itself; who moves one leaves it, for its sentence would be untrue.
function addTour(values, bar) {
  const stops = values.stops();
  if (!stops.length) return;
  const tour = document.createElement("div");
  tour.className = "vl-tour";
  const back = add(tour, "button", { type: "button", textContent: "‹ Back" });
  const next = add(tour, "button", { type: "button" });
  const said = add(tour, "p", {});
  said.setAttribute("role", "status");
  let at = -1;
  const leave = () => {
    at = -1;
    back.hidden = true;
    next.textContent = "Guided tour ›";
    said.textContent = "";
  };
  const go = (to) => {
    if (to === stops.length) return leave();
    at = to;
    back.hidden = at === 0;
    next.textContent = at === stops.length - 1 ? "End the tour" : "Next ›";
    said.textContent = `${at + 1} of ${stops.length}. ${stops[at][0]}`;
    values.change(stops[at][1], true);
  };
  back.addEventListener("click", () => go(at - 1));
  next.addEventListener("click", () => go(at + 1));
  tour.addEventListener("keydown", keep);
  values.leaveTour = leave;
  leave();
  bar.before(tour);
}

// Nothing tells a panel that its kernel was restarted, or is busy: what fails to come does.
function watchKernel(values, el) {
  const { model } = values;
  const lost = add(el, "p", { className: "vl-lost" });
  lost.setAttribute("role", "status");
  let timer;
  model.on("change:asked", () => {
    const asked = model.get("asked");
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (model.get("heard") < asked && !values.frame() && !values.launch) lost.textContent = LOST;
    }, PATIENCE);
  });
  model.on("change:heard", () => {
    clearTimeout(timer);
    lost.textContent = "";
  });
}

// --- The picture and its cells ---

// Arrow keys go to the nearest cell in their direction, within the same view.
function neighbour(from, key) {
  const [dx, dy] = ARROWS[key];
  const middle = (cell) => {
    const box = cell.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = middle(from);
  let best = null;
  let least = Infinity;
  for (const cell of from.closest("svg").querySelectorAll("[data-pick]")) {
    const [u, v] = middle(cell);
    const along = (u - x) * dx + (v - y) * dy;
    const far = along + 4 * Math.abs((u - x) * dy + (v - y) * dx);
    if (along > 1 && far < least) [best, least] = [cell, far];
  }
  return best;
}

// Make this the one cell of its view that the Tab key stops at.
function stopAt(cell) {
  for (const other of cell.closest("svg").querySelectorAll('[tabindex="0"]'))
    other.setAttribute("tabindex", "-1");
  cell.setAttribute("tabindex", "0");
}

// A cell that cannot answer must not look as if it could.
function silence(stage) {
  for (const hint of stage.querySelectorAll(".hint")) hint.remove();
  for (const cell of stage.querySelectorAll("[data-pick]"))
    for (const name of ["data-pick", "role", "aria-label", "aria-pressed", "tabindex"])
      cell.removeAttribute(name);
}

// Put in new nodes; the focus goes to the same cell of the same view.
function replace(stage, svg, pickable) {
  const views = () => [...stage.querySelectorAll("svg")];
  const focused = stage.contains(document.activeElement) ? document.activeElement : null;
  const view = focused && views().indexOf(focused.closest("svg"));
  stage.innerHTML = svg;
  if (!pickable) silence(stage);
  for (const picture of views()) {
    const cell =
      picture.querySelector('[aria-pressed="true"]') ?? picture.querySelector("[data-pick]");
    if (cell) stopAt(cell);
  }
  const again = focused && views()[view]?.querySelector(`[data-pick="${focused.dataset.pick}"]`);
  if (!again) return;
  stopAt(again);
  again.focus();
}

// Walk to another cell, or press this one.
function press(values, cell, key) {
  const arrow = key in ARROWS;
  const next = arrow ? neighbour(cell, key) : cell;
  if (!next) return;
  next.focus();
  // A cell that is switched on and off must not be switched by walking over it.
  if (arrow && "toggle" in next.dataset) stopAt(next);
  else values.pick(next);
}

function listenToCells(values, stage) {
  const cellOf = (event) => event.target.closest("[data-pick]");
  stage.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell) press(values, cell, "Enter");
  });
  stage.addEventListener("keydown", (event) => {
    keep(event);
    const cell = cellOf(event);
    if (!cell || !(event.key in ARROWS || ["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    press(values, cell, event.key);
  });
}

// A picture too wide for its place is scrolled by keys too.
function scrollByKeys(stage) {
  new ResizeObserver(() => {
    const wide = stage.scrollWidth > stage.clientWidth && !stage.querySelector('[tabindex="0"]');
    if (wide) stage.tabIndex = 0;
    else stage.removeAttribute("tabindex");
  }).observe(stage);
}

function render({ model, el }) {
  el.classList.add("vl-panel");
  const values = new Values(model);
  const bar = add(el, "div", { className: "vl-controls" });
  const stage = add(el, "div", { className: "vl-stage" });
  const words = add(el, "p", { className: "vl-words" });
  words.setAttribute("role", "status");
  const built = Object.fromEntries(
    values.controls.map((spec) => [spec.name, buildControl(values, spec, bar)]),
  );
  addNote(values, bar);
  addTour(values, bar);
  watchKernel(values, el);
  listenToCells(values, stage);
  scrollByKeys(stage);

  let drawn = null;
  // A frame goes before `svg`: a late answer to an earlier position must not replace it. Where
  // there is none, the picture stays until Python has drawn another.
  const redraw = () => {
    const [svg, text] = values.frame() ?? [model.get("svg"), model.get("words")];
    const invites = values.pickable() && values.get(values.cells.name) === "";
    words.textContent = invites ? `${text} ${values.cells.invite}`.trim() : text;
    if (svg === drawn) return;
    drawn = svg;
    replace(stage, svg, values.pickable());
  };
  const follow = () => {
    followControls(values, built);
    if (values.frame()) redraw();
  };
  for (const name of ["values", "controls"]) model.on(`change:${name}`, follow);
  for (const name of ["svg", "words"]) model.on(`change:${name}`, redraw);
  follow();
  redraw();
}

export default { render };
