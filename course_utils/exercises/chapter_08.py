"""Exercises of chapter 08, Flat batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from course_utils.batches.flat import lengths_to_cu_seqlens
from course_utils.exercises.cases import ragged
from course_utils.exercises.engine import Exercise, Misconception, edited, slip


def _length_cases():
    return [(torch.tensor(lengths),) for lengths in ragged([2], [2, 1], [3, 3], [1, 4, 2], [5, 5])]


def cu_seqlens(lengths):
    ends = lengths.cumsum(0)
    return F.pad(ends, (1, 0))


def _starts(lengths):
    return lengths.cumsum(0) - lengths


def _ends(lengths):
    return lengths.cumsum(0)


def _not_added_up(lengths):
    return F.pad(lengths, (1, 0))


def _zero_at_the_end(lengths):
    return F.pad(lengths.cumsum(0), (0, 1))


def _total_at_the_end(lengths):
    return torch.cat([lengths.cumsum(0), lengths.sum()[None]])


def _last_steps(lengths):
    return F.pad(lengths.cumsum(0) - 1, (1, 0))


def _padded_borders(lengths):
    return torch.arange(len(lengths) + 1) * lengths.max()


def _mean_cases():
    cases = []
    for seed, lengths in enumerate(ragged([2], [1, 3], [3, 1], [2, 2], [4, 1, 2])):
        generator = torch.Generator().manual_seed(seed)
        flat = torch.randn(sum(lengths), 2, generator=generator).round(decimals=1)
        cases.append((flat.requires_grad_(), lengths_to_cu_seqlens(lengths)))
    return cases


def flat_mean(flat, cu_seqlens):
    lengths = cu_seqlens.diff()
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)
    total = flat.new_zeros(len(lengths), flat.shape[1]).index_add(0, owner, flat)
    return total / lengths[:, None]


def _mean_of_all(flat, cu_seqlens):
    return flat.mean(0).expand(len(cu_seqlens) - 1, -1)


def _sum_of_means(flat, cu_seqlens):
    return flat.mean(0)


def _without_the_last(flat, cu_seqlens):
    pairs = zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    return torch.stack([flat[begin : max(end - 1, begin + 1)].mean(0) for begin, end in pairs])


def _from_the_start(flat, cu_seqlens):
    return torch.stack([flat[:end].mean(0) for end in cu_seqlens[1:].tolist()])


def _one_step_too_many(flat, cu_seqlens):
    pairs = zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    return torch.stack([flat[begin : end + 1].mean(0) for begin, end in pairs])


def _no_0_in_front(flat, cu_seqlens):
    sums = flat.cumsum(0)
    return (sums[cu_seqlens[1:] - 1] - sums[cu_seqlens[:-1]]) / cu_seqlens.diff()[:, None]


def _first_step_given_away(flat, cu_seqlens):
    owner = (torch.bucketize(torch.arange(len(flat)), cu_seqlens) - 1).clamp(min=0)
    total = flat.new_zeros(len(cu_seqlens) - 1, flat.shape[1]).index_add(0, owner, flat)
    return total / cu_seqlens.diff()[:, None]


def _one_left_out(flat, cu_seqlens):
    borders = [(cu_seqlens[i], cu_seqlens[i + 1]) for i in range(len(cu_seqlens) - 2)]
    return torch.stack([flat[begin:end].mean(0) for begin, end in borders])


def _equal_lengths(flat, cu_seqlens):
    return flat.reshape(len(cu_seqlens) - 1, -1, flat.shape[1]).mean(1)


def _padded_first(flat, cu_seqlens):
    texts = flat.split(cu_seqlens.diff().tolist())
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).mean(1)


def _by_list(flat, cu_seqlens):
    texts = flat.split(cu_seqlens.diff().tolist())
    return torch.tensor([text.mean(0).tolist() for text in texts])


def _document_cases():
    rows = [
        [[0, 0]],
        [[0, 1]],
        [[0, 0, 1]],
        [[0, 0, 0], [0, 0, 1]],
        [[2, 2, 0, 0, 0, 1]],
        [[0, 0, 1, 1, 1, -1, -1], [2, 3, 3, 3, 3, 3, -1]],
        [[0] * 10 + [1] * 2, [2] * 3 + [3] * 8 + [-1]],
        [[5] * 2 + [0] * 9 + [-1], [1] * 12],
    ]
    cases = []
    for row in rows:
        document_id = torch.tensor(row)
        R, T = document_id.shape
        b, step = torch.arange(R)[:, None, None], torch.arange(T)
        cases.append((document_id, b, step[:, None], step[None, :]))
    # The rows need not be asked about in their order.
    return [*cases, (document_id, b.flip(0), step[:, None], step[None, :])]


def own_and_earlier(document_id, b, q, kv):
    same = document_id[b, q] == document_id[b, kv]
    return same & (kv <= q)


def _first_row(document_id, b, q, kv):
    return own_and_earlier(document_id[:1], torch.zeros_like(b), q, kv)


def _steps_for_documents(document_id, b, q, kv):
    return (q == kv) & (kv <= q) & (b >= 0)


def _own_and_real(document_id, b, q, kv):
    return own_and_earlier(document_id, b, q, kv) & (document_id[b, q] >= 0)


def _either(document_id, b, q, kv):
    return (document_id[b, q] == document_id[b, kv]) | (kv <= q)


def _conv_cases():
    cases = []
    kernels = [2, 2, 3, 3, 3, 4, 4, 4, 4]
    every = ragged([1], [1, 2], [3, 2], [2, 1, 4], [1, 1, 3])
    for seed, (lengths, taps) in enumerate(zip(every, kernels, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(sum(lengths), 2, generator=generator).round(decimals=1)
        weight = torch.randn(taps, 2, generator=generator).round(decimals=1)
        cases.append((x.requires_grad_(), weight.requires_grad_(), lengths_to_cu_seqlens(lengths)))
    return cases


def conv_within(x, weight, cu_seqlens):
    starts = cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff())
    positions = torch.arange(len(x)) - starts
    output = torch.zeros_like(x)
    for back in range(len(weight)):
        earlier = F.pad(x, (0, 0, back, 0))[: len(x)]
        inside = positions[:, None] >= back
        output = output + weight[back] * earlier.where(inside, 0)
    return output


def _first_steps_dropped(x, weight, cu_seqlens):
    starts = cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff())
    positions = torch.arange(len(x)) - starts
    output = _never_reset(x, weight, cu_seqlens)
    return output.where(positions[:, None] >= len(weight) - 1, 0)


def _never_reset(x, weight, cu_seqlens):
    output = torch.zeros_like(x)
    for back in range(len(weight)):
        output = output + weight[back] * F.pad(x, (0, 0, back, 0))[: len(x)]
    return output


def _only_the_first_step_reset(x, weight, cu_seqlens):
    output = _never_reset(x, weight, cu_seqlens)
    first = torch.zeros(len(x), 1, dtype=torch.bool)
    first[cu_seqlens[:-1].long()] = True
    return output.where(~first, weight[0] * x)


def _moved_by(move):
    """Make a convolution of each sequence by itself, its steps moved back by a function."""

    def convolution(x, weight, cu_seqlens):
        parts = x.split(cu_seqlens.diff().tolist())
        return torch.cat([sum(w * move(one, k) for k, w in enumerate(weight)) for one in parts])

    return convolution


def _repeated(one, back):
    return one[(torch.arange(len(one)) - back).clamp(min=0)]


def _weights_reversed(x, weight, cu_seqlens):
    return conv_within(x, weight.flip(0), cu_seqlens)


def _larger_flat(taps=0):
    lengths = torch.randint(1, 40, (256,)).tolist()
    flat = torch.randn(sum(lengths), 32)
    cu = lengths_to_cu_seqlens(lengths)
    return (flat, torch.randn(taps, 32), cu) if taps else (flat, cu)


EXERCISES = [
    Exercise(
        id="08.1",
        title="Where sequences begin and end",
        minutes=4,
        notice=(
            "B sequences have B + 1 borders. The 0 in front makes `cu_seqlens[i]` the beginning "
            "of sequence i, and `cu_seqlens[i + 1]` its end, for the first sequence too. (CUDA "
            "kernels such as `varlen_attn` read the borders as 32-bit numbers and accept no "
            "others. `.int()` makes int32 of them, as the course's `lengths_to_cu_seqlens` does.)"
        ),
        task=(
            "A flat batch holds sequences of `lengths` (B,) one after the other. Return "
            "`cu_seqlens` (B + 1,): where each one begins, and then where the last one ends. Here, "
            "int64 (which `cumsum` gives) and int32 (which kernels ask for) are both right."
        ),
        hints=(
            "Each sequence begins where the ones before it end. Which running number is that?",
            "`lengths.cumsum(0)` gives the ends, and `F.pad(ends, (1, 0))` puts a 0 in front.",
        ),
        solution=cu_seqlens,
        cases=_length_cases,
        axes="B",
        misconceptions=(
            Misconception(
                "no 0 in front",
                _ends,
                "Those are the ends alone, B numbers. The first sequence begins at 0, and a kernel "
                "that is given only the ends never sees the first sequence.",
            ),
            Misconception(
                "the last end is missing",
                _starts,
                "Those are the beginnings alone, B numbers. Nothing says where the last sequence "
                "ends: B sequences have B + 1 borders.",
            ),
            Misconception(
                "not added up",
                _not_added_up,
                "Those are the lengths with a 0 in front. `cu` stands for *cumulative*: add them "
                "up with `cumsum`.",
            ),
            Misconception(
                "the 0 at the end",
                _zero_at_the_end,
                "The 0 stands at the end. It is where the *first* sequence begins: `(1, 0)` pads "
                "in front.",
            ),
            slip("the total at the end", _total_at_the_end).teach(
                """There are B + 1 numbers, but the last two are the same: `cumsum` already ends
                with the total. What is missing is the 0 in front, where the first sequence
                begins."""
            ),
            Misconception(
                "the last step in place of the end",
                _last_steps,
                "You took 1 off: that is the index of each last step. As with slices in Python, "
                "the end is the first index that no longer belongs to the sequence.",
            ),
            Misconception(
                "borders of a padded batch",
                _padded_borders,
                "Those are the borders of a padded batch, where each sequence is as long as the "
                "longest. In a flat batch, each takes only its own steps.",
            ),
        ),
    ),
    Exercise(
        id="08.2",
        title="The mean of each sequence",
        minutes=8,
        gradients=True,
        larger=_larger_flat,
        notice=(
            "`index_add` adds each step to the row of its sequence, and autograd knows the "
            "derivative: each step gets 1 / length of the gradient of its own mean, and nothing "
            "of any other."
        ),
        task=(
            "`flat` (S, D) holds the steps of B sequences one after the other, `cu_seqlens` "
            "(B + 1,) their borders. Return the mean of each sequence over its steps, (B, D). The "
            "gradient has to come back through it to `flat`. A loop is right; can you do it "
            "without one?"
        ),
        hints=(
            "`cu_seqlens.diff()` gives the lengths. With a loop: `flat.split(lengths.tolist())`. "
            "Without one, find out which sequence each step belongs to, and add it to that "
            "sequence's row.",
            "`torch.arange(B).repeat_interleave(lengths)` names the owners, and "
            "`zeros.index_add(0, owner, flat)` adds; divide by `lengths[:, None]`.",
        ),
        solution=flat_mean,
        cases=_mean_cases,
        axes="B D",
        misconceptions=(
            Misconception(
                "divided by the longest",
                {"lengths[:, None]": "lengths.max()"},
                "Each sum is divided by the *longest* length, as if the batch were padded. Divide "
                "each by its own length.",
                also=(_padded_first,),
            ),
            Misconception(
                "a sum",
                {" / lengths[:, None]": ""},
                "That is the sum over the steps, so a long sequence gets a large answer. Divide by "
                "the length.",
            ),
            Misconception(
                "the mean of the whole batch",
                _mean_of_all,
                "Each sequence was given the mean of *all* steps of the batch. Keep to its own "
                "steps, from `cu_seqlens[i]` to `cu_seqlens[i + 1]`.",
                also=(_sum_of_means,),
            ),
            Misconception(
                "no gradient",
                {"owner, flat)": "owner, flat.detach())"},
                "The values are right, but no gradient comes back to `flat`: nothing would be "
                "learned. Leave out `detach`, `tolist`, `item` and `torch.tensor` of numbers.",
                also=(_by_list,),
            ),
            Misconception(
                "the last step left out",
                _without_the_last,
                "The last step of each sequence is missing. `cu_seqlens[i + 1]` is already one "
                "past the end: slice up to it, with no `- 1`.",
                also=(edited(_without_the_last, {"max(end - 1, begin + 1)": "end - 1"}),),
            ),
            slip(
                "a running sum without a 0 in front",
                _no_0_in_front,
                edited(_no_0_in_front, {"[:-1]]": "[:-1] - 1]"}),
                edited(
                    _no_0_in_front,
                    {"flat.cumsum(0)": "F.pad(flat.cumsum(0), (0, 0, 0, 1))", "[1:] - 1": "[1:]"},
                ),
            ).teach(
                """`flat.cumsum(0)[k]` already includes step k. To subtract what comes before a
                sequence, also the first one, a 0 has to stand in front: with
                `sums = F.pad(flat.cumsum(0), (0, 0, 1, 0))`, `sums[k]` is the sum of the first k
                steps, and `sums[cu_seqlens[1:]] - sums[cu_seqlens[:-1]]` is right."""
            ),
            slip("the first step given to the sequence before", _first_step_given_away).teach(
                """The first step of each sequence went to the sequence before it. A border is
                where a sequence *begins*: `torch.bucketize(steps, cu_seqlens, right=True) - 1`."""
            ),
            slip(
                "one sequence left out",
                _one_left_out,
                edited(_one_left_out, {"(len(cu_seqlens) - 2": "(1, len(cu_seqlens) - 1"}),
            ).teach(
                """You return one row too few. B sequences have B + 1 borders, so the loop runs over
                `range(len(cu_seqlens) - 1)`."""
            ),
            slip("divided by the end", {"lengths[:, None]": "cu_seqlens[1:, None]"}).teach(
                """You divided by where the sequence *ends*, which is its length only for the first
                one. The length is the end less the beginning."""
            ),
            slip("the next sequence's first step too", _one_step_too_many).teach(
                """Each mean includes the first step of the *next* sequence. `cu_seqlens[i + 1]` is
                already one past the end, as in any slice of Python: leave out the `+ 1`. (The
                last sequence is right, because nothing follows it.)"""
            ),
            slip(
                "equal lengths assumed",
                _equal_lengths,
                {"lengths[:, None]": "(len(flat) / len(lengths))"},
            ).teach(
                """This is right only where all sequences have the same length. Sequence i has
                `cu_seqlens[i + 1] - cu_seqlens[i]` steps, which differs from one to the next."""
            ),
            Misconception(
                "from the beginning of the line",
                _from_the_start,
                "Each mean begins at step 0 of the whole line, so it includes the sequences "
                "before. Begin at `cu_seqlens[i]`.",
                also=(edited(_no_0_in_front, {" - sums[cu_seqlens[:-1]]": ""}),),
            ),
            Misconception(
                "divided by the number of sequences",
                {"lengths[:, None]": "len(lengths)"},
                "You divided by B, the number of sequences. Divide each sum by the number of its "
                "own steps.",
            ),
        ),
    ),
    Exercise(
        id="08.3",
        title="A convolution that stops at the border",
        minutes=12,
        gradients=True,
        larger=lambda: _larger_flat(4),
        notice=(
            "A step reaches back no further than its own position. So `positions` is all that a "
            "layer needs to know about the borders, and the same code works on rows."
        ),
        task=(
            "A causal convolution adds to each step a weighted share of the steps before it: "
            "`output[t]` is the sum over `back` of `weight[back] * x[t - back]`. `x` (S, D) is a "
            "flat batch, `weight` (K, D), `cu_seqlens` (B + 1,). Let no step reach back beyond the "
            "beginning of its own sequence: there, as at the beginning of a sequence alone, the "
            "convolution sees zeros. The gradient is checked too."
        ),
        hints=(
            "`F.pad(x, (0, 0, back, 0))[: len(x)]` moves all steps `back` to the right. Which of "
            "them now belong to another sequence? Those whose position is less than `back`.",
            "`positions = arange(S) - starts`, where `starts` is "
            "`cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff())`; then "
            "`earlier.where(positions[:, None] >= back, 0)`.",
        ),
        solution=conv_within,
        cases=_conv_cases,
        axes="S D",
        misconceptions=(
            Misconception(
                "never reset",
                {"earlier.where(inside, 0)": "earlier"},
                "The first steps of each sequence still contain the last steps of the one before: "
                "the convolution crosses the border. Only the first sequence is right.",
                also=(_never_reset,),
            ),
            Misconception(
                "only the first step reset",
                _only_the_first_step_reset,
                "The first step of each sequence is right, but a kernel of K steps reaches back "
                "K - 1: the second step can still see over the border. Compare the position with "
                "`back`.",
            ),
            Misconception(
                "reset one step early",
                {">= back": "> back"},
                "Each step loses the first step of its own sequence, and the first step loses "
                "itself. At position `back`, the step `back` earlier is step 0, so use `>=`.",
            ),
            Misconception(
                "reset one step late",
                {">= back": ">= back - 1"},
                "One step of the sequence before still comes through at each distance. A step at "
                "position p has p steps before it, so use `positions >= back`.",
            ),
            Misconception(
                "the first steps dropped",
                _first_steps_dropped,
                "You set the first K - 1 *outputs* of each sequence to 0. Alone, they are not 0; "
                "only the inputs before the beginning are. Hide inputs, not outputs.",
            ),
            Misconception(
                "the weights reversed",
                _weights_reversed,
                "The weights run the other way: here `weight[0]` is for the step itself, and "
                "`weight[back]` for the one `back` steps earlier.",
            ),
            Misconception(
                "it looks ahead",
                _moved_by(lambda one, back: F.pad(one, (0, 0, 0, back))[back:]),
                "Each step takes from those *after* it. Causal means from earlier steps, so pad "
                "in front.",
            ),
            slip("rolled round", _moved_by(lambda one, back: one.roll(back, 0))).teach(
                """`roll` wraps round: the last steps of a sequence come in again at its beginning.
                There the convolution should see zeros: pad in front."""
            ),
            slip("the first step repeated", _moved_by(_repeated)).teach(
                """Where a step would reach back beyond the beginning, you used the first step
                again. It should see zeros there."""
            ),
            Misconception(
                "the weights left out",
                {"weight[back] * earlier": "earlier"},
                "You added up the earlier steps without their weights.",
            ),
        ),
    ),
    Exercise(
        id="08.4",
        title="A mask for FlexAttention",
        minutes=6,
        notice=(
            "The condition needs `&` and not `and`, because FlexAttention calls the function on "
            "tensors of indices, for all pairs at once. It never stores the (T, T) mask; it asks "
            "block by block."
        ),
        task=(
            "FlexAttention asks a function about pairs of steps: may step `q` of row `b` attend to "
            "step `kv` of that row? All three are tensors of indices. `document_id` (R, T) holds "
            "the index of the sequence that each step belongs to, and -1 at padding. Return True "
            "where the two belong to the same sequence and `kv` is not later than `q`. Let padding "
            "attend to padding in the same way, so that no row is empty."
        ),
        hints=(
            "Whose step is `q`? Look it up: `document_id[b, q]`. And whose is `kv`?",
            "`(document_id[b, q] == document_id[b, kv]) & (kv <= q)`",
        ),
        solution=own_and_earlier,
        cases=_document_cases,
        axes="R T T",
        misconceptions=(
            Misconception(
                "later steps too",
                {" & (kv <= q)": ""},
                "Steps see later steps of their own sequence, so a model that predicts the next "
                "word can simply read it. Add `kv <= q`.",
            ),
            Misconception(
                "causal only",
                {"same & (kv <= q)": "(kv <= q) & (b >= 0)"},
                "That is causal, but each sequence in a row sees those before it. Compare the "
                "`document_id` of both steps too.",
            ),
            Misconception(
                "the past hidden",
                {"kv <= q": "kv >= q"},
                "Queries and keys are swapped: you kept the future and hid the past. Use `kv <= "
                "q`.",
            ),
            Misconception(
                "not itself",
                {"kv <= q": "kv < q"},
                "A step may see itself: without that, the first step of each sequence has nothing "
                "to attend to. Use `<=`, not `<`.",
            ),
            Misconception(
                "one step of the future",
                {"kv <= q": "kv <= q + 1"},
                "Each step sees the next one, which is the answer it is to predict. Use `kv <= q`.",
            ),
            Misconception(
                "the first row for all",
                _first_row,
                "Every row was given the borders of the first one. Look up row `b`: "
                "`document_id[b, q]`.",
                also=(
                    {"document_id[b, ": "document_id[0, "},
                    {"document_id[b, q]": "document_id[0, q]"},
                    {"document_id[b, kv]": "document_id[0, kv]"},
                ),
            ),
            slip("all rows at once", {"document_id[b, ": "document_id[:, "}).teach(
                """You look in all rows, whatever `b` is. That is right only where `b` happens to be
                every row in its order; FlexAttention asks about one row at a time."""
            ),
            Misconception(
                "inverted",
                {"return same & (kv <= q)": "return ~(same & (kv <= q))"},
                "Every entry is the wrong way round: for a `mask_mod`, True = attend.",
            ),
            Misconception(
                "indices compared in place of documents",
                _steps_for_documents,
                "You compared the *indices* of the two steps, so each step sees only itself. "
                "Compare their sequences: `document_id[b, q]` with `document_id[b, kv]`.",
            ),
            Misconception(
                "padding has nothing to attend to",
                _own_and_real,
                "The real steps are right. But rows of padding are empty now, and an empty row of "
                "a softmax can be NaN. Let padding attend to padding.",
            ),
            Misconception(
                "or in place of and",
                _either,
                "`|` lets a pair through where *either* condition holds. Both must hold, so use "
                "`&`.",
            ),
        ),
    ),
]
