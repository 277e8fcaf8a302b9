"""Exercises of chapter 04, Transformer key-padding masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.exercises.engine import Exercise, Misconception
from course_utils.masks import lengths_to_keep_mask

_LENGTHS = [[2, 1], [1, 3], [3, 1, 2], [2, 2], [4, 2, 3], [1, 5, 5, 2]]


def _hugging_face_cases():
    return [
        (lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + seed % 2).long(),)
        for seed, lengths in enumerate(_LENGTHS)
    ]


def convert(attention_mask):
    keep_mask = attention_mask.bool()
    return ~keep_mask, keep_mask[:, None, None, :]


def _no_bool(attention_mask):
    return ~attention_mask, attention_mask.bool()[:, None, None, :]


def _flat_inverted(attention_mask):
    return attention_mask.bool(), ~attention_mask.bool()


def _both_keep_flat(attention_mask):
    return attention_mask.bool(), attention_mask.bool()


def _both_ignore_flat(attention_mask):
    return ~attention_mask.bool(), ~attention_mask.bool()


def _inverted_floats(attention_mask):
    return tuple(mask.float() for mask in _both_inverted(attention_mask))


def _second_float(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return key_padding_mask, sdpa_mask.float()


def _second_integer(attention_mask):
    return convert(attention_mask)[0], attention_mask[:, None, None, :]


def _as_it_comes(attention_mask):
    return attention_mask, attention_mask[:, None, None, :]


def _swapped(attention_mask):
    return convert(attention_mask)[::-1]


def _both_inverted(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return ~key_padding_mask, ~sdpa_mask


def _first_inverted(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return ~key_padding_mask, sdpa_mask


def _second_inverted(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return key_padding_mask, ~sdpa_mask


def _as_floats(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return key_padding_mask.float(), sdpa_mask.float()


def _as_integers(attention_mask):
    return 1 - attention_mask, attention_mask[:, None, None, :]


def _tilde_on_integers(attention_mask):
    return (~attention_mask).bool(), attention_mask.bool()[:, None, None, :]


def _queries_masked(attention_mask):
    key_padding_mask, sdpa_mask = convert(attention_mask)
    return key_padding_mask, sdpa_mask.transpose(2, 3)


def _two_dimensions(attention_mask):
    return attention_mask == 0, attention_mask == 1


def _snippet_cases():
    cases = []
    for seed, lengths in enumerate([[2, 1, 3], [3, 2, 3], [4, 2], [1, 4, 4, 2], [5, 3, 7]]):
        generator = torch.Generator().manual_seed(seed)
        keep = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + seed % 2)
        padded = torch.randn(*keep.shape, 10, generator=generator).round(decimals=1)
        junk = 3.0 if seed % 2 else 0.0
        cases.append((padded.masked_fill(~keep[..., None], junk), torch.tensor(lengths)))
    return cases


def encode(padded, lengths):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(d_model=10, nhead=2, dropout=0.0, batch_first=True)
    keep_mask = torch.arange(padded.shape[1]) < lengths[:, None]
    output = layer(padded, src_key_padding_mask=~keep_mask)
    return output.masked_fill(~keep_mask[..., None], 0)


def _encode(padded, lengths, key_padding_mask, batch_first=True, fill=True):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(d_model=10, nhead=2, dropout=0.0, batch_first=batch_first)
    output = layer(padded, src_key_padding_mask=key_padding_mask)
    padding = torch.arange(padded.shape[1]) >= lengths[:, None]
    return output.masked_fill(padding[..., None], 0) if fill else output


def _padding(padded, lengths):
    return torch.arange(padded.shape[1]) >= lengths[:, None]


def _as_found(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths), batch_first=False, fill=False)


def _as_found_filled(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths), batch_first=False)


def _transposed_mask(padded, lengths):
    output = _encode(padded, lengths, _padding(padded, lengths).T, batch_first=False, fill=False)
    return output.masked_fill(_padding(padded, lengths)[..., None], 0)


def _as_found_inverted(padded, lengths):
    keep_mask = ~_padding(padded, lengths)
    return _encode(padded, lengths, keep_mask, batch_first=False, fill=False)


def _as_found_inverted_filled(padded, lengths):
    return _encode(padded, lengths, ~_padding(padded, lengths), batch_first=False)


def _encode_inverted_unfilled(padded, lengths):
    return _encode(padded, lengths, ~_padding(padded, lengths), fill=False)


def _encode_unmasked_unfilled(padded, lengths):
    return _encode(padded, lengths, None, fill=False)


def _encode_one_too_many_unfilled(padded, lengths):
    late = torch.arange(padded.shape[1]) > lengths[:, None]
    return _encode(padded, lengths, late, fill=False)


def _encode_floats_unfilled(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths).float(), fill=False)


def _encode_keep_floats(padded, lengths):
    return _encode(padded, lengths, (~_padding(padded, lengths)).float())


def _transposed_mask_unfilled(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths).T, batch_first=False, fill=False)


def _wrong_side_filled(padded, lengths):
    padding = _padding(padded, lengths)
    output = _encode(padded, lengths, padding, fill=False)
    return output.masked_fill(~padding[..., None], 0)


def _encode_inverted(padded, lengths):
    return _encode(padded, lengths, ~_padding(padded, lengths))


def _encode_unmasked(padded, lengths):
    return _encode(padded, lengths, None)


def _encode_one_too_many(padded, lengths):
    late = torch.arange(padded.shape[1]) > lengths[:, None]
    return _encode(padded, lengths, late)


def _encode_floats(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths).float())


def _encode_unfilled(padded, lengths):
    return _encode(padded, lengths, _padding(padded, lengths), fill=False)


def _safe_cases():
    cases = []
    for seed, lengths in enumerate([[1, 0], [2, 1], [0, 2], [3, 0, 1], [2, 2], [4, 0, 0, 3]]):
        generator = torch.Generator().manual_seed(seed)
        keep_mask = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + seed % 2)
        qkv = torch.randn(3, *keep_mask.shape, 2, generator=generator).round(decimals=1)
        cases.append((*(one.clone().requires_grad_() for one in qkv), keep_mask))
    return cases


def safe_attention(query, key, value, keep_mask):
    keep = keep_mask[:, None, :]
    empty = ~keep.any(dim=2, keepdim=True)
    scores = query @ key.transpose(1, 2) / query.shape[2] ** 0.5
    # A row with no key keeps its scores, so that its softmax is finite, and is then set to 0.
    weights = scores.masked_fill(~keep & ~empty, -torch.inf).softmax(dim=2)
    return weights.masked_fill(empty, 0) @ value


def _opened_not_zeroed(query, key, value, keep_mask):
    opened = keep_mask.clone()
    opened[~keep_mask.any(dim=1), 0] = True
    return _minus_infinity(query, key, value, opened)


def _unmasked_attention(query, key, value, keep_mask):
    return _scores(query, key).softmax(2) @ value


def _scores_of_zero(query, key, value, keep_mask):
    return (_scores(query, key) * keep_mask[:, None]).softmax(2) @ value


def _inverted_large(query, key, value, keep_mask):
    return _scores(query, key).masked_fill(keep_mask[:, None], -1e9).softmax(2) @ value


def _inverted_swept(query, key, value, keep_mask):
    return _inverted_plain(query, key, value, keep_mask).nan_to_num()


def _inverted_after(query, key, value, keep_mask):
    weights = _scores(query, key).softmax(2)
    return weights.masked_fill(keep_mask[:, None], 0) @ value


def _ones_added(query, key, value, keep_mask):
    return (_scores(query, key) + keep_mask[:, None].float()).softmax(2) @ value


def _scores(query, key):
    return query @ key.transpose(1, 2) / query.shape[2] ** 0.5


def _minus_infinity(query, key, value, keep_mask):
    return _scores(query, key).masked_fill(~keep_mask[:, None], -torch.inf).softmax(2) @ value


def _swept_away(query, key, value, keep_mask):
    return _minus_infinity(query, key, value, keep_mask).nan_to_num()


def _swept_weights(query, key, value, keep_mask):
    added = torch.zeros(keep_mask.shape).masked_fill(~keep_mask, -torch.inf)
    return (_scores(query, key) + added[:, None]).softmax(2).nan_to_num() @ value


def _smallest_number(query, key, value, keep_mask):
    least = torch.finfo(query.dtype).min
    return _scores(query, key).masked_fill(~keep_mask[:, None], least).softmax(2) @ value


def _inverted_attention(query, key, value, keep_mask):
    return safe_attention(query, key, value, ~keep_mask)


def _inverted_plain(query, key, value, keep_mask):
    return _scores(query, key).masked_fill(keep_mask[:, None], -torch.inf).softmax(2) @ value


def _after_softmax(query, key, value, keep_mask):
    weights = _scores(query, key).softmax(2)
    return weights.masked_fill(~keep_mask[:, None], 0) @ value


def _queries_not_keys(query, key, value, keep_mask):
    weights = _scores(query, key).softmax(2)
    return weights.masked_fill(~keep_mask[..., None], 0) @ value


def _not_scaled(query, key, value, keep_mask):
    return safe_attention(query * query.shape[2] ** 0.5, key, value, keep_mask)


def _decoder_cases():
    cases = []
    pairs = [([2, 1], [2, 1]), ([2, 3], [3, 1]), ([1, 2], [3, 2]), ([3, 1, 2], [2, 3, 3])]
    for seed, (targets, sources) in enumerate(pairs):
        torch.manual_seed(seed)
        decoder = nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        keeps = [lengths_to_keep_mask(torch.tensor(lengths)) for lengths in (targets, sources)]
        target, memory = (torch.randn(*keep.shape, 4).round(decimals=1) for keep in keeps)
        cases.append((decoder, target, memory, *keeps))
    return cases


def decode(decoder, target, memory, target_keep_mask, memory_keep_mask):
    steps = target.shape[1]
    future = torch.ones(steps, steps, dtype=torch.bool).triu(diagonal=1)
    output = decoder(
        target,
        memory,
        tgt_mask=future,
        tgt_key_padding_mask=~target_keep_mask,
        memory_key_padding_mask=~memory_keep_mask,
    )
    return output.masked_fill(~target_keep_mask[..., None], 0)


def _future(target):
    return torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(diagonal=1)


def _decoding(masks, fill=True):
    """Make a wrong answer: `masks(target, own, other)` gives arguments, of True = padding."""

    def wrong(decoder, target, memory, target_keep_mask, memory_keep_mask):
        own, other = ~target_keep_mask, ~memory_keep_mask
        given = {"tgt_mask": _future(target), "tgt_key_padding_mask": own}
        output = decoder(target, memory, **given | masks(target, own, other))
        return output.masked_fill(own[..., None], 0) if fill else output

    return wrong


def _filled_or_not(masks):
    return _decoding(masks), _decoding(masks, fill=False)


_no_memory_mask = _filled_or_not(lambda target, own, other: {})
_targets_mask = _filled_or_not(lambda target, own, other: {"memory_key_padding_mask": own})
_inverted_memory = _filled_or_not(lambda target, own, other: {"memory_key_padding_mask": ~other})
_inverted_target = _filled_or_not(
    lambda target, own, other: {
        "tgt_key_padding_mask": ~own,
        "memory_key_padding_mask": other,
    }
)
_inverted_both = _filled_or_not(
    lambda target, own, other: {
        "tgt_key_padding_mask": ~own,
        "memory_key_padding_mask": ~other,
    }
)
_all_inverted = _filled_or_not(
    lambda target, own, other: {
        "tgt_mask": ~_future(target),
        "tgt_key_padding_mask": ~own,
        "memory_key_padding_mask": ~other,
    }
)
_sees_the_future = _filled_or_not(
    lambda target, own, other: {"tgt_mask": None, "memory_key_padding_mask": other}
)
_sees_only_the_future = _filled_or_not(
    lambda target, own, other: {"tgt_mask": ~_future(target), "memory_key_padding_mask": other}
)
_hides_itself = _filled_or_not(
    lambda target, own, other: {
        "tgt_mask": torch.ones_like(_future(target)).triu(),
        "memory_key_padding_mask": other,
    }
)
_unfilled = _decoding(lambda target, own, other: {"memory_key_padding_mask": other}, fill=False)
_unfilled_without_own = _decoding(
    lambda target, own, other: {"tgt_key_padding_mask": None, "memory_key_padding_mask": other},
    fill=False,
)


def _road_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        key_padding_mask = ~lengths_to_keep_mask(torch.tensor(lengths))
        shape = (3, len(lengths), 2, max(lengths), 4)
        qkv = torch.randn(shape, generator=generator).round(decimals=1)
        cases += [(*qkv, key_padding_mask, causal) for causal in (False, True)]
    return cases


def fast_road(query, key, value, key_padding_mask, causal):
    allowed = ~key_padding_mask[:, None, None, :]
    if causal:
        steps = query.shape[2]
        allowed = allowed & torch.ones(steps, steps, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def _as_it_came(query, key, value, key_padding_mask, causal):
    mask = key_padding_mask[:, None, None, :]
    if causal:
        mask = mask | torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).triu(1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _padding_inverted(query, key, value, key_padding_mask, causal):
    return fast_road(query, key, value, ~key_padding_mask, causal)


def _added_floats(query, key, value, key_padding_mask, causal):
    allowed = ~key_padding_mask[:, None, None, :]
    if causal:
        allowed = allowed & torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed.float())


def _causal_part(query):
    return torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()


def _as_found_never_causal(query, key, value, key_padding_mask, causal):
    mask = key_padding_mask[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _as_found_is_causal(query, key, value, key_padding_mask, causal):
    mask = key_padding_mask[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


def _inverted_or_past(query, key, value, key_padding_mask, causal):
    mask = key_padding_mask[:, None, None, :]
    mask = mask | _causal_part(query) if causal else mask
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _sees_later_ones(query, key, value, key_padding_mask, causal, diagonal=1):
    allowed = ~key_padding_mask[:, None, None, :]
    allowed = allowed & torch.ones_like(_causal_part(query)).triu(diagonal) if causal else allowed
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def _sees_itself_and_later(query, key, value, key_padding_mask, causal):
    return _sees_later_ones(query, key, value, key_padding_mask, causal, diagonal=0)


def _floats_never_causal(query, key, value, key_padding_mask, causal):
    mask = (~key_padding_mask[:, None, None, :]).float()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _padding_floats_never_causal(query, key, value, key_padding_mask, causal):
    mask = key_padding_mask[:, None, None, :].float()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _padding_dropped(query, key, value, key_padding_mask, causal):
    if causal:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return fast_road(query, key, value, key_padding_mask, False)


def _never_causal(query, key, value, key_padding_mask, causal):
    return fast_road(query, key, value, key_padding_mask, False)


def _either(query, key, value, key_padding_mask, causal):
    allowed = ~key_padding_mask[:, None, None, :]
    if causal:
        allowed = allowed | torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


EXERCISES = [
    Exercise(
        id="04.1",
        title="Three conventions",
        minutes=5,
        task=(
            "`attention_mask` (B, T) comes from a Hugging Face tokenizer: integers, 1 = real. "
            "Return two bool tensors: the `key_padding_mask` (B, T) for `nn.MultiheadAttention`, "
            "and the `attn_mask` (B, 1, 1, T) for `F.scaled_dot_product_attention`."
        ),
        hints=(
            "Make one keep mask first, True = real. Which of the two functions wants just that, "
            "and which its opposite?",
            "`.bool()` first: `~` on an integer is not a logical not. `[:, None, None, :]` adds "
            "the dimensions of the heads and of the queries.",
        ),
        solution=convert,
        cases=_hugging_face_cases,
        misconceptions=(
            Misconception(
                "both masks are inverted",
                _both_inverted,
                "Exactly the wrong way round: `key_padding_mask` is True at *padding*, and a bool "
                "`attn_mask` of `F.scaled_dot_product_attention` is True where to *attend*.",
                (_flat_inverted, _inverted_floats),
            ),
            Misconception(
                "the key padding mask is inverted",
                _first_inverted,
                "`nn.MultiheadAttention` ignores the keys where `key_padding_mask` is True, so it "
                "must be True at padding.",
                (_both_keep_flat,),
            ),
            Misconception(
                "the SDPA mask is inverted",
                _second_inverted,
                "`F.scaled_dot_product_attention` attends to the keys where a bool `attn_mask` is "
                "True: there it must be True at real steps.",
                (_both_ignore_flat,),
            ),
            Misconception(
                "floats are added",
                _as_floats,
                "The right places, but as floats: those are *added* to the scores. 1.0 makes a "
                "key a little more likely, and hides nothing. Return bool.",
                (_second_float,),
            ),
            Misconception(
                "integers",
                _as_integers,
                "The right places, but as integers, which both functions refuse. Return bool.",
                (_second_integer,),
            ),
            Misconception(
                "handed on as it came",
                _as_it_comes,
                "Integers are refused by both functions; and `key_padding_mask` needs the opposite "
                "polarity. Use `.bool()`, and `~` for one of the two.",
            ),
            Misconception(
                "in the wrong order",
                _swapped,
                "Both are right: return the `key_padding_mask` first.",
            ),
            Misconception(
                "~ on integers",
                _tilde_on_integers,
                "`~1` is -2 and `~0` is -1: both count as True, so every key would be ignored. Use "
                "`.bool()` before `~`.",
                (_no_bool,),
            ),
            Misconception(
                "queries masked in place of keys",
                _queries_masked,
                "Your mask has the shape (B, 1, T, 1): it switches off whole queries, and lets "
                "every other query look at the padding. The keys are the last dimension.",
            ),
            Misconception(
                "two dimensions only",
                _two_dimensions,
                "(B, T) would be read as (queries, keys). Add dimensions for heads and queries: "
                "`[:, None, None, :]`.",
            ),
        ),
    ),
    Exercise(
        id="04.2",
        title="Repair the encoder snippet",
        minutes=8,
        task=(
            "Repair the second snippet of chapter 00, as it stands above. `padded` (B, T, 10), "
            "`lengths` (B,). Begin with `torch.manual_seed(0)` and make the layer right after it, "
            "with `d_model=10, nhead=2, dropout=0.0` and what else it needs. Return its output "
            "(B, T, 10), with 0 at the padding."
        ),
        hints=(
            "By default, a Transformer layer takes (T, B, D). So it read your sequences as steps. "
            "Where B = T, it does not even complain.",
            "`batch_first=True`. The mask is right already, if you make it from `padded.shape[1]`. "
            "Fill the output: `masked_fill(~keep_mask[..., None], 0)`.",
        ),
        solution=encode,
        cases=_snippet_cases,
        misconceptions=(
            Misconception(
                "batch_first is missing",
                _as_found,
                "The layer reads (T, B, D) unless told `batch_first=True`. With B different from T "
                "it complains about the mask; with B = T it says nothing, and lets step i of one "
                "sequence attend to step i of the others.",
            ),
            Misconception(
                "batch_first is missing still",
                _as_found_filled,
                "The padding is filled, but the layer reads (T, B, D) unless told "
                "`batch_first=True`: sequences attend to each other.",
            ),
            Misconception(
                "the mask transposed until it fits",
                _transposed_mask,
                "Transposing the mask stops the error, not the fault: the layer still takes the "
                "sequences for steps. Use `batch_first=True`.",
                (_transposed_mask_unfilled,),
            ),
            Misconception(
                "the mask is inverted, and batch_first is missing",
                _as_found_inverted,
                "Two faults: `src_key_padding_mask` is True where to *ignore*, and the layer reads "
                "(T, B, D) unless told `batch_first=True`.",
                (_as_found_inverted_filled,),
            ),
            Misconception(
                "the mask is inverted",
                _encode_inverted,
                "You ignore the real steps and attend to the padding: `src_key_padding_mask` is "
                "True where to ignore. And a sequence without padding has nothing left at all.",
                (_encode_inverted_unfilled,),
            ),
            Misconception(
                "no mask",
                _encode_unmasked,
                "Without `src_key_padding_mask` each step attends to the padding too.",
                (_encode_unmasked_unfilled,),
            ),
            Misconception(
                "one pad too many",
                _encode_one_too_many,
                "Steps are counted from 0: the first pad of a sequence of 3 is step 3. Padding is "
                "`steps >= lengths`, not `>`.",
                (_encode_one_too_many_unfilled,),
            ),
            Misconception(
                "a mask of floats",
                _encode_floats,
                "A float mask is added to the scores: 1.0 makes a step *more* attractive, and "
                "hides nothing. Use bool.",
                (_encode_floats_unfilled, _encode_keep_floats),
            ),
            Misconception(
                "the wrong side filled",
                _wrong_side_filled,
                "You filled the real steps and kept the padding: `masked_fill` fills where its "
                "mask is True.",
            ),
            Misconception(
                "padding left as it came out",
                _encode_unfilled,
                "The real steps are right. At the padding the layer leaves numbers that mean "
                "nothing: fill them with 0.",
            ),
        ),
    ),
    Exercise(
        id="04.3",
        title="Attention with nothing to attend to",
        minutes=8,
        task=(
            "Attention by hand: scores are `query` times `key`, divided by the square root of D; "
            "their softmax over the real keys weighs `value`. All three are (B, T, D), "
            "`keep_mask` (B, T) is True where a key is real. A sequence without any real key gets "
            "zeros. Padded queries of the other sequences attend like any query: leave what they "
            "get. No NaN anywhere, the gradients included. "
            "(`F.scaled_dot_product_attention` does it all: try to do without.)"
        ),
        hints=(
            "The softmax of a row that is -inf throughout is NaN. Replacing the NaN afterwards "
            "mends the value, but mostly not the gradient. So do not make such a row.",
            "Give an empty row finite scores (leave them unmasked), and set its *weights* to 0 "
            "after the softmax.",
        ),
        solution=safe_attention,
        cases=_safe_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "NaN in empty rows",
                _minus_infinity,
                "The softmax of -inf everywhere is 0 / 0. Rows without a key need another way.",
            ),
            Misconception(
                "NaN swept away at the end",
                _swept_away,
                "The value is right, the gradient is not: what replaces the NaN sends back 0, and "
                "on the way to `value` that 0 meets the NaN weights. Do not make the NaN at all.",
            ),
            Misconception(
                "NaN swept away in the weights",
                _swept_weights,
                "The value is right, the gradient is not: it goes back through the softmax that "
                "was NaN, and an *added* -inf lets it pass on to the scores. `masked_fill` would "
                "stop it; better not to make the NaN at all.",
            ),
            Misconception(
                "a large negative number in place of -inf",
                _smallest_number,
                "No NaN; but where all keys are masked, all scores are now equal, and the row "
                "attends to all its padding evenly. It should be 0.",
            ),
            Misconception(
                "the mask is inverted",
                _inverted_attention,
                "You attend to the padding: `keep_mask` is True where a key is real.",
                (_inverted_large, _inverted_swept, _inverted_after),
            ),
            Misconception(
                "opened, and not closed again",
                _opened_not_zeroed,
                "No NaN; but an empty row now returns its first padded value. Set it to 0.",
            ),
            Misconception(
                "no mask",
                _unmasked_attention,
                "Each query attends to the padded keys like any others: use `keep_mask`.",
            ),
            Misconception(
                "scores of 0",
                _scores_of_zero,
                "A score of 0 is an ordinary score: its exponential is 1. Use `-torch.inf`, with "
                "care for empty rows.",
                (_ones_added,),
            ),
            Misconception(
                "the mask is inverted, and NaN",
                _inverted_plain,
                "`masked_fill` fills where its mask is True: with `keep_mask` it hides the real "
                "keys. Use `~keep_mask`.",
            ),
            Misconception(
                "masked after the softmax",
                _after_softmax,
                "The padding has had its share already, so the weights of the real keys no longer "
                "add up to 1.",
            ),
            Misconception(
                "queries masked in place of keys",
                _queries_not_keys,
                "You switched off padded *queries*; the real ones still look at padded keys. The "
                "keys are the last dimension of the scores: `keep_mask[:, None, :]`.",
            ),
            Misconception(
                "not scaled",
                _not_scaled,
                "The scores must be divided by the square root of D.",
            ),
        ),
    ),
    Exercise(
        id="04.4",
        title="A decoder and its two paddings",
        minutes=8,
        task=(
            "Run `decoder`, an `nn.TransformerDecoderLayer` with `batch_first=True`, on `target` "
            "(B, L, D) and `memory` (B, S, D), the encoder's output. No target step may see a "
            "later one, and none may see padding, in the target or in the memory. Both keep masks "
            "are True where real, (B, L) and (B, S). Return (B, L, D) with 0 at padding."
        ),
        hints=(
            "Three masks: one keeps out the future, one the padding of the target, one the "
            "padding of the memory. In `nn.Transformer*`, True means ignore in all three. (One of "
            "them the real steps could do without. Which?)",
            "`tgt_mask` is `torch.ones(L, L, dtype=torch.bool).triu(1)`; then "
            "`tgt_key_padding_mask` and `memory_key_padding_mask`.",
        ),
        solution=decode,
        cases=_decoder_cases,
        misconceptions=(
            Misconception(
                "the memory's padding is seen",
                _no_memory_mask[0],
                "Without `memory_key_padding_mask`, each target step attends to the padding of its "
                "source, so a translation depends on the other sources in the batch.",
                _no_memory_mask[1:],
            ),
            Misconception(
                "the target's mask on the memory",
                _targets_mask[0],
                "The memory has lengths of its own. The target's mask fits it only by chance, and "
                "where L = S nothing complains.",
                _targets_mask[1:],
            ),
            Misconception(
                "the memory mask is inverted",
                _inverted_memory[0],
                "You ignore the real steps of the memory: `memory_key_padding_mask` is True at "
                "padding. And where nothing is padded, nothing is left.",
                _inverted_memory[1:],
            ),
            Misconception(
                "the target's padding mask is inverted",
                _inverted_target[0],
                "You ignore the real steps of the target: `tgt_key_padding_mask` is True at "
                "padding.",
                _inverted_target[1:],
            ),
            Misconception(
                "both padding masks are inverted",
                _inverted_both[0],
                "Key padding masks are True at padding; you gave keep masks as they are.",
                _inverted_both[1:],
            ),
            Misconception(
                "all three masks are inverted",
                _all_inverted[0],
                "In `nn.Transformer*` True means ignore, in all three: padding, and the future.",
                _all_inverted[1:],
            ),
            Misconception(
                "the future is seen",
                _sees_the_future[0],
                "Without a causal `tgt_mask` each step sees the later ones, which it is to "
                "predict.",
                _sees_the_future[1:],
            ),
            Misconception(
                "the causal mask is inverted",
                _sees_only_the_future[0],
                "In `nn.Transformer*` True means ignore: `tril()` hides the past, and the last "
                "step has nothing left. `triu(1)` hides the future.",
                _sees_only_the_future[1:],
            ),
            Misconception(
                "no step sees itself",
                _hides_itself[0],
                "`triu()` hides the diagonal too, so the first step has nothing to attend to: "
                "`triu(1)` begins one above it.",
                _hides_itself[1:],
            ),
            Misconception(
                "padding left as it came out",
                _unfilled,
                "The real steps are right. At the target's padding stand numbers that mean "
                "nothing: fill them with 0.",
                (_unfilled_without_own,),
            ),
        ),
    ),
    Exercise(
        id="04.5",
        title="The other road",
        minutes=8,
        task=(
            "Write the fast road so that it agrees with the slow one: "
            "`F.scaled_dot_product_attention` of `query`, `key`, `value`, each (B, heads, T, D). "
            "`key_padding_mask` (B, T) is True at padding. If `causal` is True, no step may see a "
            "later one either."
        ),
        hints=(
            "In which polarity does the mask come, and which does this function want?",
            "Some versions of it refuse `attn_mask` together with `is_causal=True`. Join the two "
            "in one mask: allowed is what is real *and* not later.",
        ),
        solution=fast_road,
        cases=_road_cases,
        misconceptions=(
            Misconception(
                "both masks are inverted",
                _as_it_came,
                "The mask went through as it came, True = ignore. This function attends where a "
                "bool mask is True.",
            ),
            Misconception(
                "the mask is inverted, as it was found",
                _as_found_never_causal,
                "That is the fault itself: the mask goes through as it came, True = ignore, and "
                "this function attends where a bool mask is True. And `causal` is not used.",
                (_inverted_or_past,),
            ),
            Misconception(
                "the padding mask is inverted",
                _padding_inverted,
                "You attend to the padding: `key_padding_mask` is True where to ignore, this "
                "function's mask where to attend.",
                (_as_found_is_causal,),
            ),
            Misconception(
                "the causal mask is inverted",
                _sees_later_ones,
                "The padding is right. But here True means attend, so `triu` lets each step see "
                "the future. Allowed is the past and itself: `tril()`.",
                (_sees_itself_and_later,),
            ),
            Misconception(
                "floats are added",
                _added_floats,
                "A float mask is added to the scores: 1.0 for real keys, 0.0 for padding hides "
                "nothing. Leave it bool.",
                (_floats_never_causal, _padding_floats_never_causal),
            ),
            Misconception(
                "causal, and the padding forgotten",
                _padding_dropped,
                "With `is_causal=True` alone the padding is forgotten. Behind the last real step, "
                "that makes a difference: padded queries see padded keys. Join both masks.",
            ),
            Misconception(
                "never causal",
                _never_causal,
                "`causal` changes nothing in your answer.",
            ),
            Misconception(
                "either in place of both",
                _either,
                "Allowed must be real *and* not later. Your mask allows what is one of the two.",
            ),
        ),
    ),
]
