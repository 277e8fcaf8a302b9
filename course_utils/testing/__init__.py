"""Together equals alone: does putting samples into one batch change what a model says of them?

These modules ask a model that question, and report its answers. They need torch alone. What to do
about an answer, such as masks and layers, is in the course's other modules.
"""

from course_utils.testing.adapters import Adapter, hugging_face, packed_batch, padded_batch
from course_utils.testing.alone import Report, leak_map, together_equals_alone
from course_utils.testing.invariance import (
    InvarianceReport,
    Question,
    assert_batch_invariant,
    batch_invariance,
)

__all__ = [
    "Adapter",
    "InvarianceReport",
    "Question",
    "Report",
    "assert_batch_invariant",
    "batch_invariance",
    "hugging_face",
    "leak_map",
    "packed_batch",
    "padded_batch",
    "together_equals_alone",
]
