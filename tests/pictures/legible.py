"""What every picture must keep to, measured in the font that a bare machine has."""

import functools
import itertools
import pathlib
import re
import xml.etree.ElementTree as ET

import matplotlib
from matplotlib.ft2font import FT2Font

from course_utils.pictures.svg import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"


@functools.cache
def _font(bold):
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = FT2Font(str(pathlib.Path(matplotlib.get_data_path(), "fonts/ttf", name)))
    font.set_size(100, 72)
    return font


@functools.cache
def _advance(character, bold):
    return _font(bold).load_char(ord(character)).linearHoriAdvance / 65536 / 100


def width_of(text, size, bold):
    """Of a line in CSS pixels, in DejaVu Sans: wider than what most screens have."""
    return size * sum(_advance(character, bold) for character in text)


def size_and_weight(element):
    classes = element.get("class", "").split()
    size = 17 if "title" in classes else 11 if "small" in classes else 13
    return size, "title" in classes or "strong" in classes


def box_of(element):
    """Left, top, right and bottom of a text."""
    x, y = float(element.get("x")), float(element.get("y"))
    size, bold = size_and_weight(element)
    wide = width_of(element.text or "", size, bold)
    x -= {"middle": wide / 2, "end": wide}.get(element.get("text-anchor"), 0)
    return x, y - 0.75 * size, x + wide, y + 0.2 * size


def sizes_of_letters(picture):
    return {float(size) for size in re.findall(r"font-size:([\d.]+)px", picture.svg)}


def assert_legible(picture, highest=None):
    """Assert that no text is cut, small or over another, and that no colour is used twice."""
    assert min(sizes_of_letters(picture)) >= 11
    assert highest is None or picture.height <= highest, f"{picture.height} px high"
    for part in picture.parts or (picture.svg,):
        root = ET.fromstring(part)
        width, height = float(root.get("width")), float(root.get("height"))
        texts = [element for element in root.iter(f"{SVG}text") if element.text]
        boxes = [box_of(element) for element in texts]
        for element, (left, top, right, bottom) in zip(texts, boxes, strict=True):
            assert left >= 0 and right <= width and top >= 0 and bottom <= height, element.text
        for (one, first), (other, second) in itertools.combinations(
            zip(texts, boxes, strict=True), 2
        ):
            apart = first[2] <= second[0] + 1 or second[2] <= first[0] + 1
            apart = apart or first[3] <= second[1] + 1 or second[3] <= first[1] + 1
            assert apart, f"{one.text!r} lies over {other.text!r}"
        assert_one_colour_each(root)


def assert_one_colour_each(root):
    """A colour belongs to one letter, and a letter has one colour, among cells with their names."""
    letters, colours, fill = {}, {}, None
    for element in root.iter():
        if element.tag == f"{SVG}rect":
            fill = element.get("fill", fill if "chosen" in element.get("class", "") else None)
            fill = fill if fill in DARK + LIGHT and element.get("class") is None else None
        elif element.tag == f"{SVG}text" and fill and "strong" in element.get("class", ""):
            name = re.match(r"([A-Z])(?:\d+| \d+)?$", element.text or "")
            if name and {"on", "onlight"} & set(element.get("class").split()):
                assert letters.setdefault(fill, name[1]) == name[1], f"{fill} is of two sequences"
                assert colours.setdefault(name[1], fill) == fill, f"{name[1]} has two colours"
