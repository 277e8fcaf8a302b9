"""The picture of a report shows each sample and parameter as the report has it."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from course_utils.batches.padding import pad
from course_utils.pictures.report import invariance_picture
from course_utils.testing import batch_invariance
from course_utils.testing.invariance import Question
from tests.ragged import ragged, refuses
from tests.testing.test_invariance import SAMPLES, Mean, of


def texts(picture):
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)


def test_a_wrong_report_shows_who_differs_by_how_much():
    report = batch_invariance(Mean(lambda x, n: x.mean(1)), SAMPLES, pad)
    shown = texts(invariance_picture(report))
    wrong = of(report, "alone").wrong
    most = max(wrong, key=wrong.get)  # which, depends on the random weights
    for share in wrong.values():
        assert f"≠ {100 * share:.0f}%" in shown or f"≠ {100 * share:.2g}%" in shown
    equal = sum(4 - len(of(report, q.name).wrong) for q in report.questions[:5])
    assert shown.count("=") == equal
    assert "head.weight" in shown and "= equal" in shown  # its bias sees no padding
    assert f"alone: {'ABCD'[most]} by" in invariance_picture(report).alt
    numbered = invariance_picture(report, numbered=True)
    assert f"alone: sample {most} by" in numbered.alt and "sample 3" in texts(numbered)
    assert (
        "(training)" in shown[0]
        and "(inference)" in texts(invariance_picture(report, "inference"))[0]
    )


def test_a_right_report_has_no_sign_of_a_fault():
    shown = texts(invariance_picture(batch_invariance(Mean(), SAMPLES, pad)))
    assert shown.count("=") == 20 and not any("≠" in one for one in shown)
    squeezed = batch_invariance(
        Mean(lambda x, n: x[:, 0].squeeze()), SAMPLES, lambda s: list(pad(s))
    )
    assert texts(invariance_picture(squeezed, "training")).count("!") == 4


def test_parameters_equal_up_to_rounding_stand_as_the_model_has_them():
    order = ["head.weight", "head.bias", "body.bias", "body.weight"]
    gradients = Question(
        "training",
        "gradients",
        "differs",
        dict(zip(order, (3e-16, 0.0, 0.211, 0.2114), strict=True)),
        tolerance=1e-9,
    )
    report = replace(batch_invariance(Mean(), SAMPLES, pad), questions=(gradients,))
    shown = texts(invariance_picture(report))
    named = [text for text in shown if text in order]
    assert named == ["body.bias", "body.weight", "head.weight", "head.bias"]
    assert list(gradients.wrong) == ["body.bias", "body.weight"]  # both are printed as 21%


def test_no_text_leaves_its_frame_and_many_parameters_are_cut():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.a_module_with_a_name_that_is_long = nn.Sequential(
                *[nn.Linear(4, 4) for _ in range(9)]
            )

        def forward(self, x, n):
            return self.a_module_with_a_name_that_is_long(x).mean(1)

    picture = invariance_picture(batch_invariance(Deep(), ragged(*range(3, 15)), pad))
    height = int(re.search(r'height="(\d+)"', picture.svg)[1])
    assert all(float(y) < height for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)"', picture.svg))
    assert all(float(x) < picture.width for x in re.findall(r'<text x="([\d.]+)"', picture.svg))
    assert sum(one.startswith("…") for one in texts(picture)) == 10


def test_what_cannot_be_drawn_is_refused():
    report = batch_invariance(Mean(), SAMPLES, pad, paths=["training"])
    refuses(
        ValueError, ["path is 'inference'", "training"], invariance_picture, report, "inference"
    )
    many = [torch.ones(n, 4) for n in range(1, 28)]
    report = batch_invariance(lambda x, n: x.sum(1), many, pad, paths=["inference"])
    refuses(ValueError, ["27 samples", "26"], invariance_picture, report)


@pytest.mark.parametrize("value, said", [(float("nan"), "all")])
def test_nan_is_said_as_a_whole(value, said):
    model = Mean(lambda x, n: x.sum(1) + (0 if len(x) == 1 else value))
    shown = texts(invariance_picture(batch_invariance(model, SAMPLES, pad)))
    assert shown.count(f"≠ {said}") >= 4
