"""What a function can do is told as it is: right, wrong, or refused with the reason."""

import logging
import warnings

import pytest
import torch

from course_utils.testing.capabilities import forward_and_gradient, one_graph, silent

X = torch.tensor([[1.0, -2.0], [0.5, 3.0]])


def raises(x):
    raise NotImplementedError("not on a CPU\nand more")


def no_backward(x):
    if x.requires_grad:
        raises(x)
    return x.exp()


@pytest.mark.parametrize(
    ("function", "forward", "gradient"),
    [
        (lambda x: x.exp(), "right", "right"),
        (lambda x: x.exp().detach() + 0 * x, "right", "wrong"),
        (lambda x: x.exp() + 1, "wrong", "right"),
        (lambda x: x.exp()[:1], "wrong", "wrong"),
        (lambda x: x.exp() * float("nan"), "wrong", "wrong"),
        (no_backward, "right", "refused"),
        (raises, "refused", "refused"),
    ],
)
def test_values_and_gradients_are_told_apart(function, forward, gradient):
    found = forward_and_gradient(function, torch.exp, [X])
    assert str(found["forward"]) == forward and bool(found["forward"]) == (forward == "right")
    assert found["gradient"].state == gradient


def test_a_refusal_says_why_in_one_line():
    assert forward_and_gradient(raises, torch.exp, [X])["forward"].why == (
        "NotImplementedError: not on a CPU"
    )


def test_the_arguments_are_left_as_they_were():
    leaf = X.clone().requires_grad_()
    forward_and_gradient(torch.exp, torch.exp, [leaf])
    assert leaf.grad is None and torch.equal(leaf, X)


def test_one_graph_is_one_graph():
    def broken(x):
        return x.exp() if x.sum().item() > 0 else x

    assert one_graph(torch.exp, torch.exp, [X]).state == "right"
    assert one_graph(lambda x: x + 1, torch.exp, [X]).state == "wrong"
    assert one_graph(broken, torch.exp, [X]).state == "refused"


def test_silence_ends_with_its_block(caplog):
    with pytest.warns(UserWarning, match="after"):
        with silent():
            warnings.warn("inside", stacklevel=1)
            logging.getLogger("torch.nested").error("inside")
        warnings.warn("after", stacklevel=1)
    logging.getLogger("torch.nested").error("after")
    assert [record.message for record in caplog.records] == ["after"]
