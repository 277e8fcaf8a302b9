"""The panels about masks show what torch gives, and lose no click."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.panels import masks as mask_panels
from course_utils.panels.masks import AttentionExplorer, LossExplorer, _batch
from course_utils.panels.panel import Panel
from course_utils.pictures import masks as mask_pictures
from course_utils.pictures.charts import padded_grid
from tests.ragged import (
    calm,  # noqa: F401
    few,
)

LENGTHS = [6, 3, 5, 2]
RIGHT = ["111111", "111000", "111110", "110000"]
PRESETS = {
    "right": RIGHT,
    "one pad too many": ["111111", "111100", "111111", "111000"],
    "inverted": ["000000", "000111", "000001", "001111"],
    "C is empty": ["111111", "111000", "000000", "110000"],
    "all zeros": ["000000"] * 4,
}
CELLS = st.tuples(st.integers(0, 3), st.integers(0, 5))


def flip(mask, row, step):
    line = mask[row][:step] + "10"[int(mask[row][step])] + mask[row][step + 1 :]
    return [*mask[:row], line, *mask[row + 1 :]]


def name(cell):
    return f"{'ABCD'[cell[0]]}{cell[1]}"


def move(panel, **changed):
    """What the page sends: all values, some of them changed."""
    panel.show(**changed)
    return panel.values


class Sum(Panel):
    """A panel that keeps what it is asked."""

    def __init__(self):
        self.calls, self.drawn = [], []
        super().__init__({"n": 1, "total": 0})

    def draw(self, n, total):
        self.drawn.append((n, total))
        return padded_grid([n]), f"{n}, {total}"

    def settle(self, before, now):
        self.calls.append((dict(before), dict(now)))
        return now | {"total": before["total"] + now["n"]}


def test_settle_is_given_the_settled_values_and_not_what_the_page_believed():
    panel = Sum()
    calls, drawn = panel.calls, panel.drawn
    assert calls == [] and drawn == [(1, 0)]
    panel.show(n=2, total=0)
    panel.show(n=3, total=0)  # sent before the page had the answer
    assert [before for before, _ in calls] == [{"n": 1, "total": 0}, {"n": 2, "total": 2}]
    assert [now for _, now in calls] == [{"n": 2, "total": 0}, {"n": 3, "total": 0}]
    assert panel.values == {"n": 3, "total": 5} and panel.words == "3, 5"
    assert drawn == [(1, 0), (2, 2), (3, 5)], "once a change, of settled values alone"


@few
@given(st.sampled_from(list(PRESETS)), st.lists(CELLS, min_size=1, max_size=6))
def test_a_pick_flips_one_cell_and_keeps_the_flips_before(preset, cells):
    panel = LossExplorer()
    mask = move(panel, preset=preset)["mask"]
    assert mask == PRESETS[preset]
    for cell in cells:
        mask = flip(mask, *cell)
        values = move(panel, pick=name(cell))
        same = [known for known in PRESETS if PRESETS[known] == mask]
        assert values["mask"] == mask and values["pick"] == ""
        assert values["preset"] == (same[0] if same else "your own")
        switches = re.findall(
            r'data-pick="(\w\d)".*?aria-pressed="(\w+)".*?>(\d)</text>', panel.picture.svg
        )
        assert [pick for pick, *_ in switches] == [
            name(cell) for cell in itertools.product(range(4), range(6))
        ]
        assert "".join(shown for *_, shown in switches) == "".join(mask)
        assert all((on == "true") == (shown == "1") for _, on, shown in switches)
    assert panel.picture.svg.count('data-toggle=""') == 24, "all are switches"


@few
@given(st.lists(CELLS, min_size=2, max_size=5, unique=True))
def test_quick_picks_do_not_undo_each_other(cells):
    panel, mask = LossExplorer(), RIGHT
    start = dict(panel.values)
    for cell in cells:  # the page has had no answer yet: all else is as at the start
        panel.show(**{**start, "pick": name(cell)})
        mask = flip(mask, *cell)
    assert panel.values["mask"] == mask


def test_a_slider_moved_before_the_answer_keeps_the_flip():
    panel = LossExplorer()
    start = dict(panel.values)
    panel.show(**{**start, "pick": "A0"})
    panel.show(**{**start, "added": 1})
    assert panel.values["mask"][0] == "0111110"


def test_a_choice_made_before_the_answer_is_heard():
    panel = LossExplorer()
    start = dict(panel.values)
    panel.show(**{**start, "pick": "A0"})
    panel.show(**{**start, "preset": "inverted"})  # the page has taken its pick back
    assert panel.values["mask"] == PRESETS["inverted"]


def test_a_pick_of_a_column_that_the_slider_took_away_changes_nothing():
    panel = LossExplorer()
    move(panel, added=2)
    move(panel, added=0)
    assert move(panel, pick="A7")["mask"] == RIGHT


@pytest.mark.parametrize("preset", PRESETS)
def test_the_slider_adds_columns_that_the_preset_fills(preset):
    panel, fill = LossExplorer(), "1" if preset == "inverted" else "0"
    move(panel, preset=preset)
    for added in (4, 1, 0):
        expected = [row.ljust(6 + added, fill) for row in PRESETS[preset]]
        if preset == "one pad too many" and added:
            expected[0] = "1111111".ljust(6 + added, "0")
        assert move(panel, added=added)["mask"] == expected and panel.values["preset"] == preset


def test_the_slider_keeps_a_mask_of_ones_own():
    panel, own = LossExplorer(), flip(RIGHT, 1, 1)
    move(panel, pick="B1")
    assert move(panel, added=2)["mask"] == [row + "00" for row in own]
    assert panel.values["preset"] == "your own"
    assert move(panel, added=0)["mask"] == own
    assert move(panel, preset="your own")["mask"] == own
    assert move(panel, preset="right")["mask"] == RIGHT


def shown_losses(panel):
    """Name -> (value, gradient, shares), as the alt text says them."""
    pattern = r"([a-zBT, ]+): (\S+), gradient (\S+), weight of (.*?)\.(?= |$)"
    return {
        one[0].strip(): (
            float(one[1]),
            float(one[2]),
            [float(p.split()[-1]) for p in one[3].split(", ")],
        )
        for one in re.findall(pattern, panel.picture.alt.split("real). ")[1])
    }


@few
@given(st.integers(0, 4), st.sampled_from(list(PRESETS)), st.lists(CELLS, max_size=6))
def test_the_losses_gradients_and_weights_shown_are_those_of_arithmetic(added, preset, cells):
    panel = LossExplorer()
    move(panel, preset=preset)
    for cell in cells:
        move(panel, pick=name(cell))
    mask = move(panel, added=added)["mask"]
    keep = torch.tensor([[cell == "1" for cell in row] for row in mask]).double()
    steps, targets = _batch(added)
    logits = steps.double() @ torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    losses = -logits.log_softmax(2).gather(2, targets[..., None])[..., 0]
    errors = logits.softmax(2) - torch.nn.functional.one_hot(targets, 3)  # p - y
    counts, cells_in_all = keep.sum(1, keepdim=True), keep.numel()
    weights = {  # of each step in each loss
        "unmasked": torch.full_like(keep, 1 / cells_in_all),
        "masked, over B x T": keep / cells_in_all,
        "over real steps": keep / counts.sum(),
        "per sequence": keep / counts / 4,
    }
    shown = shown_losses(panel)
    assert list(shown) == list(weights)
    for loss, each in weights.items():
        value, gradient, shares = shown[loss]
        assert value == pytest.approx((each * losses).sum().item(), abs=6e-4, nan_ok=True)
        each = each.nan_to_num()[..., None]  # torch masks the gradient after its 0 / 0
        at_weight = torch.einsum("btd,btc->dc", steps.double(), each * errors)
        at_bias = (each * errors).sum((0, 1))
        assert gradient == pytest.approx(math.hypot(at_weight.norm(), at_bias.norm()), abs=6e-4)
        real = [each[row, :length].sum().item() for row, length in enumerate(LENGTHS)]
        assert shares == pytest.approx([*real, each.sum().item() - sum(real)], abs=6e-4)
    on_paper(panel.picture)
    assert panel.words.startswith(f"{int(keep.sum())} cells count")
    assert ("0 / 0" in panel.words) == (0 in counts)
    lost = [loss for loss, (value, _, _) in shown.items() if math.isnan(value)]
    said = f"The loss is NaN ({', '.join(lost)}), its gradient is not."
    assert said in panel.words if lost else "NaN" not in panel.words


def on_paper(picture):
    """Assert that each part is XML with its alt text, and holds all that is drawn on it."""
    for part in picture.parts:
        root = ET.fromstring(part)
        width, height = float(root.get("width")), float(root.get("height"))
        assert root.get("aria-label")
        for one in root.iter("{http://www.w3.org/2000/svg}rect"):
            x, y, w, h = (float(one.get(key, 0)) for key in ("x", "y", "width", "height"))
            assert min(x, y, w, h) >= 0 and x + w <= width + 0.1 and y + h <= height


def attention_by_hand(lengths):
    """Name of a mask -> (B, T, T) weights, written out with the panel's seed."""
    torch.manual_seed(2)
    module = torch.nn.MultiheadAttention(8, 1, batch_first=True)
    x = torch.nn.utils.rnn.pad_sequence([torch.randn(n, 8) for n in lengths], batch_first=True)
    query, key, _ = torch.nn.functional.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(
        3, dim=-1
    )
    scores = (query @ key.transpose(1, 2) / 8**0.5).detach()
    T = x.shape[1]
    real = (torch.arange(T) < torch.tensor(lengths)[:, None])[:, None].expand(-1, T, -1)
    past = torch.arange(T) <= torch.arange(T)[:, None]
    seen = {"right": real, "inverted": ~real, "causal": past, "causal and padding": past & real}
    found = {
        mask: scores.masked_fill(~allowed, -torch.inf).softmax(2) for mask, allowed in seen.items()
    }
    plain = {"none": scores.softmax(2), "floats, 0 and 1": (scores + (~real).float()).softmax(2)}
    return found | plain, ~real


CHOICES = ["none", "right", "inverted", "floats, 0 and 1", "causal", "causal and padding"]


@pytest.mark.parametrize("lengths", [(6, 4, 2), (1, 6), (3,), (2, 2, 5)])
def test_attention_explorer_shows_what_attention_by_hand_gives(lengths, monkeypatch):
    drawn, draw = [], mask_pictures.attention_maps
    monkeypatch.setattr(
        mask_panels, "attention_maps", lambda *given: (drawn.append(given), draw(*given))[1]
    )
    panel = AttentionExplorer(lengths)
    expected, padding = attention_by_hand(lengths)
    assert list(panel.controls[0].options) == CHOICES == list(panel.frames)
    for mask, (weights, shares, *_) in zip(CHOICES, drawn[:6], strict=True):
        torch.testing.assert_close(weights, expected[mask], equal_nan=True)
        share = (expected[mask] * padding).sum(2)
        torch.testing.assert_close(shares, share, equal_nan=True)
        real = share[~padding[:, 0]]
        svg, words = panel.frames[mask]
        texts = re.findall(r">(\d+%|NaN)</text>", re.sub(r'<text[^>]*"middle">NaN</text>', "", svg))
        assert texts == ["NaN" if one.isnan() else f"{one:.0%}" for one in real]
        lost = int(real.isnan().sum())
        assert (f"{lost} of {sum(lengths)} real steps have NaN" in words) == (lost > 0)
        if lost < len(real):
            assert f"spend {real.nanmean():.0%} of their attention on padding" in words


def test_attention_drawn_beforehand_equals_attention_drawn_live():
    panel = AttentionExplorer((5, 2))
    for mask in reversed(CHOICES):
        panel.show(mask=mask)
        assert panel.frames[mask] == [panel.picture.svg, panel.words]
        on_paper(panel.picture)
    assert len({svg for svg, _ in panel.frames.values()}) == 6


@pytest.mark.parametrize("lengths", [[], [0], [3, 7], [-1], [1, 2, 3, 4]])
def test_attention_explorer_refuses(lengths):
    with pytest.raises(ValueError, match=rf"lengths is {re.escape(str(lengths))}: give 1 to 3"):
        AttentionExplorer(lengths)


def test_attention_explorer_leaves_the_random_numbers_of_the_learner_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    AttentionExplorer()
    assert torch.equal(torch.get_rng_state(), before)


def test_text_is_escaped():
    loss = {"<b> & co": math.nan}
    keep_mask = torch.tensor([[True, False]])
    picture = mask_pictures.mask_and_losses([1], keep_mask, loss, loss, {"<b> & co": [0.5, 0.0]})
    maps = mask_pictures.attention_maps(torch.eye(2)[None], torch.zeros(1, 2), [2], "<b> & co")
    for one in (picture, maps):
        assert "<b>" not in one.svg and "&lt;b&gt; &amp; co" in one.svg
        on_paper(one)


def test_a_weight_is_drawn_as_an_area():
    weights = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
    root = ET.fromstring(mask_pictures.attention_maps(weights, torch.zeros(1, 2), [2], "t").svg)
    rects = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("rx") == "3"]
    sides = [float(one.get("width")) for one in rects if one.get("fill")]
    assert [side**2 / 24**2 for side in sides] == pytest.approx([0.25, 0.75, 1], abs=0.01)
