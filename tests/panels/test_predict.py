"""A prediction is made, remembered, and shown beside what came out."""

import pytest

from course_utils.panels.predict import Predict, predict


def test_what_was_picked_stands_beside_what_came_out():
    choice = predict("LSTM", "GRU")
    assert repr(choice.came_out("GRU")) == "Result: GRU.", "nothing was picked"
    choice.set_state({"made": True, "picked": ["LSTM"]})
    assert repr(choice.came_out("GRU")) == "You predicted: LSTM. Result: GRU."
    assert choice.came == ["GRU"], "the choice shows it too"
    choice.set_state({"picked": ["GRU"]})
    assert choice.came_out("GRU").right and "As you predicted" in repr(choice.came_out("GRU"))


def test_several_in_any_order_and_none_of_them():
    choice = Predict(("a", "b", "c"), several=True)
    choice.set_state({"made": True, "picked": ["c", "a"]})
    assert choice.came_out("a", "c").right
    assert not choice.came_out("a").right
    choice.set_state({"picked": []})
    assert choice.came_out().right
    assert repr(choice.came_out()) == "✓ As you predicted: none of them."


def test_a_saved_notebook_lists_the_options_and_nothing_of_the_machine():
    data, _ = Predict(("<b>", "other"), several=False)._repr_mimebundle_()
    assert data["text/plain"] == "Your prediction: <b> / other"
    assert "<li>&lt;b&gt;</li><li>other</li>" in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        predict("one")
    with pytest.raises(ValueError, match="alike"):
        predict("one", "one")
    with pytest.raises(ValueError, match=r"\['x'\]: give some of the options"):
        predict("one", "two").came_out("x")
