"""The inside of a PackedSequence, as the panel of chapter 02 shows it."""

import pytest
import torch

from course_utils.batches.packed import layout
from course_utils.panels.packed import PackedExplorer
from course_utils.pictures.packed import packed_views


def test_the_drawing_shows_each_step_once_in_each_view():
    lengths = [5, 3, 7, 2]
    picture = packed_views(lengths, layout(torch.tensor(lengths)), step=2, chosen=(2, 2))
    assert len(picture.parts) == 3
    for part in picture.parts:
        assert part.count("data-pick=") == 17
        assert part.count('aria-pressed="true"') == 1
        assert part.count("strong on") == 3, "A2, B2 and C2 are alive at step 2"
    assert "batch_sizes [4, 4, 3, 2, 2, 1, 1], sorted_indices [2, 0, 1, 3]" in picture.alt
    assert "Chosen: C2, data[8]" in picture.alt
    assert picture.data.decode().count("<svg") == 4, "one to save holds the three"


def explorer():
    return PackedExplorer({"four": [5, 3, 7, 2], "alike": [6, 6]})


def test_explorer_has_a_frame_for_each_step_and_order():
    panel = explorer()
    assert len(panel.frames) == 14
    panel.show(step=3, order="as given")
    key = "|".join(str(panel.values[name]) for name in sorted(panel.values))
    assert panel.frames[key] == [panel.picture.svg, panel.words]


def test_explorer_keeps_its_values_together():
    panel = explorer()
    panel.show(pick="C4")
    assert panel.values["step"] == 4 and "data[13] is step 4 of sequence C" in panel.words
    panel.show(C=3)
    assert panel.values["batch"] == "your own" and panel.values["pick"] == ""
    assert panel.values["step"] == 4 and "runs on 1 of 4 rows" in panel.words
    panel.show(A=0)
    assert panel.values["step"] == 2, "no further than the longest sequence goes"
    assert "Already ended: D" in panel.words and "runs on 2 of 3 rows" in panel.words
    panel.show(batch="alike")
    assert [panel.values[letter] for letter in "ABCDEF"] == [6, 6, 0, 0, 0, 0]
    assert next(slider.high for slider in panel.controls if slider.name == "step") == 5
    panel.show(A=0, B=0)
    assert panel.values["A"] == 1, "a batch needs a sequence"


@pytest.mark.parametrize("lengths", [[], [1] * 7, [0, 2], [11]])
def test_explorer_refuses_presets_that_it_cannot_draw(lengths):
    with pytest.raises(ValueError, match=r"presets\['bad'\] is .*: give 1 to 6 lengths of 1..10"):
        PackedExplorer({"bad": lengths})
