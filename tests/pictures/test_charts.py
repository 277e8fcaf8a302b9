"""Pictures say in words what they show, and are the same for the same numbers."""

import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import torch

from course_utils.pictures import charts
from course_utils.pictures.grid import WRONG
from course_utils.pictures.svg import DARK, LETTERS, LIGHT, PALETTE, Canvas, color, letter

ACCURACIES = {"<last>": 0.5, "h_n": 0.75}
PICTURES = {
    "grid": lambda: charts.padded_grid([5, 3, 7], marked=torch.ones(3, 7, dtype=torch.bool)),
    "bars": lambda: charts.read_out_bars(10, [3, 5], 8, ACCURACIES, ACCURACIES, 100),
    "batch": lambda: charts.batch_bars([5, 3, 7], [("<memory>", "1 & 2")], "Lengths"),
    "leaks": lambda: charts.leak_table({"a < b": [True, False]}, [2, 3], "Where?"),
    "verdicts": lambda: charts.verdict_table({"a < b": [True, False]}, ["A", "B"], "Which?"),
}


def shapes(picture, tag):
    return ET.fromstring(picture.svg).findall(f".//{{http://www.w3.org/2000/svg}}{tag}")


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_whole_and_the_same_every_time(name):
    picture, again = PICTURES[name](), PICTURES[name]()
    root = ET.fromstring(picture.svg)
    assert root.get("aria-label") == picture.alt and len(picture.alt) > 20
    assert picture.data == again.data
    assert float(root.get("width")) == picture.width
    assert not re.search(r"\d\.\d{3}", picture.svg), "numbers are rounded"


@pytest.mark.parametrize("name", PICTURES)
def test_everything_drawn_lies_on_the_paper(name):
    picture = PICTURES[name]()
    _, _, width, height = map(float, ET.fromstring(picture.svg).get("viewBox").split())
    for one in shapes(picture, "rect"):
        if one.get("x"):
            x, y, w, h = (float(one.get(key)) for key in ("x", "y", "width", "height"))
            assert min(x, y) >= 0 and x + w <= width and y + h <= height
    for one in shapes(picture, "text"):
        assert 0 <= float(one.get("x")) <= width and 0 <= float(one.get("y")) <= height


def test_html_holds_the_picture_and_its_alt_text_escaped():
    html = PICTURES["leaks"]()._repr_html_()
    assert html.startswith('<img alt="Where? a &lt; b: reaches 1 of 2."')
    assert "data:image/svg+xml;base64," in html


def test_padded_grid_counts_real_padding_and_marked_cells():
    marked = torch.zeros(3, 7, dtype=torch.bool)
    marked[1, :3] = True
    picture = charts.padded_grid([5, 3, 7], marked=marked)
    rects = [one for one in shapes(picture, "rect") if one.get("width") == "40.0"]
    pads = [one for one in rects if one.get("fill").startswith("url")]
    pale = [one for one in rects if one.get("fill-opacity")]
    assert (len(rects), len(pads), len(pale)) == (21, 6, 12)
    texts = [one.text for one in shapes(picture, "text")]
    assert {"A0", "A4", "B2", "C6"} <= set(texts) and not {"A5", "B3"} & set(texts)
    assert "15 of 21 cells real" in picture.alt and "3 cells marked" in picture.alt


def test_bars_are_as_long_as_the_numbers():
    picture = charts.read_out_bars(100, [10], 20, {"a": 0.25, "b": 1.0}, {"a": 0.5, "b": 1.0}, 100)
    bars = [one for one in shapes(picture, "rect") if one.get("class") == "bar"]
    assert [float(one.get("width")) for one in bars] == [120.0, 480.0]
    utterance = next(one for one in shapes(picture, "rect") if one.get("fill") == PALETTE[0])
    assert float(utterance.get("width")) == pytest.approx(480 * 10 / 120, abs=0.1)
    assert "a 25% (none added: 50%)" in picture.alt


def test_padded_batch_draws_real_lengths_to_scale():
    picture = charts.batch_bars([4, 1], [], "Two")
    colored = [one for one in shapes(picture, "rect") if one.get("fill") in PALETTE]
    assert [float(one.get("width")) for one in colored] == [450.0, 112.5]
    assert "fill 62%, 5 of 8 steps real" in picture.alt


def test_leak_table_says_leak_and_clean():
    texts = [one.text for one in shapes(PICTURES["leaks"](), "text")]
    assert texts.count("LEAK") == 1 and texts.count("clean") == 1


def test_verdict_table_says_right_and_wrong():
    picture = PICTURES["verdicts"]()
    texts = [one.text for one in shapes(picture, "text")]
    assert texts.count("right") == 1 and texts.count("WRONG") == 1
    assert picture.alt == "Which? a < b: right in A."


def test_figure_becomes_a_picture_with_its_bars_and_is_closed():
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(4, 2))
    axis.plot([0, 1])
    picture = charts.figure(fig, "One line that rises.")
    assert picture.data.startswith(b"\x89PNG") and picture.svg == ""
    assert 200 < picture.width < 400
    assert plt.get_fignums() == []
    assert 'alt="One line that rises."' in picture._repr_html_()


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that were turned into pictures, with all their artists."""
    figures = []
    monkeypatch.setattr(charts, "figure", lambda fig, alt: figures.append(fig) or alt)
    return figures


def test_line_charts_draw_the_numbers_from_zero_up(drawn):
    assert charts.line_charts([0, 1], {"a": [1, 3], "b": [5, 4]}, xlabel="x", alt="two") == "two"
    axes = drawn[0].axes
    assert [axis.get_title() for axis in axes] == ["a", "b"]
    assert [axis.lines[0].get_ydata().tolist() for axis in axes] == [[1, 3], [5, 4]]
    assert all(axis.get_ylim()[0] == 0 and axis.get_xlabel() == "x" for axis in axes)


def test_error_charts_draw_each_order_on_one_scale_from_zero_up(drawn):
    fresh = {"mixed": {2: 0.01, 8: 0.06}, "sorted": {2: 0.2, 8: 0.3}}
    trained = {"mixed": {2: 0.05, 8: 0.2}, "sorted": {2: 0.8, 8: 1.3}}
    alt = charts.error_charts({"fresh": fresh, "trained": trained})
    assert "sorted texts, trained: 0.80 in 2, 1.30 in 8" in alt
    left, right = drawn[0].axes
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.05, 0.2], [0.8, 1.3]]
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] == 0
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["2", "8"]


def test_ratio_charts_draw_each_ratio_the_limit_and_the_line_at_1(drawn):
    rows = [("low", "LSTM", 0.5, 1.0), ("low", "GRU", 0.8, 1.0)]
    rows += [("high", "LSTM", 2.0, 4.0), ("high", "GRU", 3.0, 4.0)]
    table = pd.DataFrame(rows, columns=["spread", "cell", "time", "most"])
    charts.ratio_charts(
        table, ["time"], x="spread", hue="cell", limit="most", ylabel="y", alt="dots"
    )
    (axis,) = drawn[0].axes
    limit, *dots = [line for line in axis.lines if len(line.get_ydata()) == 2]
    assert list(limit.get_ydata()) == [1.0, 4.0]
    found = [list(line.get_ydata()) for line in dots]
    assert [0.5, 2.0] in found and [0.8, 3.0] in found and [1, 1] in found
    assert axis.get_yscale() == "log"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "limit most",
        "LSTM",
        "GRU",
        "1: no difference",
    ]


def test_two_pictures_never_share_a_pattern():
    one, other = charts.padded_grid([1, 2]), charts.padded_grid([2, 1])
    ids = [re.search(r'pattern id="([^"]+)"', picture.svg)[1] for picture in (one, other)]
    assert ids[0] != ids[1]
    assert f"url(#{ids[0]})" in one.svg and "HATCH" not in one.svg


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", sorted({*PALETTE, *DARK}))
def test_white_text_on_each_colour_has_contrast_4_5(color):
    # The formula of WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    assert 1.05 / (luminance(color) + 0.05) >= 4.5


@pytest.mark.parametrize("color", LIGHT)
def test_dark_text_on_each_light_colour_has_contrast_4_5(color):
    assert (luminance(color) + 0.05) / (luminance("#1f2328") + 0.05) >= 4.5


def test_sixteen_sequences_have_sixteen_colours_and_none_that_of_what_is_wrong():
    colours = [color(index) for index in range(16)]
    assert len(set(colours)) == 16 and WRONG not in colours
    assert [letter(index) for index in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_more_rows_than_letters_and_colours_still_draw():
    picture = charts.padded_grid([1] * 30)
    assert f">{LETTERS[0]}<" in picture.svg
    Canvas(10, 10).picture("an empty canvas is a picture too")
