"""Pure functions: numbers that torch computed in, a picture out.

One visual grammar for the whole course: each sequence has one colour and one letter, padding is
grey and hatched, time runs right and the batch runs down. SVG is written here, with rounded
numbers, so that the same numbers give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

# Dark enough for white text on it (contrast 4.5 or more), and told apart by colour-blind eyes;
# the letter on each sequence says the same without colour.
PALETTE = ("#0066a6", "#a65a00", "#007a57", "#a8457f", "#5a4fa2", "#00758a", "#8a6d00", "#b0413e")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_STYLE = (
    ".vl text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;"
    "font-size:13px;fill:var(--vl-ink,#1f2328)}"
    ".vl .paper{fill:var(--vl-paper,#fff)}"
    ".vl .title{font-size:17px;font-weight:700}"
    ".vl .muted{fill:var(--vl-muted,#59636e)}"
    ".vl .strong{font-weight:700}"
    ".vl .small{font-size:11px}"
    ".vl .on{fill:#fff}"
    ".vl .pad{stroke:var(--vl-line,#b4bac2);stroke-width:1}"
    ".vl .hatch{stroke:var(--vl-line,#b4bac2);stroke-width:2}"
    ".vl .bar{fill:var(--vl-bar,#4b5563)}"
    ".vl .ground{fill:var(--vl-ground,#f3f4f6)}"
    ".vl .rule{stroke:var(--vl-muted,#59636e);stroke-width:1}"
    ".vl .mark{stroke:var(--vl-ink,#1f2328);stroke-width:2}"
)


@dataclass(frozen=True)
class Picture:
    """A drawn picture that says in words what it shows.

    Attributes:
        data: the file's bytes.
        kind: "svg+xml" or "png".
        alt: what a reader sees in it, in a sentence or two.
        width: in CSS pixels; it shrinks with a narrower page.
    """

    data: bytes
    kind: str
    alt: str
    width: int

    @property
    def svg(self) -> str:
        """The SVG text; empty for a PNG."""
        return self.data.decode() if self.kind == "svg+xml" else ""

    def _repr_html_(self) -> str:
        # As <img>: JupyterLab strips inline SVG from a notebook that is opened and not yet run.
        source = f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"
        return (
            f'<img alt="{escape(self.alt)}" src="{source}" width="{self.width}" '
            'style="max-width:100%;height:auto">'
        )

    def __repr__(self) -> str:
        return self.alt


class _Canvas:
    """A list of SVG elements on paper of a fixed size."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def rect(
        self, x: float, y: float, w: float, h: float, *, fill: str = "", opacity: float = 1, cls=""
    ) -> None:
        paint = f' fill="{fill}"' if fill else ""
        paint += f' fill-opacity="{opacity:.2f}" stroke="{fill}"' if opacity < 1 else ""
        paint += f' class="{cls}"' if cls else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{h:.1f}" '
            f'rx="3"{paint}/>'
        )

    def padding(self, x: float, y: float, w: float, h: float) -> None:
        if w > 0:
            self.rect(x, y, w, h, fill="url(#HATCH)", cls="pad")

    def text(self, x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> None:
        where = f' text-anchor="{anchor}"' if anchor != "start" else ""
        cls = f' class="{cls}"' if cls else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{cls}{where}>{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "rule") -> None:
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'
        )

    def picture(self, alt: str) -> Picture:
        body = "".join(self.parts)
        # Two pictures on one page must not share the pattern's id: a hidden one would blank both.
        hatch = f"vl-{zlib.crc32((alt + body).encode()):08x}"
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="vl" role="img" '
            f'aria-label="{escape(alt)}" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" style="max-width:100%;height:auto"><style>{_STYLE}</style>'
            f'<defs><pattern id="{hatch}" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="6" height="6" class="ground"/>'
            '<line x1="0" y1="0" x2="0" y2="6" class="hatch"/></pattern></defs>'
            f'<rect width="{self.width}" height="{self.height}" rx="6" class="paper"/>'
            f"{body.replace('url(#HATCH)', f'url(#{hatch})')}</svg>"
        )
        return Picture(svg.encode(), "svg+xml", alt, self.width)


def figure(fig, alt: str) -> Picture:
    """Turn a matplotlib figure into a picture with alt text, and close it.

    Args:
        fig: matplotlib.figure.Figure.
        alt: what a reader sees in it.
    Returns:
        Picture: a PNG at twice the figure's size in CSS pixels (96 an inch).
    """
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=192, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    # The PNG header holds the width, which bbox_inches="tight" has changed.
    width = int.from_bytes(buffer.getvalue()[16:20], "big") // 2
    return Picture(buffer.getvalue(), "png", alt, width)


def _letter(index: int) -> str:
    return LETTERS[index % len(LETTERS)]


def _color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def padded_grid(
    lengths: Sequence[int],
    *,
    max_length: int | None = None,
    cells: Sequence[Sequence[str]] | None = None,
    marked: Tensor | None = None,
    title: str = "Padded batch",
    caption: str = "",
) -> Picture:
    """Draw a padded batch cell by cell: real steps in colour, padding hatched.

    Args:
        lengths: B numbers of steps.
        max_length: T; the longest where None.
        cells: B rows of T short texts, one a cell; letter and step where None, nothing in pads.
        marked: (B, T) bool, cells drawn in full colour; the rest stay pale.
        title: the heading.
        caption: a line under the heading.
    Returns:
        Picture: SVG.
    """
    T = max(lengths) if max_length is None else max_length
    size, left, top = 46, 62, 92
    canvas = _Canvas(max(left + T * size + 20, 420), top + len(lengths) * size + 16)
    canvas.text(20, 32, title, "title")
    canvas.text(20, 54, caption, "muted")
    for step in range(T):
        canvas.text(left + step * size + 20, top - 10, f"t={step}", "muted small", "middle")
    for row, length in enumerate(lengths):
        y = top + row * size
        canvas.text(34, y + 26, _letter(row), "strong", "middle")
        for step in range(T):
            x = left + step * size
            full = marked is not None and bool(marked[row, step])
            if step < length:
                canvas.rect(x, y, 40, 40, fill=_color(row), opacity=1 if full else 0.22)
            else:
                canvas.padding(x, y, 40, 40)
            default = f"{_letter(row)}{step}" if step < length else ""
            text = default if cells is None else cells[row][step]
            canvas.text(x + 20, y + 25, text, "strong on" if full else "", "middle")
    real = sum(lengths)
    alt = f"{title}: {len(lengths)} sequences of {', '.join(map(str, lengths))} steps, T = {T}, "
    alt += f"{real} of {len(lengths) * T} cells real. {caption}"
    if marked is not None:
        alt += f" {int(marked.sum())} cells marked."
    return canvas.picture(alt.strip())


def read_out_bars(
    added: int,
    lengths: Sequence[int],
    accuracies: Mapping[str, float],
    without: Mapping[str, float],
    max_added: int,
) -> Picture:
    """Draw a few padded utterances, and the accuracy of each read-out on the whole test set.

    Args:
        added: steps of padding added.
        lengths: steps of the utterances to draw.
        accuracies: read-out -> accuracy with this padding, 0 to 1.
        without: read-out -> accuracy with none added.
        max_added: the most steps ever added; it fixes the scale.
    Returns:
        Picture: SVG.
    """
    longest = max(lengths)
    left, width = 176, 520
    scale = width / (longest + max_added)
    canvas = _Canvas(760, 132 + 26 * len(lengths) + 40 * len(accuracies))
    canvas.text(20, 32, f"Padding added: {added} steps of zeros", "title")
    canvas.text(
        20, 56, f"{len(lengths)} of the test utterances, as the model is given them", "muted"
    )
    for row, length in enumerate(lengths):
        y = 70 + 26 * row
        canvas.text(20, y + 15, f"utterance {_letter(row)}, {length} steps", "muted")
        canvas.rect(left, y, length * scale, 20, fill=_color(row))
        canvas.padding(left + length * scale, y, (longest + added - length) * scale, 20)
    top = 70 + 26 * len(lengths)
    canvas.text(
        20, top + 30, "Accuracy on the test set; the black mark: with no padding added", "muted"
    )
    for row, (name, accuracy) in enumerate(accuracies.items()):
        y = top + 44 + 40 * row
        canvas.text(20, y + 19, name, "strong")
        canvas.rect(left, y, width, 28, cls="ground")
        canvas.rect(left, y, accuracy * width, 28, cls="bar")
        start = left + without[name] * width
        canvas.line(start, y - 3, start, y + 31, "mark")
        canvas.text(left + width + 10, y + 19, f"{accuracy:.0%}", "strong")
    alt = f"{added} steps of padding added. Accuracy: "
    alt += ", ".join(
        f"{name} {a:.0%} (none added: {without[name]:.0%})" for name, a in accuracies.items()
    )
    return canvas.picture(alt + ".")


def padded_batch(lengths: Sequence[int], facts: Sequence[tuple[str, str]], title: str) -> Picture:
    """Draw a padded batch of any size, a bar a sequence, its fill, and some facts beside it.

    Args:
        lengths: B numbers of steps.
        facts: pairs (name, value), one a line.
        title: the heading.
    Returns:
        Picture: SVG of one size for every batch of up to 32 sequences.
    """
    T, real = max(lengths), sum(lengths)
    share = real / (len(lengths) * T)
    left, width, height = 20, 470, 320
    bar = height / max(len(lengths), 8)
    canvas = _Canvas(760, 420)
    canvas.text(20, 32, title, "title")
    canvas.text(20, 54, f"B = {len(lengths)} sequences down, T = {T} steps to the right", "muted")
    for row, length in enumerate(lengths):
        y = 70 + row * bar
        real_width = width * length / T
        canvas.rect(left, y, real_width, bar - 2, fill=_color(row))
        canvas.padding(left + real_width, y, width - real_width, bar - 2)
    x = left + width + 30
    canvas.text(x, 84, f"fill {share:.0%}", "title")
    canvas.rect(x, 96, 210 * share, 18, cls="bar")
    canvas.padding(x + 210 * share, 96, 210 * (1 - share), 18)
    canvas.text(x, 134, f"{real:,} real steps of {len(lengths) * T:,}", "muted")
    for row, (name, value) in enumerate(facts):
        canvas.text(x, 176 + 46 * row, name, "muted")
        canvas.text(x, 195 + 46 * row, value, "strong")
    alt = f"{title}. {len(lengths)} sequences padded to {T} steps: fill {share:.0%}, {real} of "
    alt += f"{len(lengths) * T} steps real. " + "; ".join(f"{n}: {v}" for n, v in facts) + "."
    return canvas.picture(alt)


def leak_table(leaks: Mapping[str, Sequence[bool]], lengths: Sequence[int], title: str) -> Picture:
    """Draw which sequences the padding reaches, a row a method.

    Args:
        leaks: method -> B truth values, True = the padding reached that sequence.
        lengths: B numbers of steps.
        title: the heading.
    Returns:
        Picture: SVG.
    """
    left, cell = 300, 88
    canvas = _Canvas(max(left + cell * len(lengths) + 20, 480), 96 + 38 * len(leaks))
    canvas.text(20, 32, title, "title")
    for column, length in enumerate(lengths):
        x = left + cell * column + cell / 2 - 3
        canvas.text(x, 62, _letter(column), "strong", "middle")
        canvas.text(x, 78, f"{length} steps", "muted small", "middle")
    for row, (name, reached) in enumerate(leaks.items()):
        y = 88 + 38 * row
        canvas.text(20, y + 21, name)
        for column, leak in enumerate(reached):
            x = left + cell * column
            canvas.rect(
                x, y, cell - 6, 32, fill=PALETTE[7 if leak else 2], opacity=1 if leak else 0.2
            )
            text, cls = ("LEAK", "strong on") if leak else ("clean", "")
            canvas.text(x + cell / 2 - 3, y + 21, text, cls, "middle")
    alt = f"{title} " + " ".join(
        f"{name}: " + (f"reaches {sum(map(bool, r))} of {len(r)}." if any(r) else "clean.")
        for name, r in leaks.items()
    )
    return canvas.picture(alt)
