"""Pictures with alt text, the canvas that draws them as SVG, and the course's visual grammar.

Each sequence has one colour and one letter, padding is grey and hatched. Numbers are rounded,
so that the same numbers give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as html_escape

# Dark enough for white text on it (contrast 4.5 or more). So dark, not all can be told apart by
# every eye: A and E, B and G are alike without green, A, C and F without blue. No picture says
# anything by colour alone: a letter, the row, the place or the dashes of a curve say it too.
PALETTE = ("#0066a6", "#a65a00", "#007a57", "#a8457f", "#5a4fa2", "#00758a", "#8a6d00", "#b0413e")
# The last of them is for what is wrong, and no sequence has it.
DARK = (*PALETTE[:7], "#4d6600")
# The ninth sequence to the sixteenth: the same hues, light enough for dark text.
LIGHT = ("#7ec3f0", "#f2b36b", "#73d3b4", "#efa4cf", "#bdb4f2", "#74cfe0", "#dcc45f", "#b9d46a")
_DASHES = ("none", "8 4", "2 3", "10 3 2 3", "5 8")
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
    ".vl .onlight{fill:#1f2328}"
    ".vl .pad{stroke:var(--vl-line,#b4bac2);stroke-width:1}"
    ".vl .hatch{stroke:var(--vl-line,#b4bac2);stroke-width:2}"
    ".vl .bar{fill:var(--vl-bar,#4b5563)}"
    ".vl .ground{fill:var(--vl-ground,#f3f4f6)}"
    ".vl .rule{stroke:var(--vl-muted,#59636e);stroke-width:1}"
    ".vl .mark{stroke:var(--vl-ink,#1f2328);stroke-width:2}"
    ".vl .band{fill:#ffd33d;fill-opacity:.4}"
    ".vl .chosen{fill:none;stroke:var(--vl-ink,#1f2328);stroke-width:3.5}"
    ".vl [data-pick]{cursor:pointer}"
    ".vl [data-pick]:focus{outline:3px solid #0066a6;outline-offset:2px}"
)


# What XML has no place for: one such character, and a browser shows nothing of the picture.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# A live picture shrinks a little with its page, and then scrolls: small letters help nobody.
_FLUID = "max-width:100%;height:auto"


def escape(text: str) -> str:
    """Make text from data fit to stand in SVG and HTML, in an attribute too."""
    return html_escape(_NO_XML.sub("\ufffd", text))


@dataclass(frozen=True)
class Picture:
    """A drawn picture that says in words what it shows.

    Attributes:
        data: the file's bytes.
        kind: "svg+xml" or "png".
        alt: what a reader sees in it, in a sentence or two.
        width, height: in CSS pixels; it shrinks with a narrower page.
        parts: the SVG texts of the pictures that this one arranges, where it does.
    """

    data: bytes
    kind: str
    alt: str
    width: int
    height: int
    parts: tuple[str, ...] = ()

    @property
    def svg(self) -> str:
        """The SVG text, several one after the other where it has parts; empty for a PNG."""
        return "".join(self.parts) or (self.data.decode() if self.kind == "svg+xml" else "")

    def _repr_html_(self) -> str:
        # As <img>: JupyterLab strips inline SVG from a notebook that is opened and not yet run.
        source = f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"
        return (
            f'<img alt="{escape(self.alt)}" src="{source}" width="{self.width}" style="{_FLUID}">'
        )

    def __repr__(self) -> str:
        return self.alt


class Canvas:
    """Paper of a fixed size in CSS pixels, drawn on element by element."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []
        self.role = "img"

    def rect(
        self, x: float, y: float, w: float, h: float, *, fill: str = "", opacity: float = 1, cls=""
    ) -> None:
        """Add a rectangle; pale, with a full-coloured edge, where `opacity` is below 1."""
        paint = f' fill="{fill}"' if fill else ""
        paint += f' fill-opacity="{opacity:.2f}" stroke="{fill}"' if opacity < 1 else ""
        paint += f' class="{cls}"' if cls else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{h:.1f}" '
            f'rx="3"{paint}/>'
        )

    def padding(self, x: float, y: float, w: float, h: float) -> None:
        """Add a hatched rectangle: padding looks like this and like nothing else."""
        if w > 0:
            self.rect(x, y, w, h, fill="url(#HATCH)", cls="pad")

    def text(self, x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> None:
        """Add a line of text with its baseline at y; it is escaped."""
        where = f' text-anchor="{anchor}"' if anchor != "start" else ""
        cls = f' class="{cls}"' if cls else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{cls}{where}>{escape(text)}</text>')

    def begin_pick(self, pick: str, label: str, *, chosen: bool, toggle: bool = False) -> None:
        """Begin a group that can be picked; what is added until `end_pick` belongs to it.

        With `toggle` it is a switch, `chosen` says whether it is on, and the arrow keys walk over
        it without switching.
        """
        self.role = "group"
        switch = ' data-toggle=""' if toggle else ""
        self.parts.append(
            f'<g data-pick="{escape(pick)}" role="button" aria-label="{escape(label)}" '
            f'aria-pressed="{str(chosen).lower()}" tabindex="-1"{switch}>'
        )

    def end_pick(self) -> None:
        """End the group that can be picked."""
        self.parts.append("</g>")

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "rule") -> None:
        """Add a straight line."""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], number: int) -> None:
        """Add curve `number` of a chart through points (x, y), with its own colour and dashes."""
        dashes = _DASHES[number % len(_DASHES)]
        self.parts.append(
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" '
            f'stroke="{color(number)}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'
        )

    def picture(self, alt: str) -> Picture:
        """Finish: the SVG picture, which says `alt` to whoever does not see it."""
        body = "".join(self.parts)
        # Two pictures on one page must not share the pattern's id: a hidden one would blank both.
        hatch = f"vl-{zlib.crc32((alt + body).encode(errors='replace')):08x}"
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="vl" role="{self.role}" '
            f'aria-label="{escape(alt)}" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" style="{_FLUID};'
            f'min-width:{0.9 * self.width:.0f}px">'
            f"<style>{_STYLE}</style>"
            f'<defs><pattern id="{hatch}" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="6" height="6" class="ground"/>'
            '<line x1="0" y1="0" x2="0" y2="6" class="hatch"/></pattern></defs>'
            f'<rect width="{self.width}" height="{self.height}" rx="6" class="paper"/>'
            f"{body.replace('url(#HATCH)', f'url(#{hatch})')}</svg>"
        )
        return Picture(svg.encode(), "svg+xml", alt, self.width, self.height)


def arrange(pictures: Sequence[Picture], alt: str, width: int) -> Picture:
    """Put pictures into one, side by side as far as they fit, then in a new row.

    Args:
        pictures: SVG pictures.
        alt: what a reader sees in all of them.
        width: of a row, in CSS pixels.
    Returns:
        Picture: one SVG to save, and the pictures as its parts, which a live page can wrap at
        any width.
    """
    x = y = row_height = 0
    placed = []
    for picture in pictures:
        if x and x + picture.width > width:
            x, y, row_height = 0, y + row_height, 0
        inner = re.sub(r' style="[^"]*"', f' x="{x}" y="{y}"', picture.svg, count=1)
        placed.append(inner)
        x, row_height = x + picture.width, max(row_height, picture.height)
    whole = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vl" role="img" '
        f'aria-label="{escape(alt)}" viewBox="0 0 {width} {y + row_height}" width="{width}" '
        f'height="{y + row_height}"><style>{_STYLE}</style>'
        f'<rect width="{width}" height="{y + row_height}" class="paper"/>{"".join(placed)}</svg>'
    )
    parts = tuple(picture.svg for picture in pictures)
    return Picture(whole.encode(), "svg+xml", alt, width, y + row_height, parts)


def letter(index: int) -> str:
    """Name the sequence in row `index`: A to Z, then AA, AB and so on."""
    before, last = divmod(index, len(LETTERS))
    return (letter(before - 1) if before else "") + LETTERS[last]


def color(index: int) -> str:
    """Return the colour of the sequence in row `index`; 16 in a row differ."""
    return (DARK + LIGHT)[index % 16]


def ink(index: int) -> str:
    """Return the class of text on the colour of the sequence in row `index`."""
    return "on" if color(index) in DARK else "onlight"
