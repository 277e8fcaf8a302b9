"""What torch does with a mask is found out by running it, and told as it is."""

import warnings

import pytest
import torch
from torch import nn

from course_utils.batches.conventions import (
    effect_of_marking,
    empty_row_outcomes,
    paths_of_attention,
    ways_to_mask,
)
from tests.ragged import calm  # noqa: F401


def only(keep):
    """Average over the steps that `keep(marked)` chooses, the same at every position."""

    def attend(x, marked):
        weights = keep(marked).float()[..., None]
        return ((x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)).expand_as(x)

    return attend


def raising(error):
    def attend(x, marked):
        raise error("no")

    return attend


@pytest.mark.parametrize(
    "attend, effect",
    [
        (only(torch.logical_not), "ignored"),
        (only(lambda marked: marked), "the only one attended"),
        (only(torch.ones_like), "attended like the rest"),
        (only(lambda marked: 1 + 9.0 * marked), "attended like the rest"),
        (lambda x, marked: x * 0, "of no use: nothing is attended"),
        (lambda x, marked: x * torch.nan, "NaN"),
        (raising(ValueError), "ValueError"),
        (raising(RuntimeError), "RuntimeError"),
        (raising(AssertionError), "AssertionError"),
        (raising(NotImplementedError), "NotImplementedError"),
    ],
)
def test_effect_of_marking_on_attention_made_by_hand(attend, effect):
    assert effect_of_marking(attend) == effect


MHA, SDPA = "nn.MultiheadAttention", "F.scaled_dot_product_attention"

# As torch's documentation has it, of its version that is pinned.
EFFECTS = {
    (MHA, "key_padding_mask", "True"): "ignored",
    (MHA, "attn_mask", "True"): "ignored",
    ("nn.TransformerDecoderLayer", "tgt_key_padding_mask", "True"): "ignored",
    ("nn.TransformerDecoderLayer", "tgt_mask", "True"): "ignored",
    ("nn.TransformerEncoderLayer", "src_key_padding_mask", "True"): "ignored",
    ("nn.TransformerDecoderLayer", "memory_key_padding_mask", "True"): "ignored",
    (SDPA, "attn_mask", "True"): "the only one attended",
    (MHA, "key_padding_mask", "-inf"): "ignored",
    (SDPA, "attn_mask", "-inf"): "ignored",
    (MHA, "key_padding_mask", "1.0"): "attended like the rest",
    (SDPA, "attn_mask", "1.0"): "attended like the rest",
    ("nn.TransformerEncoderLayer", "src_key_padding_mask", "1.0"): "attended like the rest",
    # Not documented: on the fast path any float but 0 counts as True.
    ("nn.TransformerEncoderLayer, eval, no_grad", "src_key_padding_mask", "1.0"): "ignored",
    (MHA, "key_padding_mask", "1, an integer"): "AssertionError",
    (SDPA, "attn_mask", "1, an integer"): "RuntimeError",
}


def test_each_way_to_mask_does_what_torch_documents():
    assert {way: effect_of_marking(attend) for way, attend in ways_to_mask().items()} == EFFECTS


@pytest.mark.parametrize(
    "function", [ways_to_mask, lambda: empty_row_outcomes(paths_of_attention()[SDPA])]
)
def test_random_numbers_of_the_caller_are_left_alone(function):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    function()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "row_1, kind",
    [
        (lambda y: y * torch.nan, "NaN"),
        (lambda y: torch.cat([y[:3], y[3:] * torch.nan]), "NaN"),
        (lambda y: y * 0, "zeros"),
        (lambda y: torch.cat([y[:3] * 0, y[3:]]), "numbers"),
        (lambda y: y * 1e30, "numbers"),  # a loss of this row would have NaN for gradients
    ],
)
def test_empty_row_outcomes_by_hand(row_1, kind):
    seen = []

    def run(module, x, keep_mask):
        seen.append((module.training, torch.is_grad_enabled(), keep_mask.sum(1).tolist()))
        y = module(x)
        return torch.stack([y[0], row_1(y[1])])

    found = empty_row_outcomes(lambda: (nn.Linear(8, 8), run))
    assert seen == [(True, True, [2, 0]), (False, True, [2, 0]), (False, False, [2, 0])]
    modes = dict.fromkeys(["training", "eval", "eval, no_grad"], kind)
    # The loss is of the first row alone: its gradient meets NaN only where 0 is multiplied by it.
    assert found == modes | {"gradients": "NaN in 2 of 2" if kind == "NaN" else "clean"}


def test_empty_rows_are_nan_where_0_is_divided_by_0_and_never_in_sdpa():
    paths = paths_of_attention()
    for name in ("softmax by hand, -inf", MHA):
        outcomes = empty_row_outcomes(paths[name])
        assert outcomes.pop("gradients").startswith("NaN in ")
        assert set(outcomes.values()) == {"NaN"}
    assert set(empty_row_outcomes(paths[SDPA]).values()) == {"zeros", "clean"}


@pytest.mark.parametrize("name", paths_of_attention())
def test_eval_without_gradients_differs_by_the_fast_path_alone(name):
    make = paths_of_attention()[name]
    flags = torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled(), warnings.filters[:]
    with_it = empty_row_outcomes(make)
    after = torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled(), warnings.filters[:]
    assert after == flags
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        without = empty_row_outcomes(make)
    finally:
        torch.backends.mha.set_fastpath_enabled(flags[0])
    assert without == with_it | {"eval, no_grad": with_it["eval"]}
