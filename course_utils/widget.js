// Draws nothing and computes nothing: labelled native controls, and the SVG that Python drew.
// A range, a choice or a switch changes -> `values` goes to Python -> Python answers with `svg`.
// Where Python has drawn every position beforehand (`frames`), no kernel is needed to show one.
function build(spec, id) {
  const input = document.createElement(spec.options ? "select" : "input");
  if (spec.options) {
    for (const option of spec.options) input.add(new Option(option, option));
  } else {
    input.type = "range";
    Object.assign(input, { min: spec.min, max: spec.max, step: spec.step });
  }
  input.id = id;
  // JupyterLab takes the arrow keys from inputs that do not ask for them.
  input.dataset.lmSuppressShortcuts = "true";
  return input;
}

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
    for (const spec of model.get("controls")) {
      const id = `vl-${crypto.randomUUID()}`;
      const input = (inputs[spec.name] = build(spec, id));
      const label = document.createElement("label");
      label.htmlFor = id;
      label.textContent = spec.label;
      const output = (shown[spec.name] = document.createElement("output"));
      output.htmlFor = id;
      input.addEventListener("input", () => {
        const value = spec.options ? input.value : Number(input.value);
        model.set("values", { ...model.get("values"), [spec.name]: value });
        model.save_changes();
      });
      const group = document.createElement("div");
      group.append(label, input, output);
      bar.append(group);
    }

    let drawn = null;
    const show = (svg, text) => {
      if (svg !== drawn) stage.innerHTML = drawn = svg;
      words.textContent = text;
    };
    const follow = () => {
      const values = model.get("values");
      for (const spec of model.get("controls")) {
        inputs[spec.name].value = values[spec.name];
        shown[spec.name].textContent = spec.options ? "" : `${values[spec.name]} ${spec.unit}`;
      }
      redraw();
    };
    // A frame goes before `svg`: a late answer to an earlier position must not replace it.
    const redraw = () => {
      const frame = model.get("frames")[Object.values(model.get("values")).join("|")];
      show(...(frame ?? [model.get("svg"), model.get("words")]));
    };
    model.on("change:values", follow);
    model.on("change:svg", redraw);
    model.on("change:words", redraw);
    follow();
  },
};
