"""Real ragged data that needs no download."""

from __future__ import annotations

import functools
import pathlib
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batches.checks import check_lengths, check_whole


class Utterances(NamedTuple):
    """Labelled sequences of different lengths.

    Attributes:
        sequences: one (T_i, D) float32 tensor for each utterance.
        labels: (N,) int64, the class of each utterance.
    """

    sequences: list[Tensor]
    labels: Tensor


@functools.cache
def japanese_vowels(split: str = "train") -> Utterances:
    """Load the JapaneseVowels utterances: who of nine speakers said /ae/?

    Each utterance is 7 to 29 frames of 12 LPC cepstral coefficients. There are 270 utterances to
    train on, and 370 to test on. The files are part of sktime; nothing is downloaded. They are
    loaded once, and every call gives the same tensors: clone one before you change it in place.

    Args:
        split: "train" or "test", the official split.
    Returns:
        Utterances: sequences of shape (T_i, 12) and labels 0 to 8.
    Raises:
        ValueError: `split` is neither "train" nor "test".

    Source: Kudo, Toyama and Shimbo (1999), https://doi.org/10.24432/C5NS47 (CC BY 4.0).
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", not {split!r}.')
    # Imported here: sktime takes over a second to import, and most of the course does not need it.
    from sktime.datasets import load_japanese_vowels

    frames, labels = load_japanese_vowels(split=split, return_type="df-list")
    return Utterances(
        [torch.tensor(frame.to_numpy(), dtype=torch.float32) for frame in frames],
        torch.tensor([int(label) - 1 for label in labels]),
    )


def published_accuracies() -> dict[str, list[float]]:
    """Return what others have published for the test set of `japanese_vowels`.

    Returns:
        source -> accuracies, 0 to 1.

    Source: the table of https://github.com/tgcsaba/KSig (Tóth, Oberhauser and Szabó, 2023), and for
    1999 the authors of the data, as reported in the repository esling/esling.github.io.
    """
    return {
        "eight kernel methods and features, 2023": [
            *(0.978, 0.978, 0.986, 0.986),
            *(0.955, 0.981, 0.981, 0.979),
        ],
        "two methods of 1999": [0.941, 0.962],
    }


@functools.cache
def python_docs_paragraphs() -> list[list[str]]:
    """Load the paragraphs of Python's own help texts, each a list of words.

    2,608 paragraphs of 1 to 780 words: most are short, a few are very long. Python's own copy
    changes with each release, 3.11.2 to 3.11.7 included; this one stays, so that a notebook shows
    the same numbers on every Python. It is loaded once, and every call gives the same lists.

    Returns:
        A list of paragraphs in the order of the topics' names; a paragraph is the list of its
        words, and never empty.

    Source: `pydoc_data.topics` of Python 3.11.7 (PSF licence, in the file beside it).
    """
    text = pathlib.Path(__file__).with_name("python_docs.txt").read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines()]


@functools.cache
def wikipedia_length_counts() -> Tensor:
    """Load how many sequences of each length there are in the Wikipedia that BERT was trained on.

    These are only the lengths, not the texts: 16,279,552 sequences of 5 to 512 tokens, almost a
    quarter of them cut off at 512. They are loaded once, and every call gives the same tensor.

    Returns:
        (513,) int64, the number of sequences of 0, 1, ..., 512 tokens.

    Source: Krell et al., https://arxiv.org/abs/2107.02027, as published beside the paper (MIT
    licence, in the file).
    """
    numbers = pathlib.Path(__file__).with_name("wikipedia_lengths.txt").read_text().splitlines()
    return torch.tensor([int(n) for line in numbers if line[0] != "#" for n in line.split()])


def spread_lengths(lengths: Tensor, spread: int, count: int) -> Tensor:
    """Pick real lengths from a window around their median.

    Args:
        lengths: (N,) integers of at least 1, the real lengths to pick from.
        spread: the window's width in percent: 0 picks only the median, 100 picks from all lengths.
        count: how many to pick, evenly over the window, its longest included.
    Returns:
        (count,) int64, shuffled the same way every time.
    Raises:
        TypeError: `lengths` is not a tensor of integers.
        ValueError: `lengths` is not 1-D or is empty, a length is not at least 1, `spread` is not in
            0..100, or `count` is not a whole number of at least 1.

    >>> spread_lengths(torch.tensor([1, 2, 3, 4, 9]), 0, 2).tolist()
    [3, 3]
    """
    check_lengths(lengths)
    check_whole("count", count, 1)
    if not 0 <= spread <= 100:
        raise ValueError(f"spread is {spread}: give 0 to 100 percent.")
    ordered = lengths.long().sort().values
    middle, half = (len(ordered) - 1) / 2, (len(ordered) - 1) / 2 * spread / 100
    places = torch.linspace(middle - half, middle + half, count) if count > 1 else [middle + half]
    picked = ordered[torch.as_tensor(places).round().long()]
    return picked[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
