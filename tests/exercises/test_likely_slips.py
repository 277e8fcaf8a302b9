"""Slips that learners are likely to make, in their own words, are told by name."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from course_utils.exercises import check
from course_utils.testing import leak_map, together_equals_alone

SLIPS = []


def slip(id, name):
    """Enter a wrong answer with the name that it is to be told by."""

    def enter(function):
        SLIPS.append((id, name, function))
        return function

    return enter


def keep_of(padded, lengths):
    return torch.arange(padded.shape[1]) < lengths[:, None]


@slip("01.4", "the mask is inverted")
def inverted(padded, lengths):
    mask = torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
    return padded.masked_fill(~mask.unsqueeze(-1), 0).sum(1) / lengths.unsqueeze(1)


@slip("01.4", "NaN left out")
def nanmean(padded, lengths):
    return torch.nanmean(padded, dim=1)


@slip("01.4", "NaN left out")
def nanmean_where(padded, lengths):
    kept = torch.where(keep_of(padded, lengths)[..., None], padded, torch.tensor(torch.nan))
    return kept.nanmean(dim=1)


@slip("02.1", "changed the model")
def weights_set_to_zero(lstm, sequences):
    output, _ = lstm(pack_sequence(sequences, enforce_sorted=False))
    for parameter in lstm.parameters():
        parameter.data.zero_()
    return pad_packed_sequence(output, batch_first=True)[0]


@slip("02.5", "the last column")
def last_column(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    output, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return output[:, -1, :]


@slip("02.5", "the first layer")
def first_layer(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    h = lstm(packed)[1][0]
    return torch.hstack([h[0], h[1]])


@slip("03.2", "softmax before the loss")
def softmax_first(logits, targets, keep_mask):
    probabilities = torch.softmax(logits, dim=-1)
    return F.cross_entropy(probabilities[keep_mask], targets[keep_mask])


@slip("03.2", "NaN swept away")
def nan_to_num(logits, targets, keep_mask):
    return torch.nan_to_num(F.cross_entropy(logits[keep_mask], targets[keep_mask]))


@slip("03.3", "the logits times 0")
def zero_by_product(logits, targets):
    keep = targets != -100
    return F.cross_entropy(logits[keep], targets[keep]) if keep.any() else (logits * 0).sum()


@slip("03.4", "one backward for all")
def one_backward(weight, micro_batches):
    losses, count = [], 0
    for steps, targets, keep_mask in micro_batches:
        losses.append(
            F.cross_entropy((steps @ weight.T)[keep_mask], targets[keep_mask], reduction="sum")
        )
        count += int(keep_mask.sum())
    (sum(losses) / count).backward()
    return weight.grad


@slip("03.5", "masked after the softmax, and divided again")
def renormalised(values, scores, keep_mask):
    weights = F.softmax(scores, dim=1)
    weights = torch.where(keep_mask, weights, 0.0)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights.unsqueeze(2) * values.masked_fill(~keep_mask.unsqueeze(2), 0)).sum(1)


@pytest.mark.parametrize("fill", [-20, -50.0, -100])
def test_any_fill_that_a_real_score_can_reach_is_named(fill):
    def answer(values, scores, keep_mask):
        weights = scores.masked_fill(~keep_mask, fill).softmax(1)
        return (weights[..., None] * values.masked_fill(~keep_mask[..., None], 0)).sum(1)

    assert check("03.5", answer).name == "a fill that is not small enough"


@pytest.mark.parametrize("fill", [-1e4, -1e9, -1e10, -1e20, torch.finfo(torch.float32).min])
def test_no_number_stands_for_minus_infinity(fill):
    def answer(values, scores, keep_mask):
        weights = scores.masked_fill(~keep_mask, fill).softmax(1)
        return (weights[..., None] * values.masked_fill(~keep_mask[..., None], 0)).sum(1)

    assert check("03.5", answer).name == "a large number in place of minus infinity"


@pytest.mark.parametrize("low", [-torch.inf, -1e9])
@pytest.mark.parametrize("by_log", [False, True])
def test_a_number_added_to_the_scores_is_named(low, by_log):
    def answer(values, scores, keep_mask):
        bias = torch.where(keep_mask, 0.0, low)
        if by_log and low == -torch.inf:
            bias = keep_mask.float().log()
        weights = (scores + bias).softmax(1)
        return torch.einsum("bt,btd->bd", weights, values.masked_fill(~keep_mask[..., None], 0))

    assert check("03.5", answer).name == "added to the scores"


@slip("03.2", "filled, but not left out")
def filled_and_still_counted(logits, targets, keep_mask):
    logits = torch.where(keep_mask.unsqueeze(2), logits, 0.0)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@slip("03.4", "the gradient cleared in the loop")
def cleared_each_time(weight, micro_batches):
    count = sum(int(keep.sum()) for *_, keep in micro_batches)
    for steps, targets, keep in micro_batches:
        if weight.grad is not None:
            weight.grad.zero_()
        loss = F.cross_entropy((steps @ weight.T)[keep], targets[keep], reduction="sum")
        (loss / count).backward()
    return weight.grad


@slip("03.4", "a running total as the divisor")
def divided_by_what_came_so_far(weight, micro_batches):
    seen = 0
    for steps, targets, keep in micro_batches:
        seen += int(keep.sum())
        loss = F.cross_entropy((steps @ weight.T)[keep], targets[keep], reduction="sum")
        (loss / seen).backward()
    return weight.grad


def layer(padded, lengths, **options):
    torch.manual_seed(0)
    options = {"dropout": 0.0, "batch_first": True} | options
    return nn.TransformerEncoderLayer(10, 2, **options)


@slip("04.2", "not transposed back")
def not_transposed_back(padded, lengths):
    keep = keep_of(padded, lengths)
    output = layer(padded, lengths, batch_first=False)(
        padded.transpose(0, 1), src_key_padding_mask=~keep
    )
    return output.masked_fill(~keep.T[..., None], 0)


@slip("04.2", "zeros in place of a mask")
def zeros_in_and_out(padded, lengths):
    keep = keep_of(padded, lengths)[..., None]
    return layer(padded, lengths)(padded * keep) * keep


@slip("04.3", "divided by the root of T")
def divided_by_root_of_steps(query, key, value, keep_mask):
    scores = query @ key.mT / query.shape[1] ** 0.5
    scores = scores.masked_fill(~keep_mask[:, None] & keep_mask.any(1)[:, None, None], -torch.inf)
    return scores.softmax(2) @ value * keep_mask.any(1)[:, None, None]


@slip("04.4", "a causal mask on the memory")
def causal_twice(decoder, target, memory, target_keep_mask, memory_keep_mask):
    L, S = target.shape[1], memory.shape[1]
    output = decoder(
        target,
        memory,
        tgt_mask=~torch.ones(L, L, dtype=torch.bool).tril(),
        memory_mask=~torch.ones(L, S, dtype=torch.bool).tril(),
        tgt_key_padding_mask=~target_keep_mask,
        memory_key_padding_mask=~memory_keep_mask,
    )
    return output * target_keep_mask[..., None]


@slip("04.2", "dropout left on")
def dropout_left_on(padded, lengths):
    keep = keep_of(padded, lengths)
    output = layer(padded, lengths, dropout=0.1)(padded, src_key_padding_mask=~keep)
    return output * keep[..., None]


@slip("04.2", "one pad too many")
def one_pad_too_many(padded, lengths):
    keep = torch.arange(padded.shape[1]) <= lengths[:, None]
    output = layer(padded, lengths)(padded, src_key_padding_mask=~keep)
    return output.masked_fill(~keep[..., None], 0)


@slip("04.5", "a mask together with is_causal")
def mask_and_flag(query, key, value, key_padding_mask, causal):
    mask = ~key_padding_mask[:, None, None]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)


@slip("05.1", "one pad too many")
def hybrid_one_pad_too_many(padded, lengths):
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, batch_first=True)
    encoder = nn.TransformerEncoderLayer(20, 2, dropout=0.0, batch_first=True)
    packed = pack_padded_sequence(padded, lengths, True, enforce_sorted=False)
    output, _ = pad_packed_sequence(lstm(packed)[0], True, total_length=padded.shape[1])
    keep = torch.arange(padded.shape[1]) <= lengths[:, None]
    return encoder(output, src_key_padding_mask=~keep) * keep[..., None]


@slip("05.3", "the padding in the sum of squares")
def squares_over_padding(values, keep_mask):
    keep = keep_mask.unsqueeze(2)
    filled = torch.where(keep, values, 0.0)
    mean = filled.sum((0, 1)) / keep.sum()
    variance = ((filled - mean) ** 2).sum((0, 1)) / keep.sum()
    return torch.where(keep, (filled - mean) / torch.sqrt(variance + 1e-5), 0.0)


@slip("05.2", "both ones left out")
def lengths_without_ones(lengths, layers):
    for k, s, p, d in layers:
        lengths = (lengths + 2 * p - d * (k - 1)) // s
    return lengths


@slip("05.3", "padding left in")
def zeroing_forgotten(values, keep_mask):
    keep = keep_mask[..., None]
    filled = torch.where(keep, values, 0.0)
    mean = filled.sum((0, 1)) / keep.sum()
    variance = (torch.where(keep, filled - mean, 0.0) ** 2).sum((0, 1)) / keep.sum()
    return (filled - mean) / torch.sqrt(variance + 1e-5)


@slip("05.3", "the mean of the squares less the square of the mean")
def squares_less_square(values, keep_mask):
    keep = keep_mask[..., None]
    filled = torch.where(keep, values, 0.0)
    mean = filled.sum((0, 1)) / keep.sum()
    variance = (filled * filled).sum((0, 1)) / keep.sum() - mean**2
    return torch.where(keep, (filled - mean) / torch.sqrt(variance + 1e-5), 0.0)


@slip("05.4", "no columns to spare")
def no_columns_to_spare(model, sequences):
    if leak_map(model, sequences).any():
        return False
    return bool(together_equals_alone(model, sequences))


@slip("06.1", "looked up in the whole order")
def offset_lost(lengths, order, batch_size, pool_batches):
    batches, size = [], batch_size * pool_batches
    for start in range(0, len(order), size):
        places = lengths[order[start : start + size]].argsort(stable=True)
        batches += [one.tolist() for one in order[places].split(batch_size)]
    return batches


@slip("06.2", "a generator that is not passed")
def generator_unused(n, seed, epoch):
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(n)


@slip("06.2", "a hash of the two")
def seeded_by_hash(n, seed, epoch):
    generator = torch.Generator()
    generator.manual_seed(hash((seed, epoch)) % 2**32)
    return torch.randperm(n, generator=generator)


@slip("06.3", "pairs with an order")
def pairs_in_their_order(before, now):
    earlier, later = (
        {pair for batch in epoch for pair in combinations(batch, 2)} for epoch in (before, now)
    )
    return len(earlier & later) / len(later)


@slip("06.4", "the newcomer's length lost")
def longest_reset_to_zero(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if batch and (len(batch) + 1) * longest > max_tokens:
            batches.append(batch)
            batch, longest = [], 0
        batch.append(index)
    batches.append(batch)
    return batches


@slip("07.3", "a running sum without a reset")
def running_sum(document_id):
    same = torch.zeros_like(document_id)
    same[:, 1:] = (document_id[:, 1:] == document_id[:, :-1]).long()
    return torch.where(document_id >= 0, same.cumsum(1), 0)


@slip("07.4", "rolled round the end")
def rolled(content, document_id):
    targets = content.roll(-1, dims=1)
    targets[document_id != document_id.roll(-1, dims=1)] = -100
    targets[document_id < 0] = -100
    return targets


@slip("07.4", "over the boundary")
def label_that_crosses(content, document_id):
    targets = torch.full_like(content, -100)
    targets[:, :-1] = content[:, 1:]
    targets[:, :-1][document_id[:, 1:] < 0] = -100
    return targets


@pytest.mark.parametrize(
    ("id", "name", "answer"), SLIPS, ids=[f"{id} {one.__name__}" for id, _, one in SLIPS]
)
def test_a_likely_slip_is_told_by_name(id, name, answer):
    verdict = check(id, answer)
    assert verdict.name == name, verdict


def test_a_test_that_rejects_right_models_is_not_told_of_what_it_never_called():
    def passes(model, sequences):  # as `torch.equal` of together and alone does on most machines
        return type(model).__name__ == "MultipliedMask"

    verdict = check("05.4", passes)
    assert "You reject 3 of 3 that are right" in verdict.text and "too strict" in verdict.text
    assert "leak_map" not in verdict.text
