// The options of a question. What was picked goes to Python as `picked`; what came out comes back
// as `came`. It works without a kernel too, and then has only the first half to say.

function keep(event) {
  // JupyterLab takes arrow keys and letters for commands of its own.
  if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
}

const listed = (options) => options.join(", ") || "none of them";

export default {
  render({ model, el }) {
    el.classList.add("vl-ask");
    const several = model.get("several");
    const set = el.appendChild(document.createElement("fieldset"));
    set.className = "vl-choice";
    const legend = set.appendChild(document.createElement("legend"));
    legend.textContent = several ? "Your prediction (several may be right)" : "Your prediction";
    const group = `vl-${Math.random().toString(36).slice(2)}`;
    const inputs = model.get("options").map((option, number) => {
      const row = set.appendChild(document.createElement("div"));
      const input = row.appendChild(document.createElement("input"));
      const label = row.appendChild(document.createElement("label"));
      Object.assign(input, { type: several ? "checkbox" : "radio", name: group, value: option });
      label.htmlFor = input.id = `${group}-${number}`;
      label.textContent = option;
      input.addEventListener("keydown", keep);
      input.addEventListener("change", () => pick(inputs.filter((one) => one.checked)));
      return input;
    });
    const words = el.appendChild(document.createElement("p"));
    words.className = "vl-words";
    words.setAttribute("role", "status");
    let none;
    if (several) {
      none = set.appendChild(document.createElement("button"));
      none.type = "button";
      none.textContent = "None of them";
      none.addEventListener("click", () => pick([]));
    }
    const pick = (chosen) => {
      model.set("made", true);
      model.set("picked", chosen.map((one) => one.value));
      model.save_changes();
    };
    const follow = () => {
      const picked = model.get("picked"), came = model.get("came"), made = model.get("made");
      for (const input of inputs) input.checked = picked.includes(input.value);
      if (none) none.setAttribute("aria-pressed", String(made && !picked.length));
      const right = came && came.length === picked.length && came.every((one) => picked.includes(one));
      words.textContent = !made
        ? "Pick before you run the next cell."
        : !came
          ? `You picked: ${listed(picked)}.`
          : right
            ? `✓ As you predicted: ${listed(came)}.`
            : `You predicted: ${listed(picked)}. Result: ${listed(came)}.`;
    };
    for (const name of ["picked", "made", "came"]) model.on(`change:${name}`, follow);
    follow();
  },
};
