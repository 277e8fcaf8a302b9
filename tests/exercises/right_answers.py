"""Right answers in another style than the solution: a loop where it has none, and the reverse.

Some of them are slow or long-winded; a learner's may be too.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

from course_utils.batches.padding import pad
from course_utils.testing import batch_invariance, leak_map, together_equals_alone

RIGHT = {}


def right(id):
    """Enter a right answer under its exercise."""

    def enter(function):
        RIGHT.setdefault(id, []).append(function)
        return function

    return enter


@right("00.1")
def agrees_row_by_row(model, sequences):
    together = model(*pad(sequences))
    for row, sequence in zip(together, sequences, strict=True):
        if (row - model(*pad([sequence]))[0]).abs().max() > 1e-5:
            return False
    return True


@right("00.2")
def read_out_by_loop(output, lengths):
    rows = []
    for row, length in zip(output, lengths.tolist(), strict=True):
        rows.append(row[length - 1])
    return torch.stack(rows)


@right("00.2")
def read_out_by_gather(output, lengths):
    last = (lengths - 1)[:, None, None].expand(-1, 1, output.shape[2])
    return output.gather(1, last).squeeze(1)


@right("01.1")
def pad_by_torch(sequences):
    lengths = torch.as_tensor(list(map(len, sequences)))
    return pad_sequence(sequences, batch_first=True), lengths


@right("01.1")
def pad_by_cat(sequences):
    lengths = [sequence.shape[0] for sequence in sequences]
    T, D = max(lengths), sequences[0].shape[1]
    rows = [torch.cat([one, torch.zeros(T - len(one), D)]) for one in sequences]
    return torch.stack(rows), torch.tensor(lengths)


@right("01.2")
def fill_by_loop(lengths):
    real, longest = 0, 0
    for length in lengths.tolist():
        real += length
        longest = max(longest, length)
    return real / (longest * len(lengths))


@right("01.2")
def fill_by_mean(lengths):
    return lengths.float().mean() / lengths.max()


@right("01.3")
def speed_up_by_loop(lengths, batch_size):
    padded = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        padded += len(batch) * int(max(batch))
    return padded / int(sum(lengths))


@right("01.3")
def speed_up_by_padding(lengths, batch_size):
    missing = -len(lengths) % batch_size
    batches = F.pad(lengths, (0, missing)).view(-1, batch_size)
    counts = torch.full((len(batches),), batch_size)
    counts[-1] -= missing
    return (batches.amax(1) * counts).sum().item() / lengths.sum().item()


@right("01.4")
def mean_by_loop(padded, lengths):
    return torch.stack([row[:n].mean(0) for row, n in zip(padded, lengths.tolist(), strict=True)])


@right("01.4")
def mean_by_where(padded, lengths):
    steps = torch.arange(padded.shape[1])
    keep = (steps[None] < lengths[:, None]).unsqueeze(2)
    return torch.where(keep, padded, torch.zeros(())).sum(dim=1).div(lengths.unsqueeze(1))


@right("01.5")
def embed_by_loop(table, texts):
    return torch.stack([table[text].mean(dim=0) for text in texts])


@right("01.5")
def embed_by_bag(table, texts):
    lengths = torch.tensor([len(text) for text in texts])
    return F.embedding_bag(torch.cat(texts), table, lengths.cumsum(0) - lengths, mode="mean")


@right("02.1")
def run_lstm_by_loop(lstm, sequences):
    longest = max(len(one) for one in sequences)
    padded = torch.zeros(len(sequences), longest, 2 * lstm.hidden_size)
    for row, sequence in enumerate(sequences):
        output, _ = lstm(sequence[None])
        padded[row, : len(sequence)] = output[0]
    return padded


@right("02.1")
def run_lstm_padded_first(lstm, sequences):
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    order = lengths.argsort(descending=True)
    padded = pad_sequence(sequences, batch_first=True)[order]
    packed = pack_padded_sequence(padded, lengths[order], batch_first=True)
    output, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return output[order.argsort()]


@right("02.2")
def labels_by_loop(labels):
    # Of equally long ones, only torch knows which it put first.
    order = pack_sequence(labels, enforce_sorted=False).sorted_indices.tolist()
    found = []
    for step in range(max(len(one) for one in labels)):
        for i in order:
            if step < len(labels[i]):
                found.append(labels[i][step])
    return torch.stack(found)


@right("02.2")
def labels_by_mask(labels):
    padded, lengths = pad(labels)
    order = pack_padded_sequence(padded, lengths, True, enforce_sorted=False).sorted_indices
    keep = torch.arange(padded.shape[1]) < lengths[order, None]
    return padded[order].T[keep.T]


@right("02.3")
def states_by_loop(h_n):
    layers = []
    for layer in range(len(h_n) // 2):
        layers.append(torch.cat((h_n[2 * layer], h_n[2 * layer + 1]), dim=-1))
    return torch.stack(layers)


@right("02.3")
def states_by_view(h_n):
    layers, B, H = len(h_n) // 2, h_n.shape[1], h_n.shape[2]
    return h_n.view(layers, 2, B, H).transpose(1, 2).reshape(layers, B, 2 * H)


@right("02.4")
def unpack_by_loop(packed, total_length):
    size = len(packed.batch_sizes), int(packed.batch_sizes[0])
    B, D = size[1], packed.data.shape[1]
    padded = torch.zeros(B, total_length, D)
    start = 0
    for step, count in enumerate(packed.batch_sizes.tolist()):
        rows = torch.arange(count)
        if packed.sorted_indices is not None:
            rows = packed.sorted_indices[:count]
        padded[rows, step] = packed.data[start : start + count]
        start += count
    return padded


@right("02.4")
def unpack_and_pad(packed, total_length):
    padded, _ = pad_packed_sequence(packed, batch_first=True)
    return F.pad(padded, (0, 0, 0, total_length - padded.shape[1]))


@right("02.5")
def encode_by_loop(lstm, padded, lengths):
    rows = []
    for row, length in zip(padded, lengths.tolist(), strict=True):
        _, (h_n, _) = lstm(row[None, :length])
        rows.append(torch.cat([h_n[-2, 0], h_n[-1, 0]]))
    return torch.stack(rows)


@right("02.5")
def encode_sorted(lstm, padded, lengths):
    sorted_lengths, order = lengths.sort(descending=True)
    packed = pack_padded_sequence(padded[order], sorted_lengths, batch_first=True)
    _, (h_n, _) = lstm(packed)
    return h_n[-2:, order.argsort()].transpose(0, 1).flatten(1)


@right("03.1")
def holes_by_loop(keep_mask):
    lengths, holes = [], []
    for row in keep_mask.tolist():
        lengths.append(sum(row))
        holes.append(any(not row[t] and any(row[t:]) for t in range(len(row))))
    return torch.tensor(lengths), torch.tensor(holes)


@right("03.1")
def holes_by_differences(keep_mask):
    rises = (~keep_mask[:, :-1] & keep_mask[:, 1:]).any(1)
    return keep_mask.long().sum(-1), rises


@right("03.2")
def loss_by_loop(logits, targets, keep_mask):
    total, count = 0.0, 0
    for b in range(len(logits)):
        for t in range(logits.shape[1]):
            if keep_mask[b, t]:
                total = total - logits[b, t].log_softmax(0)[targets[b, t]]
                count += 1
    return total / count


@right("03.2")
def loss_by_ignore_index(logits, targets, keep_mask):
    logits = logits.masked_fill(~keep_mask[..., None], 0)
    targets = targets.masked_fill(~keep_mask, -100)
    return F.cross_entropy(logits.transpose(1, 2), targets)


@right("03.3")
def guarded_by_loop(logits, targets):
    total, count = F.cross_entropy(logits, torch.full_like(targets, -100), reduction="sum"), 0
    for row, target in zip(logits, targets.tolist(), strict=True):
        if target != -100:
            total = total + F.cross_entropy(row, torch.tensor(target))
            count += 1
    return total / max(count, 1)


@right("03.3")
def guarded_by_if(logits, targets):
    if (targets == -100).all():
        return F.cross_entropy(logits, targets, reduction="sum")
    return F.cross_entropy(logits, targets)


@right("03.4")
def accumulate_step_by_step(weight, micro_batches):
    count = 0
    for _, _, keep_mask in micro_batches:
        count += int(keep_mask.sum())
    for steps, targets, keep_mask in micro_batches:
        loss = (weight * 0).sum()
        for b, t in keep_mask.nonzero().tolist():
            loss = loss + F.cross_entropy(steps[b, t] @ weight.T, targets[b, t]) / count
        loss.backward()
    return weight.grad


@right("03.4")
def accumulate_by_ignore_index(weight, micro_batches):
    for steps, targets, keep_mask in micro_batches:
        logits, targets = steps @ weight.T, targets.masked_fill(~keep_mask, -100)
        F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    weight.grad /= torch.cat([keep.flatten() for *_, keep in micro_batches]).sum()
    return weight.grad


@right("03.5")
def pool_by_loop(values, scores, keep_mask):
    rows = []
    for value, score, keep in zip(values, scores, keep_mask, strict=True):
        rows.append(score[keep].softmax(0) @ value[keep])
    return torch.stack(rows)


@right("03.5")
def pool_by_einsum(values, scores, keep_mask):
    weights = torch.where(keep_mask, scores, -torch.inf).softmax(-1)
    return torch.einsum("bt,btd->bd", weights, torch.where(keep_mask[..., None], values, 0.0))


@right("04.1")
def convert_by_loop(attention_mask):
    keep = [[value == 1 for value in row] for row in attention_mask.tolist()]
    key_padding_mask = torch.tensor([[not value for value in row] for row in keep])
    return key_padding_mask, torch.stack([torch.tensor(row)[None, None] for row in keep])


@right("04.1")
def convert_by_comparison(attention_mask):
    return attention_mask == 0, attention_mask.eq(1).unsqueeze(1).unsqueeze(1)


@right("04.2")
def encode_alone(padded, lengths):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(10, 2, dropout=0.0, batch_first=True)
    output = torch.zeros_like(padded)
    for row, length in enumerate(lengths.tolist()):
        output[row, :length] = layer(padded[row : row + 1, :length])[0]
    return output


@right("04.2")
def encode_time_first(padded, lengths):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(d_model=10, nhead=2, dropout=0.0)
    padding = torch.arange(padded.shape[1])[None] >= lengths[:, None]
    output = layer(padded.transpose(0, 1), src_key_padding_mask=padding).transpose(0, 1)
    return torch.where(padding[..., None], 0.0, output)


@right("04.3")
def attend_by_loop(query, key, value, keep_mask):
    rows = []
    for q, k, v, keep in zip(query, key, value, keep_mask, strict=True):
        if keep.any():
            rows.append((q @ k[keep].T / q.shape[1] ** 0.5).softmax(1) @ v[keep])
        else:
            rows.append(q * 0)
    return torch.stack(rows)


@right("04.3")
def attend_by_torch(query, key, value, keep_mask):
    empty = ~keep_mask.any(1)[:, None, None]
    mask = keep_mask[:, None, :] | empty
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return output.masked_fill(empty, 0)


@right("04.4")
def decode_alone(decoder, target, memory, target_keep_mask, memory_keep_mask):
    output = torch.zeros_like(target)
    pairs = zip(target_keep_mask.sum(1).tolist(), memory_keep_mask.sum(1).tolist(), strict=True)
    for row, (L, S) in enumerate(pairs):
        for t in range(L):
            seen = target[row : row + 1, : t + 1]
            output[row, t] = decoder(seen, memory[row : row + 1, :S])[0, -1]
    return output


@right("04.4")
def decode_by_floats(decoder, target, memory, target_keep_mask, memory_keep_mask):
    future = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
    hidden = torch.zeros(memory_keep_mask.shape).masked_fill(~memory_keep_mask, -torch.inf)
    output = decoder(target, memory, tgt_mask=future, memory_key_padding_mask=hidden)
    return torch.where(target_keep_mask.unsqueeze(2), output, 0.0)


@right("04.5")
def road_by_loop(query, key, value, key_padding_mask, causal):
    output = torch.zeros_like(value)
    for b in range(len(query)):
        for t in range(query.shape[2]):
            real = ~key_padding_mask[b]
            if causal:
                real = real & (torch.arange(len(real)) <= t)
            scores = key[b][:, real] @ query[b, :, t, :, None] / query.shape[3] ** 0.5
            output[b, :, t] = (scores.softmax(1) * value[b][:, real]).sum(1)
    return output


@right("04.5")
def road_by_floats(query, key, value, key_padding_mask, causal):
    mask = torch.zeros(len(query), 1, query.shape[2], key.shape[2])
    mask = mask.masked_fill(key_padding_mask[:, None, None], -torch.inf)
    if causal:
        future = torch.ones_like(mask, dtype=torch.bool).triu(1)
        mask = mask.masked_fill(future, -torch.inf)
    return F.scaled_dot_product_attention(query, key, value, mask)


@right("05.1")
def hybrid_alone(padded, lengths):
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, batch_first=True)
    layer = nn.TransformerEncoderLayer(d_model=20, nhead=2, dropout=0.0, batch_first=True)
    output = torch.zeros(*padded.shape[:2], 20)
    for row, length in enumerate(lengths.tolist()):
        states, _ = lstm(padded[row : row + 1, :length])
        output[row, :length] = layer(states)[0]
    return output


@right("05.1")
def hybrid_without_packing(padded, lengths):
    # A forward LSTM has read no padding at the real steps.
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, batch_first=True)
    layer = nn.TransformerEncoderLayer(d_model=20, nhead=2, dropout=0.0, batch_first=True)
    padding = torch.arange(padded.shape[1]) >= lengths.unsqueeze(1)
    output = layer(lstm(padded)[0], src_key_padding_mask=padding)
    return output * ~padding[..., None]


@right("05.2")
def lengths_by_loop(lengths, layers):
    found = []
    for length in lengths.tolist():
        for kernel_size, stride, padding, dilation in layers:
            starts = range(-padding, length + padding - dilation * (kernel_size - 1), stride)
            length = len(starts)
        found.append(length)
    return torch.tensor(found)


@right("05.2")
def lengths_by_running(lengths, layers):
    found = []
    for length in lengths:
        steps = torch.zeros(1, 1, int(length))
        for kernel_size, stride, padding, dilation in layers:
            steps = F.conv1d(steps, torch.ones(1, 1, kernel_size), None, stride, padding, dilation)
        found.append(steps.shape[2])
    return torch.tensor(found)


@right("05.3")
def norm_by_loop(values, keep_mask):
    steps = [values[b, t] for b, t in keep_mask.nonzero().tolist()]
    mean = sum(steps) / len(steps)
    variance = sum((step - mean) ** 2 for step in steps) / len(steps)
    rows = []
    for row, keep in zip(values, keep_mask, strict=True):
        for step, real in zip(row, keep.tolist(), strict=True):
            rows.append(
                (step - mean) / (variance + 1e-5).sqrt() if real else torch.zeros(len(mean))
            )
    return torch.stack(rows).view(values.shape)


@right("05.3")
def norm_by_sums(values, keep_mask):
    keep = keep_mask[..., None]
    count = keep_mask.sum()
    mean = values.masked_fill(~keep, 0).sum((0, 1)) / count
    centred = (values - mean).masked_fill(~keep, 0)
    variance = centred.square().sum((0, 1)) / count
    return centred * (variance + 1e-5).rsqrt()


@right("05.4")
def passes_leaks_first(model, sequences):
    if leak_map(model, sequences).any():
        return False
    return bool(together_equals_alone(model, sequences, extra_padding=2))


@right("05.4")
def passes_the_chapters_own(model, sequences):
    return bool(batch_invariance(model, sequences, pad, strict=True))


@right("05.4")
def passes_by_hand(model, sequences):
    def outputs_and_gradients(padded, lengths):
        padded.requires_grad_()
        outputs = model(padded, lengths)
        parts = (padded, *model.parameters())
        gradients = torch.autograd.grad(outputs.square().sum(), parts, allow_unused=True)
        return [outputs, *(torch.zeros(1) if one is None else one for one in gradients)]

    def equal(one, other):
        return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))

    alone = [outputs_and_gradients(*pad([sequence])) for sequence in sequences]
    outputs, _, *weights = zip(*alone, strict=True)
    T = max(len(sequence) for sequence in sequences)
    for extra, junk in ((0, 0.0), (3, 9.0), (2, float("nan"))):
        padded, lengths = pad(sequences, padding_value=junk, total_length=T + extra)
        together, steps, *learned = outputs_and_gradients(padded, lengths)
        if not equal([together], [torch.cat(outputs)]) or not equal(learned, map(sum, weights)):
            return False
        for row, (_, own, *_) in zip(steps, alone, strict=True):
            if not equal([row[: own.shape[1]]], own) or row[own.shape[1] :].any():
                return False
    return True


@right("06.1")
def pools_by_loop(lengths, order, batch_size, pool_batches):
    order, sizes, size = order.tolist(), lengths.tolist(), batch_size * pool_batches
    batches = []
    for start in range(0, len(order), size):
        pool = sorted(order[start : start + size], key=lambda i: sizes[i])
        while pool:
            batches.append(pool[:batch_size])
            pool = pool[batch_size:]
    return batches


@right("06.1")
def pools_by_one_sort(lengths, order, batch_size, pool_batches):
    size = batch_size * pool_batches
    pool = torch.arange(len(order)) // size
    key = pool * (lengths.max() + 1) + lengths[order]
    together = order[key.argsort(stable=True)].tolist()
    batches = []
    for start in range(0, len(together), size):
        stop = min(start + size, len(together))
        batches += [together[i : min(i + batch_size, stop)] for i in range(start, stop, batch_size)]
    return batches


@right("06.2")
def order_step_by_step(n, seed, epoch):
    generator = torch.Generator()
    generator.manual_seed(epoch + seed)
    shuffled = torch.randperm(n, generator=generator)
    return torch.stack([shuffled[i] for i in range(n)])


@right("06.2")
def order_without_leaving_a_trace(n, seed, epoch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + epoch)
        return torch.randperm(n)


@right("06.3")
def met_by_loop(before, now):
    met = total = 0
    for batch in now:
        for i in range(len(batch)):
            for j in range(i):
                total += 1
                met += any(batch[i] in one and batch[j] in one for one in before)
    return met / total


@right("06.3")
def met_by_matrices(before, now):
    count = 1 + max(max(batch) for batch in before + now if batch)
    together = torch.zeros(2, count, count, dtype=torch.bool)
    for epoch, batches in enumerate((before, now)):
        for batch in batches:
            rows = torch.tensor(batch)
            together[epoch, rows[:, None], rows] = True
    old, new = together.triu(1)
    return (old & new).sum() / new.sum()


@right("06.4")
def budget_by_open_batch(lengths, max_tokens):
    batches = []
    for index in range(len(lengths)):
        trial = [*(batches[-1] if batches else []), index]
        if batches and len(trial) * lengths[trial].max() <= max_tokens:
            batches[-1] = trial
        else:
            batches.append([index])
    return batches


@right("06.4")
def budget_by_running_maximum(lengths, max_tokens):
    batches, start = [], 0
    while start < len(lengths):
        longest = lengths[start:].cummax(0).values
        cost = longest * torch.arange(1, len(longest) + 1)
        count = int((cost <= max_tokens).long().cumprod(0).sum())
        batches.append(list(range(start, start + count)))
        start += count
    return batches


@right("07.1")
def best_fit_by_loop(lengths, capacity):
    lengths, rows = lengths.tolist(), []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        best, least = None, capacity + 1
        for row in rows:
            room = capacity - sum(lengths[i] for i in row)
            if lengths[index] <= room < least:
                best, least = row, room
        if best is None:
            rows.append([index])
        else:
            best.append(index)
    return rows


@right("07.1")
def best_fit_by_tensors(lengths, capacity):
    free = torch.full_like(lengths, capacity)  # as many rows as there could ever be
    rows = [[] for _ in lengths]
    for index in lengths.argsort(descending=True, stable=True):
        left = free - lengths[index]
        row = left.where(left >= 0, capacity + 1).argmin()
        free[row] = left[row]
        rows[row].append(index.item())
    return [row for row in rows if row]


@right("07.2")
def attend_by_loops(document_id):
    R, T = document_id.shape
    mask = torch.zeros(R, T, T, dtype=torch.bool)
    for r in range(R):
        for asks in range(T):
            for asked in range(asks + 1):
                mask[r, asks, asked] = document_id[r, asks] == document_id[r, asked]
    return mask


@right("07.2")
def attend_by_comparison(document_id):
    steps = torch.arange(document_id.shape[1])
    return document_id.unsqueeze(2).eq(document_id.unsqueeze(1)) & (steps[:, None] >= steps)


@right("07.3")
def positions_by_loop(document_id):
    positions = torch.zeros_like(document_id)
    for r, row in enumerate(document_id.tolist()):
        for t in range(1, len(row)):
            if row[t] == row[t - 1] and row[t] != -1:
                positions[r, t] = positions[r, t - 1] + 1
    return positions


@right("07.3")
def positions_by_mask(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return (same.tril().sum(2) - 1).masked_fill(document_id < 0, 0)


@right("07.4")
def targets_by_loop(content, document_id):
    targets = []
    for words, numbers in zip(content.tolist(), document_id.tolist(), strict=True):
        row = []
        for t in range(len(words)):
            inside = t + 1 < len(words) and numbers[t] == numbers[t + 1] != -1
            row.append(words[t + 1] if inside else -100)
        targets.append(row)
    return torch.tensor(targets)


@right("07.4")
def targets_by_roll(content, document_id):
    following = document_id.roll(-1, dims=1)
    following[:, -1] = -2
    inside = (following == document_id) & (document_id != -1)
    return content.roll(-1, 1).masked_fill(~inside, -100)


@right("08.1")
def borders_by_loop(lengths):
    borders = [0]
    for length in lengths.tolist():
        borders.append(borders[-1] + length)
    return torch.tensor(borders, dtype=torch.int32)


@right("08.1")
def borders_by_cat(lengths):
    return torch.cat([torch.tensor([0]), torch.cumsum(lengths, 0)])


@right("08.2")
def flat_mean_by_loop(flat, cu_seqlens):
    return torch.stack([one.mean(0) for one in flat.split(cu_seqlens.diff().tolist())])


@right("08.2")
def flat_mean_by_running_sum(flat, cu_seqlens):
    total = F.pad(flat.cumsum(0), (0, 0, 1, 0))[cu_seqlens.long()]
    return total.diff(dim=0) / cu_seqlens.diff().unsqueeze(1)


@right("08.2")
def flat_mean_by_mask(flat, cu_seqlens):
    step = torch.arange(len(flat))
    own = (step >= cu_seqlens[:-1, None]) & (step < cu_seqlens[1:, None])
    return (own / own.sum(1, keepdim=True)) @ flat


@right("08.3")
def conv_by_sequence(x, weight, cu_seqlens):
    outputs = []
    for one in x.split(cu_seqlens.diff().tolist()):
        before = F.pad(one.T[None], (len(weight) - 1, 0))
        outputs.append(F.conv1d(before, weight.flip(0).T[:, None], groups=x.shape[1])[0].T)
    return torch.cat(outputs)


@right("08.3")
def conv_by_loop(x, weight, cu_seqlens):
    borders, rows = cu_seqlens.tolist(), []
    for begin, end in pairwise(borders):
        for t in range(begin, end):
            terms = [weight[k] * x[t - k] for k in range(len(weight)) if t - k >= begin]
            rows.append(torch.stack(terms).sum(0))
    return torch.stack(rows)


@right("08.4")
def mask_mod_by_calls(document_id, b, q, kv):
    return torch.logical_and(kv.le(q), document_id[b, q].eq(document_id[b, kv]))


@right("09.1")
def by_the_mean_count(loss_sum, count, all_reduce, ranks):
    total = torch.empty_like(count).copy_(count)
    all_reduce(total)
    return loss_sum / (total / ranks)


@right("09.1")
def with_a_count_of_one_dimension(loss_sum, count, all_reduce, ranks):
    total = torch.tensor([float(count)])
    all_reduce(total)
    return (loss_sum * ranks / total).squeeze()


@right("09.2")
def by_selecting(logits, targets, all_reduce, ranks):
    kept = targets.ne(-100)
    total = kept.sum()
    all_reduce(total)
    losses = -logits[kept].log_softmax(-1).gather(1, targets[kept][:, None])
    return losses.sum() * ranks / max(int(total), 1)


@right("09.3")
def by_splitting_in_place(batches, ranks):
    dealt = [list(batch) for batch in batches]
    while len(dealt) % ranks != 0:
        sizes = [len(batch) for batch in dealt]
        i = sizes.index(max(sizes))
        middle = -(-sizes[i] // 2)
        dealt.insert(i + 1, dealt[i][middle:])
        dealt[i] = dealt[i][:middle]
    shares = [[] for _ in range(ranks)]
    for number, batch in enumerate(dealt):
        shares[number % ranks].append(batch)
    return shares


@right("09.4")
def by_index(right, count):
    ranks = len(right)
    return sum(right[i % ranks, i // ranks] for i in range(count)) / count
