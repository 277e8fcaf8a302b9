"""What pictures are put together from, above the canvas: a heading, cells, a grid of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from course_utils.pictures.svg import PALETTE, Canvas, color, ink, letter

# As wide as a panel's place in JupyterLab at 1280 x 720, with the file browser open.
WIDEST = 820
RIGHT, WRONG = PALETTE[2], PALETTE[7]
_MARGIN = 14
_NARROW = "ijlIJ' ,.·’/:;\\|f-()[]t!r"
_BROAD = "wm%MW@…#+<=>^~×≠−&"


def text_width(text: str, cls: str = "") -> float:
    """Estimate the width of a text in CSS pixels, rather too large than too small.

    Args:
        text: a line.
        cls: the classes that it is drawn with.
    """

    def share(character: str) -> float:
        if character in _NARROW:
            return 0.44
        return 1.0 if character in _BROAD else 0.8 if character.isupper() else 0.66

    size = 17 if "title" in cls else 11 if "small" in cls else 13
    bold = 1.12 if "title" in cls or "strong" in cls else 1.0
    return size * bold * sum(map(share, text))


def wrapped(text: str, width: float, cls: str = "") -> list[str]:
    """Break a text into lines of at most `width` CSS pixels, at spaces where there are some."""
    lines = [""]
    for word in text.split():
        while text_width(word, cls) > width:  # one long word, from data
            fits = next(n for n in range(len(word), 0, -1) if text_width(word[:n], cls) <= width)
            lines += [word[:fits], ""] if lines[-1] else []
            if not lines[-1] and len(lines) == 1:
                lines = [word[:fits], ""]
            word = word[fits:]
        line = f"{lines[-1]} {word}".strip()
        if text_width(line, cls) > width:
            lines.append(word)
        else:
            lines[-1] = line
    return lines


def sheet(
    title: str, caption: str, width: float, height: float, *, hint: bool = False
) -> tuple[Canvas, float]:
    """Lay out paper with a heading, as wide as the heading needs.

    Args:
        title, caption: the heading, and a line under it; too long ones go on in a new line.
        width, height: of what is to be drawn under the heading, margins included.
        hint: whether the caption invites to pick, and goes where nothing can be picked.
    Returns:
        canvas, top: the paper, and the y where the heading ends.
    """
    needed = max(text_width(title, "title"), text_width(caption)) + 2 * _MARGIN
    width = max(width, min(needed, WIDEST))
    titles = wrapped(title, width - 2 * _MARGIN, "title")
    captions = wrapped(caption, width - 2 * _MARGIN) if caption else []
    top = 12 + 20 * len(titles) + 18 * len(captions)
    canvas = Canvas(round(width), round(top + height))
    for number, line in enumerate(titles):
        canvas.text(_MARGIN, 28 + 20 * number, line, "title")
    for number, line in enumerate(captions):
        y = 28 + 20 * len(titles) + 18 * number
        canvas.text(_MARGIN, y, line, "muted hint" if hint else "muted")
    return canvas, top


def label(canvas: Canvas, x: float, y: float, w: float, h: float, text: str, cls: str = "") -> None:
    """Write a text into the middle of a cell."""
    down = 4 if "small" in cls else 4.5
    canvas.text(x + w / 2, y + h / 2 + down, text, cls, "middle")


def step_cell(
    canvas: Canvas,
    x: float,
    y: float,
    w: float,
    h: float,
    index: int,
    text: str = "",
    *,
    pale: bool = False,
    small: bool = False,
) -> None:
    """Draw a real step of the sequence `index`: in full colour where it is active now, or pale."""
    canvas.rect(x, y, w, h, fill=color(index), opacity=0.22 if pale else 1)
    size = " small" if small else ""
    if text:
        label(canvas, x, y, w, h, text, size.strip() if pale else f"strong {ink(index)}{size}")


def verdict_cell(
    canvas: Canvas, x: float, y: float, w: float, h: float, text: str, *, wrong: bool
) -> None:
    """Draw what is wrong, or right: one colour for each, in every picture."""
    canvas.rect(x, y, w, h, fill=WRONG if wrong else RIGHT, opacity=1 if wrong else 0.2)
    label(canvas, x, y, w, h, text, "strong on" if wrong else "")


def grid(
    canvas: Canvas,
    x: float,
    y: float,
    cell: tuple[float, float],
    rows: Sequence[str],
    columns: Sequence[str],
    draw: Callable[[int, int, float, float, float, float], None],
    *,
    gap: float = 4,
    cls: str = "strong",
) -> None:
    """Draw cells, each row with its name before it, each column with its name above it.

    Args:
        canvas: to draw on.
        x, y: of the first cell; the names of the rows end left of x, those of the columns above y.
        cell: from one cell to the next, across and down.
        rows, columns: the names.
        draw: `draw(row, column, x, y, w, h)` draws one cell.
        gap: between two cells, in CSS pixels.
        cls: of the names of the rows.
    """
    w, h = cell[0] - gap, cell[1] - gap
    for column, name in enumerate(columns):
        if name:
            canvas.text(x + column * cell[0] + w / 2, y - 8, name, "muted small", "middle")
    for row, name in enumerate(rows):
        top = y + row * cell[1]
        canvas.text(x - 8, top + h / 2 + 4.5, name, cls, "end")
        for column in range(len(columns)):
            draw(row, column, x + column * cell[0], top, w, h)


def stacked_bar(
    canvas: Canvas, x: float, y: float, w: float, h: float, shares: Sequence[float]
) -> None:
    """Draw a bar of parts, one a sequence and the last for padding; `shares` add up to at most 1.

    A part with room for it has its letter.
    """
    canvas.rect(x, y, w, h, cls="ground")
    for index, share in enumerate(shares):
        if index == len(shares) - 1:
            canvas.padding(x, y, w * share, h)
        elif share > 0:
            text = letter(index) if w * share > 14 else ""
            step_cell(canvas, x, y, w * share, h, index, text)
        x += w * share
