"""Each way to attend within sequences is right where it does not refuse."""

import pytest
import torch

from course_utils.testing.capabilities import Answer
from course_utils.testing.ways import WAYS, first_refusal, sequences_alone, try_way

QUESTIONS = ["forward", "gradient", "causal forward", "causal gradient", "one graph"]


@pytest.mark.parametrize("name", WAYS)
def test_no_way_is_silently_wrong(name):
    found = try_way(WAYS[name], [3, 5, 2, 5])
    assert list(found) == QUESTIONS
    assert {one.state for one in found.values()} <= {"right", "refused"}
    if name in list(WAYS)[:2]:
        assert all(found.values())
    else:
        assert first_refusal(found) or all(found.values())


def test_a_wrong_way_is_told():
    def no_borders(cu_seqlens, causal):
        return sequences_alone(cu_seqlens[[0, -1]], causal)

    states = {name: one.state for name, one in try_way(no_borders, [3, 5]).items()}
    assert set(states.values()) == {"wrong"}


def test_one_sequence_alone_is_plain_attention():
    q = torch.randn(2, 4, 8)
    alone = sequences_alone(torch.tensor([0, 4]), True)(q, q, q)
    plain = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    torch.testing.assert_close(alone, plain)


def test_whole_sentences_of_a_refusal_are_said():
    why = "NotImplementedError: no backward on CPU. Please set requires_grad to False."
    assert first_refusal({"a": Answer("right"), "b": Answer("refused", why=why)}) == why
    assert first_refusal({"a": Answer("right")}) == ""
