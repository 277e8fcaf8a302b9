"""The data is what its source documents, and needs no network."""

import socket

import doctor
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.data import (
    japanese_vowels,
    python_docs_paragraphs,
    spread_lengths,
    wikipedia_length_counts,
)
from tests.ragged import few, refuses


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    japanese_vowels.cache_clear()
    python_docs_paragraphs.cache_clear()
    wikipedia_length_counts.cache_clear()


@pytest.mark.parametrize(
    "split, per_speaker, longest",
    [("train", [30] * 9, 26), ("test", [31, 35, 88, 44, 29, 24, 40, 50, 29], 29)],
)
def test_japanese_vowels_are_as_documented(no_network, split, per_speaker, longest):
    sequences, labels = japanese_vowels(split)
    assert len(sequences) == len(labels) == sum(per_speaker)
    assert labels.dtype == torch.int64 and labels.bincount().tolist() == per_speaker
    lengths = [len(one) for one in sequences]
    assert (min(lengths), max(lengths)) == (7, longest)
    for one in sequences:
        assert one.shape[1:] == (12,) and one.dtype == torch.float32 and one.isfinite().all()


def test_japanese_vowels_are_in_the_order_of_the_source():
    # The first numbers of the file: speaker 1, frame 1, coefficients 1 to 3.
    sequences, labels = japanese_vowels()
    torch.testing.assert_close(sequences[0][0, :3], torch.tensor([1.860936, -0.207383, 0.261557]))
    assert labels.tolist() == sorted(labels.tolist())
    assert japanese_vowels() is not japanese_vowels("test")


@pytest.mark.parametrize("split", ["Train", "", None, 0])
def test_japanese_vowels_refuse_another_split(split):
    refuses(ValueError, ["split", repr(split), '"train" or "test"'], japanese_vowels, split)


def test_python_docs_are_words_with_a_long_tail(no_network):
    paragraphs = python_docs_paragraphs()
    lengths = torch.tensor([len(words) for words in paragraphs])
    assert all(word and not word.isspace() for words in paragraphs for word in words)
    # The same on every Python: what the notebooks show of them is compared.
    assert (len(paragraphs), int(lengths.sum()), int(lengths.max())) == (2608, 65501, 780)
    assert lengths.min() >= 1 and lengths.max() > 20 * lengths.median()


def test_python_docs_are_the_texts_of_python():
    """Most paragraphs are in this Python's own copy too, word for word."""
    from pydoc_data.topics import topics

    own = {tuple(part.split()) for text in topics.values() for part in text.split("\n\n")}
    paragraphs = python_docs_paragraphs()
    assert sum(tuple(words) in own for words in paragraphs) > len(paragraphs) / 2


def test_python_docs_come_with_their_licence():
    licence = (doctor.ROOT / "course_utils/data/python_docs_licence.txt").read_text()
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence
    assert "Python Software Foundation;\nAll Rights Reserved" in licence


def test_wikipedia_lengths_are_as_published(no_network):
    counts = wikipedia_length_counts()
    assert counts.shape == (513,) and counts.dtype == torch.int64
    assert counts.sum() == 16_279_552 and counts.min() == 0
    assert counts.nonzero()[0] == 5 and counts.argmax() == 512
    padded_fill = int(counts @ torch.arange(513)) / (512 * 16_279_552)
    assert padded_fill == pytest.approx(0.4997, abs=5e-5)


numbers = st.lists(st.integers(1, 500), min_size=1, max_size=40)


@few
@given(numbers, st.integers(0, 100), st.integers(1, 50))
def test_spread_picks_real_lengths_the_same_each_time(lengths, spread, count):
    given_lengths = torch.tensor(lengths)
    picked = spread_lengths(given_lengths, spread, count)
    assert picked.shape == (count,) and picked.dtype == torch.int64
    assert set(picked.tolist()) <= set(lengths)
    assert torch.equal(picked, spread_lengths(given_lengths, spread, count))
    assert given_lengths.tolist() == lengths


@few
@given(numbers, st.integers(1, 50))
def test_spread_0_is_the_median_and_100_reaches_both_ends(lengths, count):
    ordered = sorted(lengths)
    medians = {ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]}
    alone = spread_lengths(torch.tensor(lengths), 0, count)
    assert len(set(alone.tolist())) == 1 and alone[0].item() in medians
    everything = spread_lengths(torch.tensor(lengths), 100, count)
    assert everything.max() == ordered[-1]
    if count > 1:
        assert everything.min() == ordered[0]


@few
@given(numbers, st.integers(2, 50), st.integers(0, 90))
def test_a_wider_spread_holds_the_narrower(lengths, count, spread):
    narrow = spread_lengths(torch.tensor(lengths), spread, count)
    wide = spread_lengths(torch.tensor(lengths), spread + 10, count)
    assert wide.min() <= narrow.min() and narrow.max() <= wide.max()


def test_spread_100_of_as_many_is_all_of_them_in_another_order():
    lengths = torch.arange(1, 31, dtype=torch.int32)
    picked = spread_lengths(lengths, 100, 30)
    assert picked.dtype == torch.int64
    assert spread_lengths(lengths, 100, 4).tolist() == [1, 11, 30, 20]
    assert picked.sort().values.tolist() == lengths.tolist() != picked.tolist()


@pytest.mark.parametrize(
    "lengths, spread, count, error, words",
    [
        (torch.tensor([1]), -1, 1, ValueError, ["spread is -1", "0 to 100"]),
        (torch.tensor([1]), 101, 1, ValueError, ["spread is 101", "0 to 100"]),
        (torch.tensor([1]), 0, 0, ValueError, ["count is 0", "at least 1"]),
        ([1, 2], 0, 1, TypeError, ["lengths", "torch.tensor(lengths)"]),
        (torch.tensor([1.0]), 0, 1, TypeError, ["lengths", ".long()"]),
        (torch.tensor([[1]]), 0, 1, ValueError, ["lengths", "(1, 1)"]),
        (
            torch.tensor([], dtype=torch.int64),
            0,
            1,
            ValueError,
            ["lengths is empty", "at least one"],
        ),
    ],
)
def test_spread_refuses(lengths, spread, count, error, words):
    refuses(error, words, spread_lengths, lengths, spread, count)
