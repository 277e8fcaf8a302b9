"""Slips that learners are likely to make, in their own words, are told by name."""

from itertools import combinations, pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

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


@slip("00.2", "one step for all rows")
def the_first_length_for_all(output, lengths):
    return output[:, lengths[0] - 1]


@slip("00.2", "one step for all rows")
def the_shortest_length_for_all(output, lengths):
    return output[:, int(min(lengths)) - 1, :]


@slip("01.5", "id 0 not counted")
def right_mask_and_ids_counted(table, texts):
    ids = pad_sequence(texts, batch_first=True)
    keep = keep_of(ids, torch.tensor([len(text) for text in texts]))
    return (table[ids] * keep[..., None]).sum(1) / (ids != 0).sum(1)[:, None]


@slip("01.5", "id 0 left out of the sum")
def ids_masked_and_lengths_counted(table, texts):
    ids = pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts])
    return (table[ids] * (ids != 0)[..., None]).sum(1) / lengths[:, None]


@slip("02.3", "the highest layer first")
def layers_reversed(h_n):
    return torch.stack([torch.cat([h_n[i], h_n[i + 1]], 1) for i in range(len(h_n) - 2, -1, -2)])


@slip("03.1", "the first real step")
def argmax_of_the_mask(keep_mask):
    lengths = keep_mask.int().argmax(dim=1)
    return lengths, (keep_mask != (torch.arange(keep_mask.shape[1]) < lengths[:, None])).any(1)


@slip("03.1", "argmin in place of argmax")
def argmin_from_the_end(keep_mask):
    lengths = keep_mask.sum(1)
    return lengths, keep_mask.shape[1] - torch.argmin(keep_mask.flip(1).int(), 1) != lengths


@slip("03.1", "a full row taken for one with a hole")
def a_hole_before_the_length(keep_mask):
    lengths = keep_mask.sum(-1)
    return lengths, keep_mask.float().argmin(-1) < lengths


@slip("03.4", "the steps of one micro-batch counted")
def the_last_count(weight, micro_batches):
    for *_, keep in micro_batches:
        count = keep.sum().item()
    for steps, targets, keep in micro_batches:
        loss = F.cross_entropy((steps @ weight.T)[keep], targets[keep], reduction="sum")
        (loss / count).backward()
    return weight.grad


@slip("03.5", "scores of 0 at padding")
def zeros_among_the_scores(values, scores, keep_mask):
    weights = torch.softmax(torch.where(keep_mask, scores, 0.0), dim=-1)
    return torch.einsum("bt,btd->bd", weights, values.masked_fill(~keep_mask[..., None], 0))


@slip("03.5", "masked after the softmax, and divided again")
def zeros_among_the_scores_and_renormalised(values, scores, keep_mask):
    weights = torch.where(keep_mask, scores, 0.0).softmax(1) * keep_mask
    weights = weights / weights.sum(1, keepdim=True)
    return torch.einsum("bt,btd->bd", weights, values.masked_fill(~keep_mask[..., None], 0))


def scores_of(query, key):
    return query @ key.mT / query.shape[-1] ** 0.5


@slip("04.3", "queries masked in place of keys")
def rows_masked(query, key, value, keep_mask):
    return scores_of(query, key).masked_fill(~keep_mask[:, :, None], -torch.inf).softmax(-1) @ value


@slip("04.3", "queries masked in place of keys")
def rows_masked_by_a_large_number(query, key, value, keep_mask):
    scores = scores_of(query, key).masked_fill(~keep_mask.unsqueeze(2), -1e9)
    return scores.softmax(-1) @ value


@slip("04.3", "padded queries masked as well")
def rows_and_columns_masked(query, key, value, keep_mask):
    both = keep_mask[:, :, None] & keep_mask[:, None, :]
    return scores_of(query, key).masked_fill(~both, -torch.inf).softmax(-1).nan_to_num() @ value


@slip("04.3", "scores of 0")
def scores_times_mask(query, key, value, keep_mask):
    weights = (scores_of(query, key) * keep_mask[:, None]).softmax(-1)
    return weights @ value * keep_mask.any(1)[:, None, None]


@slip("04.3", "0 times infinity")
def mask_times_infinity(query, key, value, keep_mask):
    hidden = (~keep_mask).float()[:, None] * float("-inf")
    return (scores_of(query, key) + hidden).softmax(-1) @ value


@slip("04.3", "masked after the softmax, and divided again")
def attention_renormalised(query, key, value, keep_mask):
    weights = scores_of(query, key).softmax(-1) * keep_mask[:, None]
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-6) @ value


@slip("04.4", "the wrong side filled")
def decoder_filled_where_real(decoder, target, memory, target_keep_mask, memory_keep_mask):
    output = decoder(
        target,
        memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1]),
        memory_key_padding_mask=~memory_keep_mask,
    )
    return output.masked_fill(target_keep_mask[..., None], 0)


@slip("07.3", "from 1")
def positions_from_1(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.tril().sum(2)


@slip("07.3", "one long row")
def a_counter_for_each_number(document_id):
    seen, positions = {}, torch.zeros_like(document_id)
    for row in range(document_id.shape[0]):
        for step in range(document_id.shape[1]):
            number = int(document_id[row, step])
            if number >= 0:
                positions[row, step] = seen.get(number, 0)
                seen[number] = seen.get(number, 0) + 1
    return positions


@slip("07.3", "one long row")
def a_counter_set_to_0_once(document_id):
    positions, count = torch.zeros_like(document_id), 0
    for row in range(len(document_id)):
        for step in range(document_id.shape[1]):
            if step > 0 and document_id[row, step] != document_id[row, step - 1]:
                count = 0
            if document_id[row, step] >= 0:
                positions[row, step] = count
            count += 1
    return positions


@slip("08.2", "a running sum without a 0 in front")
def the_sum_up_to_the_first_step(flat, cu_seqlens):
    sums = torch.cumsum(flat, dim=0)
    first, last = cu_seqlens[:-1], cu_seqlens[1:] - 1
    return (sums[last] - sums[first]) / (last - first + 1).unsqueeze(1)


@slip("08.2", "one sequence left out")
def a_range_too_short(flat, cu_seqlens):
    rows = []
    for i in range(len(cu_seqlens) - 2):
        rows.append(flat[cu_seqlens[i] : cu_seqlens[i + 1]].mean(0))
    return torch.stack(rows)


@slip("08.3", "rolled round")
def rolled_in_each_sequence(x, weight, cu_seqlens):
    found = []
    for begin, end in pairwise(cu_seqlens):
        one = x[begin:end]
        found.append(sum(weight[back] * one.roll(back, dims=0) for back in range(len(weight))))
    return torch.cat(found)


@slip("08.4", "all rows at once")
def row_not_looked_up(document_id, b, q, kv):
    return (document_id[:, q] == document_id[:, kv]) & (kv <= q)


@slip("09.1", "a mean of means")
def own_count_after_the_exchange(loss_sum, count, all_reduce, ranks):
    total = count.clone()
    all_reduce(total)
    return loss_sum / count


@slip("09.1", "the count of this rank")
def own_count_times_ranks(loss_sum, count, all_reduce, ranks):
    all_reduce(count.clone())
    return loss_sum / count.clamp(min=1) * ranks


@slip("09.4", "the last one always dropped")
def whole_columns_only(right, count):
    return right[:, : count // right.shape[0]].mean()


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


# What is said of answers that no misconception names: how, and not "not equal".
SAID = []


def says(id, *words):
    """Enter a wrong answer with words that its explanation must have."""

    def enter(function):
        SAID.append((id, words, function))
        return function

    return enter


@says("01.3", "rounded down")
def whole_speed_up(lengths, batch_size):
    return sum(len(one) * one.max() for one in lengths.split(batch_size)) // lengths.sum()


@says("01.4", "one step of `padded`")
def the_first_step(padded, lengths):
    return padded[:, 0]


@says("01.4", "returned a list; its values are right")
def rows_in_a_list(padded, lengths):
    return [row[:length].mean(0) for row, length in zip(padded, lengths, strict=True)]


@says("01.1", "The second result", "the same")
def features_in_place_of_steps(sequences):
    return pad_sequence(sequences, batch_first=True), torch.tensor([s.shape[1] for s in sequences])


@says("02.1", "a list", "one tensor is expected")
def one_by_one(lstm, sequences):
    return [lstm(sequence[None])[0][0] for sequence in sequences]


@says("02.5", "Every number is wrong")
def the_mean_of_all_outputs(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True)[0].mean(1)


@says("03.3", "only where some target is -100")
def nothing_if_anything_is_ignored(logits, targets):
    if (targets == -100).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, targets)


@says("03.3", "the number of classes")
def divided_by_the_classes(logits, targets):
    return F.cross_entropy(logits, targets, reduction="sum") / logits.shape[1]


@says("06.3", "too small wherever")
def batch_by_batch(before, now):
    pairs = [[set(combinations(sorted(batch), 2)) for batch in epoch] for epoch in (before, now)]
    both = sum(len(one & other) for one, other in zip(*pairs, strict=False))
    return both / sum(map(len, pairs[1]))


@says("08.3", "only in the sequences after the first")
def only_the_first_sequence(x, weight, cu_seqlens):
    first = x[: cu_seqlens[1]]
    moved = [F.pad(first, (0, 0, back, 0))[: len(first)] for back in range(len(weight))]
    mine = sum(one * share for one, share in zip(moved, weight, strict=True))
    return torch.cat([mine, x[cu_seqlens[1] :]])


@says("09.3", "your lists hold [2, 2, 1]", "[2, 2, 2]")
def split_once(batches, ranks):
    batches = list(batches)
    if len(batches) % ranks:
        largest = max(batches, key=len)
        place, half = batches.index(largest), (len(largest) + 1) // 2
        batches[place : place + 1] = [largest[:half], largest[half:]]
    return [batches[rank::ranks] for rank in range(ranks)]


@pytest.mark.parametrize(
    ("id", "words", "answer"), SAID, ids=[f"{id} {one.__name__}" for id, _, one in SAID]
)
def test_what_has_no_name_is_explained(id, words, answer):
    verdict = check(id, answer)
    assert verdict.kind == "explained", verdict
    for word in words:
        assert word in verdict.text, verdict
