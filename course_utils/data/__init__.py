"""Real ragged data that comes with the course: utterances, paragraphs, lengths of Wikipedia.

What makes batches from them is in ``course_utils.batches``.
"""

from course_utils.data.loaders import (
    Utterances,
    japanese_vowels,
    published_accuracies,
    python_docs_paragraphs,
    spread_lengths,
    wikipedia_length_counts,
)

__all__ = [
    "Utterances",
    "japanese_vowels",
    "published_accuracies",
    "python_docs_paragraphs",
    "spread_lengths",
    "wikipedia_length_counts",
]
