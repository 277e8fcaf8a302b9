"""Make the cheat sheet of masks by running torch: ``python tools/cheat_sheet.py``.

With ``--check`` nothing is written, and it exits 1 where the saved page is not what torch gives.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable
from html import escape

import torch

from course_utils.batches.conventions import (
    effect_of_marking,
    empty_row_outcomes,
    paths_of_attention,
    ways_to_mask,
)

PAGE = pathlib.Path(__file__).parent.parent / "notebooks" / "masks_cheat_sheet.html"

STYLE = """
@page { size: A4; margin: 11mm 13mm; }
* { box-sizing: border-box; }
body { font: 8.2pt/1.25 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #111;
  background: #fff; max-width: 190mm; margin: 0 auto; padding: 4mm; }
h1 { font-size: 15pt; margin: 0; }
h2 { font-size: 11.5pt; margin: 2.4mm 0 .8mm; border-bottom: 1.2pt solid #111; }
p { margin: 1mm 0; }
code { font: 7.4pt ui-monospace, "DejaVu Sans Mono", monospace; background: #f1f2f4; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; border-bottom: .8pt solid #111; }
th, td { padding: .3mm 3mm .3mm 0; vertical-align: top; }
td { border-bottom: .4pt solid #bbb; }
td.bad { font-weight: 700; }
td:nth-child(-n+3) { white-space: nowrap; }
dl { margin: 0; display: grid; grid-template-columns: 32mm 1fr; gap: .9mm 3mm; }
dt { font-weight: 600; } dd { margin: 0; }
footer { margin-top: 2mm; color: #444; font-size: 8pt; }
@media screen and (max-width: 730px) {
  th, td, td:nth-child(-n+3) { padding-right: 1mm; white-space: normal; overflow-wrap: anywhere; }
  dl { grid-template-columns: 1fr; }
  code { overflow-wrap: anywhere; }
}
@media print { body { padding: 0; max-width: none; } code { background: none; } }
"""

# What mask to give, by what a mark was found to do.
GIVE = {
    ("True", "ignored"): "<code>~keep_mask</code>",
    ("True", "the only one attended"): "<code>keep_mask[:, None, None]</code>",
    ("-inf", "ignored"): "0 and −inf, added to scores",
    ("1.0", "attended like the rest"): "never 0 and 1: they hide nothing",
    ("1.0", "ignored"): "never: differs in training",
}
CAUSAL = "<code>triu(1)</code>, a causal mask"

RECIPES = {
    "Clean the input": (
        "<code>x = x.masked_fill(~keep_mask[..., None], 0)</code>, because a weight of 0 stops "
        "neither NaN nor what overflows."
    ),
    "Pool with the mask": (
        "Mean: fill with 0, divide by the true count. Max, and before a softmax: fill with −inf. "
        "Padded positions hold junk in training, and perhaps zeros in evaluation."
    ),
    "Empty rows": (
        "Let such a row see one step, <code>keep_mask[empty, 0] = True</code>, and fill its output "
        "with 0."
    ),
    "Causal": (
        "<code>nn.Transformer*</code>: <code>torch.ones(T, T, dtype=torch.bool).triu(1)</code>. "
        "SDPA: <code>.tril() &amp; keep_mask[:, None, None]</code>. With padding on the right, "
        "real steps do not need a padding mask besides, but the loss does."
    ),
    "Padding on the left": (
        "Mask <em>and</em> <code>position_ids = (keep_mask.long().cumsum(1) - 1).clamp(min=0)"
        "</code>. With a causal mask, there are empty rows: let each step see itself."
    ),
    "Decoder": (
        "<code>tgt_mask</code>, <code>tgt_key_padding_mask</code>, and "
        "<code>memory_key_padding_mask</code> with the lengths of the <em>source</em>."
    ),
    "Loss": (
        "<code>F.cross_entropy(logits[keep_mask], targets[keep_mask])</code>, never "
        "<code>(loss * keep_mask).mean()</code>. Use a divisor of at least 1, the same for all "
        "micro-batches."
    ),
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        bad = {True: ' class="bad"', False: ""}
        marked = (f"<{tag}{bad[cell.startswith('NaN')]}>{cell}</{tag}>" for cell in cells)
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>\n{body}\n</tbody></table>"


def page() -> str:
    """Run torch, and return the page as HTML."""
    conventions = []
    for (function, argument, mark), attend in ways_to_mask().items():
        effect = effect_of_marking(attend)
        give = GIVE.get((mark, effect), "refused")
        if effect == "ignored" and argument in ("attn_mask", "tgt_mask") and mark == "True":
            give = CAUSAL
        names = f"<code>{escape(function)}</code>", f"<code>{escape(argument)}</code>"
        conventions.append((*names, escape(mark).replace("-inf", "−inf"), effect, give))
    documented = "attended (documented)", "<code>keep_mask.long()</code>"
    conventions.append(("Hugging Face", "<code>attention_mask</code>", "1", *documented))
    modes = ["training", "gradients", "eval", "eval, no_grad"]
    outcomes = []
    for name, make in paths_of_attention().items():
        found = empty_row_outcomes(make)
        outcomes.append((escape(name).replace("-inf", "−inf"), *(found[mode] for mode in modes)))
    heads = ["function", "argument", "mark", "the marked step is", "so give"]
    recipes = "\n".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in RECIPES.items())
    version = torch.__version__.partition("+")[0]
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Masks in PyTorch: which way round?</title>
<style>{STYLE}</style></head>
<body>
<h1>Masks in PyTorch: which way round?</h1>
<p><code>keep_mask = torch.arange(T) &lt; lengths[:, None]</code> is (B, T), True = real. Keep this
mask, and convert it at the last moment. Not sure about a function? Mark a step, change that step,
and see whether the output changes.</p>
<h2>What a mark does</h2>
{_table(heads, conventions)}
<h2>A row with nothing to attend to</h2>
{_table(["path", *modes], outcomes)}
<h2>Recipes</h2>
<dl>
{recipes}
</dl>
<footer>Both tables were made by running torch {version} on a CPU. From the course
<em>Variable-Length Batches in PyTorch</em>, chapters 03 and 04; terms are in its glossary. SDPA is
<code>F.scaled_dot_product_attention</code>. CC BY 4.0.</footer>
</body>
</html>
"""


def main(arguments: list[str]) -> int:
    """Write the page, or with --check compare it; return the exit status."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
        print(f"{PAGE.name}: saved")
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.name} is not what torch gives now: run tools/cheat_sheet.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
