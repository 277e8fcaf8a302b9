// Draws nothing and computes nothing: labelled native controls, and the SVG that Python drew.
// A control changes or a cell is picked -> `values` goes to Python -> Python answers with `svg`.
// Where Python has drawn a position beforehand (`frames`), no kernel is needed to show it. A page
// that has none (`launch` says where there is one) keeps to those positions, and says so.

// JupyterLab takes arrow keys and letters for commands of its own; Ctrl+S and the like it may have.
function keep(event) {
  if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
}

function build(spec, id) {
  const input = document.createElement(spec.options ? "select" : "input");
  if (spec.options) {
    for (const option of spec.options) input.add(new Option(option, option));
  } else if (spec.check) {
    input.type = "checkbox";
  } else {
    input.type = "range";
    Object.assign(input, { min: spec.min, max: spec.max, step: spec.step });
  }
  input.id = id;
  input.addEventListener("keydown", keep);
  return input;
}

// Arrow keys go to the nearest cell in their direction, within the same view.
function neighbour(from, key) {
  const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  const middle = (one) => {
    const box = one.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const one of from.closest("svg").querySelectorAll("[data-pick]")) {
    const [u, v] = middle(one);
    const along = (u - x) * dx + (v - y) * dy, aside = Math.abs((u - x) * dy + (v - y) * dx);
    if (along > 1 && along + 4 * aside < least) [best, least] = [one, along + 4 * aside];
  }
  return best;
}

// The one cell of its view that the Tab key stops at.
function stop(cell) {
  for (const one of cell.closest("svg").querySelectorAll('[tabindex="0"]')) one.setAttribute("tabindex", "-1");
  cell.setAttribute("tabindex", "0");
}

const LOST =
  "The kernel has not answered yet. If a cell is still running, wait for it. If the kernel was " +
  "restarted or shut down, click this panel's cell, choose Run → Run All Above Selected Cell, and " +
  "then run the cell itself.";

export default {
  render({ model, el }) {
    el.classList.add("vl-panel");
    const bar = document.createElement("div");
    bar.className = "vl-controls";
    const stage = document.createElement("div");
    stage.className = "vl-stage";
    const words = document.createElement("p");
    words.className = "vl-words";
    words.setAttribute("role", "status");
    el.append(bar, stage, words);

    const inputs = {};
    const shown = {};
    const launch = model.get("launch");
    const names = () => Object.keys(model.get("values")).sort();
    // Does a frame differ from what is shown in the value of this name?
    const reachable = (name) => {
      const place = names().indexOf(name);
      const now = String(model.get("values")[name]);
      return !launch || Object.keys(model.get("frames")).some((key) => key.split("|")[place] !== now);
    };
    // Nothing tells a panel that its kernel was restarted, or is busy: what fails to come does.
    let timer;
    const lost = document.createElement("p");
    lost.className = "vl-lost";
    lost.setAttribute("role", "status");
    el.append(lost);
    const change = (changed) => {
      const asked = model.get("asked") + 1;
      model.set("asked", asked);
      model.set("values", { ...model.get("values"), ...changed });
      model.save_changes();
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (model.get("heard") < asked && !frame() && !launch) lost.textContent = LOST;
      }, 3000);
    };
    model.on("change:heard", () => {
      clearTimeout(timer);
      lost.textContent = "";
    });
    for (const spec of model.get("controls")) {
      const id = `vl-${Math.random().toString(36).slice(2)}`;
      const input = (inputs[spec.name] = build(spec, id));
      const label = document.createElement("label");
      label.htmlFor = id;
      label.textContent = spec.label;
      const output = (shown[spec.name] = document.createElement("output"));
      output.htmlFor = id;
      if (!spec.unit) output.className = "vl-bare";
      if (spec.options || spec.check) output.hidden = true;
      input.addEventListener("input", () => {
        const value = spec.options ? input.value : spec.check ? input.checked : Number(input.value);
        // A slider moves on from the cell that was picked; a choice keeps it.
        const picked = !spec.options && "pick" in model.get("values") ? { pick: "" } : {};
        change({ [spec.name]: value, ...picked });
      });
      const group = document.createElement("div");
      if (spec.small) group.className = "vl-small";
      if (spec.check) group.append(input, label);
      else group.append(label, input, output);
      bar.append(group);
    }

    const dead = model.get("controls").filter((spec) => !reachable(spec.name));
    if (dead.length) {
      const note = document.createElement("p");
      note.className = "vl-words";
      const which = dead.length < Object.keys(inputs).length ? "The greyed controls" : "These controls";
      const picks = "pick" in model.get("values") && !reachable("pick") ? ", and picking a cell," : "";
      note.append(`${which}${picks} need a running kernel: `);
      const link = note.appendChild(document.createElement("a"));
      Object.assign(link, { href: launch, textContent: "launch on Binder" });
      bar.after(note);
    }

    let drawn = null;
    const show = (svg, text) => {
      const invites = model.get("values").pick === "" && reachable("pick");
      words.textContent = invites ? `${text} ${model.get("invite")}`.trim() : text;
      if (svg === drawn) return;
      const views = () => [...stage.querySelectorAll("svg")];
      const focused = stage.contains(document.activeElement) ? document.activeElement : null;
      const view = focused && views().indexOf(focused.closest("svg"));
      stage.innerHTML = drawn = svg;
      // A cell that cannot answer must not look as if it could.
      if (!reachable("pick")) {
        for (const hint of stage.querySelectorAll(".hint")) hint.remove();
        for (const cell of stage.querySelectorAll("[data-pick]"))
          for (const name of ["data-pick", "role", "aria-label", "aria-pressed", "tabindex"]) cell.removeAttribute(name);
      }
      // One stop for the Tab key in each view: the chosen cell, or else the first.
      for (const one of views()) {
        const cell = one.querySelector('[aria-pressed="true"]') ?? one.querySelector("[data-pick]");
        if (cell) stop(cell);
      }
      // The nodes are new: the focus goes to the same cell of the same view.
      const again = focused && views()[view]?.querySelector(`[data-pick="${focused.dataset.pick}"]`);
      if (again) {
        stop(again);
        again.focus();
      }
    };
    const pick = (cell) => {
      change({ pick: cell.dataset.pick });
      // A switch is pressed, not chosen: the next message must not press it again.
      if ("toggle" in cell.dataset) model.set("values", { ...model.get("values"), pick: "" });
    };
    stage.addEventListener("click", (event) => {
      const cell = event.target.closest("[data-pick]");
      if (!cell) return;
      cell.focus();
      pick(cell);
    });
    stage.addEventListener("keydown", (event) => {
      keep(event);
      const cell = event.target.closest("[data-pick]");
      if (!cell) return;
      const arrow = event.key.startsWith("Arrow");
      if (!arrow && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const next = arrow ? neighbour(cell, event.key) : cell;
      if (!next) return;
      next.focus();
      // A cell that is switched on and off must not be switched by walking over it.
      if (arrow && "toggle" in next.dataset) stop(next);
      else pick(next);
    });
    const follow = () => {
      const values = model.get("values");
      for (const spec of model.get("controls")) {
        const input = inputs[spec.name];
        input.disabled = Boolean(spec.off) || !reachable(spec.name);
        if (spec.check) input.checked = values[spec.name];
        else input.value = values[spec.name];
        if (spec.options || spec.check) continue;
        // The ends may move with the values, and an input keeps no value beyond them.
        Object.assign(input, { min: spec.min, max: spec.max, value: values[spec.name] });
        shown[spec.name].textContent = `${values[spec.name]} ${spec.unit}`;
      }
      if (frame()) redraw();
    };
    // A frame goes before `svg`: a late answer to an earlier position must not replace it. Where
    // there is none, the picture stays until Python has drawn another.
    const frame = () => model.get("frames")[names().map((name) => model.get("values")[name]).join("|")];
    const redraw = () => show(...(frame() ?? [model.get("svg"), model.get("words")]));
    // A picture too wide for its place is scrolled by keys too.
    new ResizeObserver(() => {
      const wide = stage.scrollWidth > stage.clientWidth && !stage.querySelector('[tabindex="0"]');
      if (wide) stage.tabIndex = 0;
      else stage.removeAttribute("tabindex");
    }).observe(stage);
    model.on("change:values", follow);
    model.on("change:controls", follow);
    model.on("change:svg", redraw);
    model.on("change:words", redraw);
    follow();
    redraw();
  },
};
