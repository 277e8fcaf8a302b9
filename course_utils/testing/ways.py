"""Five ways to let the steps of a flat batch attend within their sequence, and a trial of each.

Each way is `make(cu_seqlens, causal)`, which gives `attend(q, k, v)` on tensors (H, S, D).
(Chapter 08.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.batches.flat import (
    attend_within,
    cu_seqlens_to_document_id,
    lengths_to_cu_seqlens,
)
from course_utils.batches.rows import document_mask
from course_utils.testing.capabilities import Answer, forward_and_gradient, one_graph

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Way = Callable[[Tensor, bool], Attend]


def dense_mask(cu_seqlens: Tensor, causal: bool) -> Attend:
    """Give SDPA a document mask (S, S): it computes all pairs, and hides most of them."""
    mask = document_mask(cu_seqlens_to_document_id(cu_seqlens)[None], causal)
    return lambda q, k, v: F.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=mask
    )[0]


def jagged(cu_seqlens: Tensor, causal: bool) -> Attend:
    """Give SDPA nested tensors of jagged layout, (B, H, ragged, D)."""

    borders = cu_seqlens.long()

    def nest(one: Tensor) -> Tensor:
        values = one.transpose(0, 1).contiguous()  # (S, H, D)
        return torch.nested.nested_tensor_from_jagged(values, borders).transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output = F.scaled_dot_product_attention(nest(q), nest(k), nest(v), is_causal=causal)
        return output.transpose(1, 2).values().transpose(0, 1)

    return attend


def flex(cu_seqlens: Tensor, causal: bool) -> Attend:
    """Give FlexAttention a function that says which pairs; empty blocks are skipped."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    owner = cu_seqlens_to_document_id(cu_seqlens)

    def own(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        same = owner[q] == owner[kv]
        return same & (kv <= q) if causal else same

    blocks = create_block_mask(own, None, None, len(owner), len(owner), device=owner.device)
    return lambda q, k, v: flex_attention(q[None], k[None], v[None], block_mask=blocks)[0]


def varlen(cu_seqlens: Tensor, causal: bool) -> Attend:
    """Call the flash-attention kernel itself, on (S, H, D) and int32 borders."""
    from torch.nn.attention.varlen import varlen_attn

    longest, window = int(cu_seqlens.diff().max()), (-1, 0) if causal else (-1, -1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (one.transpose(0, 1) for one in (q, k, v))
        borders = cu_seqlens, cu_seqlens, longest, longest
        return varlen_attn(q, k, v, *borders, window_size=window).transpose(0, 1)

    return attend


WAYS: dict[str, Way] = {
    "one call for each length": attend_within,
    "SDPA, dense document mask": dense_mask,
    "SDPA on jagged tensors": jagged,
    "FlexAttention": flex,
    "varlen_attn": varlen,
}


def sequences_alone(cu_seqlens: Tensor, causal: bool) -> Attend:
    """Call SDPA on one sequence after the other, which is always right."""
    sizes = cu_seqlens.diff().tolist()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(*(one.split(sizes, dim=-2) for one in (q, k, v)), strict=True)
        sdpa = F.scaled_dot_product_attention
        return torch.cat([sdpa(*(one[None] for one in part), is_causal=causal)[0]
                          for part in parts], dim=-2)  # fmt: skip

    return attend


def try_way(make: Way, lengths: Sequence[int], *, heads: int = 2, D: int = 16) -> dict[str, Answer]:
    """Try a way on this machine, in float32: is it what each sequence gets alone?

    Args:
        make: the way.
        lengths: of the sequences.
        heads, D: of the random queries, keys and values.
    Returns:
        "forward", "gradient", "causal forward", "causal gradient", and "one graph" under
        `torch.compile` -> Answer.

    >>> {question: str(one) for question, one in try_way(attend_within, [3, 5]).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'forward': 'right', 'gradient': 'right', 'causal forward': 'right',
     'causal gradient': 'right', 'one graph': 'right'}
    """
    cu_seqlens = lengths_to_cu_seqlens(lengths)
    generator = torch.Generator().manual_seed(0)
    qkv = list(torch.randn(3, heads, sum(lengths), D, generator=generator))

    def late(causal: bool) -> Attend:  # made when called, so that it is a refusal of the attention
        return lambda q, k, v: make(cu_seqlens, causal)(q, k, v)

    found: dict[str, Answer] = {}
    for causal, prefix in ((False, ""), (True, "causal ")):
        answers = forward_and_gradient(late(causal), sequences_alone(cu_seqlens, causal), qkv)
        found |= {f"{prefix}{question}": answer for question, answer in answers.items()}
    attend = make(cu_seqlens, True) if found["causal forward"] else late(True)
    truth, gradient = sequences_alone(cu_seqlens, True), bool(found["causal gradient"])
    found["one graph"] = one_graph(attend, truth, qkv, gradient=gradient)
    return found


def first_refusal(answers: Mapping[str, Answer], most: int = 150) -> str:
    """Say why a way refused: its error's first sentences, as far as they fit; "" where it did not.

    >>> why = "Error: No. Please set a. See b."
    >>> first_refusal({"forward": Answer("refused", why=why)}, most=25)
    'Error: No. Please set a.'
    """
    why = next((answer.why for answer in answers.values() if answer.why), "")
    said, *more = why.split(". ")
    for sentence in more:
        if len(said) + len(sentence) + 2 > most:
            return f"{said}."
        said += f". {sentence}"
    return said
