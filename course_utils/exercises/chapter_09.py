"""Exercises of chapter 09, Loss and data at scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from course_utils.exercises.engine import Exercise, Misconception, edited, slip


class _Sum:
    """What `all_reduce` does on a rank: adds, in place, what the other ranks hold.

    It watches that it is called once, with this rank's own count, because the others would hang, or
    be handed a wrong sum.
    """

    def __init__(self, own, others):
        self.own, self.others, self.handed = own, others, []

    def __call__(self, value):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"all_reduce needs a tensor, not {type(value).__name__}")
        one = value.numel() == 1
        self.handed.append(value.item() if one else f"a tensor of shape {tuple(value.shape)}")
        value += self.others

    def complaint(self):
        if not self.handed:
            return (
                "In this case your rank does not call `all_reduce`. With real processes the other "
                "ranks wait for it until the time-out: every rank has to call it, whatever it has."
            )
        if len(self.handed) > 1:
            return (
                f"Your rank calls `all_reduce` {len(self.handed)} times, and the other ranks once. "
                "With real processes it waits for ever, or meets an exchange of another kind."
            )
        if self.handed[0] != self.own:
            return (
                f"Your rank hands {self.handed[0]} to `all_reduce`, but it has {self.own} steps "
                "that count. Your own loss may be right; that of every other rank is not, because "
                "they divide by the same sum."
            )
        return ""

    def __deepcopy__(self, memo):
        return _Sum(self.own, self.others)

    def __repr__(self):
        return f"adds {self.others}"


def _loss_cases():
    return [
        (torch.tensor(total, requires_grad=True), torch.tensor(count), _Sum(count, others), ranks)
        for total, count, others, ranks in [
            (10.0, 2, 3, 2),
            (21.0, 7, 1, 2),
            (3.0, 1, 9, 2),
            (8.0, 4, 4, 2),
            (30.0, 12, 20, 4),
            (0.0, 0, 6, 3),
            (5.0, 5, 0, 1),
        ]
    ]


def rank_loss(loss_sum, count, all_reduce, ranks):
    total = count.clone()
    all_reduce(total)
    return loss_sum * ranks / total


def _mean_of_means(loss_sum, count, all_reduce, ranks):
    return loss_sum / count


def _sum_all(loss_sum, count, all_reduce, ranks):
    both, total = loss_sum.clone(), count.clone()
    all_reduce(total)
    all_reduce(both)
    return both * ranks / total


def _sum_all_in_place(loss_sum, count, all_reduce, ranks):
    total = count.clone()
    all_reduce(total)
    all_reduce(loss_sum)
    return loss_sum * ranks / total


def _sum_all_detached(loss_sum, count, all_reduce, ranks):
    both, total = loss_sum.detach().clone(), count.clone()
    all_reduce(total)
    all_reduce(both)
    return both * ranks / total


def _not_reduced(loss_sum, count, all_reduce, ranks):
    return loss_sum * ranks / count


def _detached(loss_sum, count, all_reduce, ranks):
    total = count.clone()
    all_reduce(total)
    return loss_sum.detach() * ranks / total


def _empty_cases():
    cases = []
    for seed, (targets, others) in enumerate(
        [
            ([1, -100], 3),
            ([-100, -100], 4),
            ([2, 0, 1], 0),
            ([-100, -100, -100], 0),
            ([-100, 1, 2, 0, -100], 5),
            ([-100] * 12, 7),
            ([-100, 2], 0),
        ]
    ):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(len(targets), 3, generator=generator).requires_grad_()
        own = sum(target != -100 for target in targets)
        cases.append((logits, torch.tensor(targets), _Sum(own, others), 2))
    return cases


def loss_with_empty_rank(logits, targets, all_reduce, ranks):
    loss_sum = F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    total = (targets != -100).sum()
    all_reduce(total)
    return loss_sum * ranks / total.clamp(min=1)


def _own_mean(logits, targets, all_reduce, ranks):
    total = (targets != -100).sum()
    all_reduce(total)
    return F.cross_entropy(logits, targets) * ranks


def _constant_zero(logits, targets, all_reduce, ranks):
    total = (targets != -100).sum()
    all_reduce(total)
    if bool((targets == -100).all()):
        return torch.zeros(())
    loss_sum = F.cross_entropy(logits, targets, reduction="sum")
    return loss_sum * ranks / total.clamp(min=1)


def _left_early(logits, targets, all_reduce, ranks):
    if not (targets != -100).any():
        return logits.sum() * 0
    return loss_with_empty_rank(logits, targets, all_reduce, ranks)


def _left_early_with_a_constant(logits, targets, all_reduce, ranks):
    if not (targets != -100).any():
        return torch.zeros(())
    return loss_with_empty_rank(logits, targets, all_reduce, ranks)


def _shard_cases():
    return [
        ([[0], [1]], 2),
        ([[3, 1], [0, 2, 4]], 1),
        ([[3], [1, 0], [2, 4, 5, 6]], 2),
        ([[0, 1], [2, 3], [4, 5], [6, 7]], 2),
        ([[6, 4], [1, 3], [5, 7], [2, 0]], 2),
        ([[7, 3, 1], [0, 2, 4], [5, 6, 8]], 2),
        ([[9], [1, 4], [0, 2, 3], [5, 6, 7, 8, 10]], 3),
        ([[4, 0, 3, 1, 2]], 4),
        ([[0, 8, 9, 2, 3], [4, 5, 6, 1, 7]], 4),
        ([[2], [0], [1], [3, 5, 4], [6, 11, 10, 9, 8, 7]], 3),
    ]


def shards(batches, ranks):
    batches = list(batches)
    while len(batches) % ranks:
        largest = max(batches, key=len)
        place, half = batches.index(largest), (len(largest) + 1) // 2
        batches[place : place + 1] = [largest[:half], largest[half:]]
    return [batches[rank::ranks] for rank in range(ranks)]


def _uneven(batches, ranks):
    return [list(batches)[rank::ranks] for rank in range(ranks)]


def _rest_dropped(batches, ranks):
    kept = list(batches)[: len(batches) // ranks * ranks]
    return [kept[rank::ranks] for rank in range(ranks)]


def _repeated(batches, ranks):
    more = list(batches)
    while len(more) % ranks:
        more.append(batches[len(more) % len(batches)])
    return [more[rank::ranks] for rank in range(ranks)]


def _empty_batches(batches, ranks):
    more = list(batches)
    while len(more) % ranks:
        more.append([])
    return [more[rank::ranks] for rank in range(ranks)]


def _one_after_the_other(batches, ranks):
    dealt = [batch for share in zip(*shards(batches, ranks)) for batch in share]  # noqa: B905
    each = len(dealt) // ranks
    return [dealt[rank * each : (rank + 1) * each] for rank in range(ranks)]


def _metric_cases():
    return [
        (torch.tensor(right), count)
        for right, count in [
            ([[1.0], [0.0]], 2),
            ([[1.0, 0.0], [1.0, 1.0]], 3),
            ([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], 5),
            ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 5),
            ([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 9),
            ([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], 6),
            ([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]], 11),
        ]
    ]


def metric_without_repeats(right, count):
    in_order = right.T.flatten()
    return in_order[:count].mean()


EXERCISES = [
    Exercise(
        id="09.1",
        title="The loss of two ranks",
        minutes=6,
        notice=(
            "Only the count is exchanged. The losses never are, because their gradients will be."
        ),
        task=(
            "`loss_sum` is the sum of this rank's losses, `count` how many steps it sums over, a "
            "tensor. `all_reduce(tensor)` sums a tensor over all ranks, *in place*. After "
            "`backward`, DistributedDataParallel *averages* the gradients over the ranks. Return "
            "a loss for this rank such that the averaged gradient is the gradient of the mean over "
            "all ranks' steps. Do not change `count`."
        ),
        hints=(
            "The right gradient is: sum of all ranks' gradients / all ranks' steps. What the "
            "average divides by too much, multiply by beforehand.",
            "Copy `count`, reduce the copy, and divide by it.",
        ),
        solution=rank_loss,
        cases=_loss_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "a mean of means",
                _mean_of_means,
                "That is the mean over this rank's own steps. A step on a rank with few steps then "
                "weighs more than one on a rank with many.",
                also=(
                    {"loss_sum * ranks / total": "loss_sum / count"},
                    {"loss_sum * ranks / total": "loss_sum / count.clamp(min=1)"},
                    edited(_mean_of_means, {"/ count": "/ count.clamp(min=1)"}),
                ),
            ),
            Misconception(
                "divided by the ranks twice",
                {"loss_sum * ranks / total": "loss_sum / total"},
                "Averaging divides the gradients by the number of ranks. Multiply by it first.",
            ),
            Misconception(
                "the losses reduced as well",
                _sum_all,
                "You summed the losses over the ranks too. The gradients are summed already; only "
                "the count has to be known to all.",
                also=(
                    _sum_all_in_place,
                    _sum_all_detached,
                    edited(_sum_all, {"both * ranks": "both"}),
                    edited(_sum_all_detached, {"both * ranks": "both"}),
                ),
            ),
            slip(
                "what all_reduce returns",
                {"    all_reduce(total)": "    total = all_reduce(total)"},
            ).teach(
                """`all_reduce` works *in place* and returns None: after `t = all_reduce(t)` the sum
                is lost. Call it on a line of its own, and go on with the tensor that you gave
                it."""
            ),
            Misconception(
                "the count of this rank",
                _not_reduced,
                "You divide by this rank's own steps. Use `all_reduce` to sum a copy of the count, "
                "and divide by that sum.",
                also=(
                    {"/ total": "/ count"},
                    {"/ total": "/ count.clamp(min=1)"},
                    {"* ranks / total": "/ count / ranks"},
                    edited(_not_reduced, {"/ count": "/ count.clamp(min=1)"}),
                ),
            ),
            Misconception(
                "no gradient",
                _detached,
                "The value is right, but `backward` has nothing to go back through: leave out "
                "`detach` and `item`.",
            ),
            Misconception(
                "ranks added, not multiplied",
                {"loss_sum * ranks": "loss_sum / ranks"},
                "You divide by the number of ranks, but the average does so already. Multiply by "
                "it.",
            ),
        ),
    ),
    Exercise(
        id="09.2",
        title="An empty rank",
        minutes=7,
        notice="The sum over no targets is 0, and it still has a graph, so all gradients are 0.",
        task=(
            "`logits` (N, C) and `targets` (N,), -100 where a step has no target. Return the loss "
            "of this rank as in 09.1, the mean over all ranks' targets. On a rank without any "
            "target it is 0, with gradients of 0 for `logits`, because the other ranks wait for "
            "them; and 0 also where no rank has any."
        ),
        hints=(
            "`reduction='mean'` over nothing is NaN. What is the sum over nothing?",
            '`F.cross_entropy(..., reduction="sum")`, and a divisor of at least 1.',
        ),
        solution=loss_with_empty_rank,
        cases=_empty_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "the mean of this rank",
                _own_mean,
                "The mean over this rank's own targets is a mean of means, and on an empty rank it "
                "is 0 / 0: the loss is NaN.",
            ),
            Misconception(
                "divided by zero",
                {".clamp(min=1)": ""},
                "Where no rank has a target, this is 0 / 0, which is NaN. Keep the divisor at 1 "
                "or more.",
            ),
            Misconception(
                "a constant",
                _constant_zero,
                "The value is right, but a constant has no graph: `backward` raises, or this rank "
                "takes no part in the exchange and the others wait.",
            ),
            Misconception(
                "all steps counted",
                {"(targets != -100).sum()": "torch.tensor(len(targets))"},
                "Your divisor counts steps without a target too, so the loss is too small.",
            ),
            Misconception(
                "divided by the ranks twice",
                {"loss_sum * ranks": "loss_sum"},
                "The gradients are averaged over the ranks, so multiply by their number first, as "
                "in 09.1.",
            ),
            Misconception(
                "never told the others",
                {"    all_reduce(total)\n": ""},
                "You divide by this rank's own targets. And if a rank does not call `all_reduce`, "
                "the others wait for it.",
            ),
            slip("an empty rank leaves early", _left_early, _left_early_with_a_constant).teach(
                """Where it has no target, your rank returns before `all_reduce`. The value is
                right, but with real processes the other ranks wait for its count until the
                time-out. Call `all_reduce` first, on every rank."""
            ),
            slip(
                "its own count clamped before it is exchanged",
                {
                    "(targets != -100).sum()": "(targets != -100).sum().clamp(min=1)",
                    "/ total.clamp(min=1)": "/ total",
                },
                {"(targets != -100).sum()": "(targets != -100).sum().clamp(min=1)"},
            ).teach(
                """An empty rank then tells the others 1 where it has 0. Its own loss is 0 in any
                case, but the others divide by one too many: if the other of two ranks has 2
                targets, its loss is 2 / 3 of the right one. Exchange the true count, and clamp
                the *sum*."""
            ),
        ),
    ),
    Exercise(
        id="09.3",
        title="Shards with the same number of batches",
        minutes=9,
        notice="Nothing is repeated and nothing is dropped; the price is a smaller batch.",
        task=(
            "`batches` are lists of sequence indices. While their number is not a multiple of "
            "`ranks`, split the largest (the one with the most sequences; the first of several) in "
            "two halves, the first one larger where it is odd; both halves take its place. Then "
            "deal the batches out: the first to rank 0, the next to rank 1, and so on in turn. "
            "Return a list with the batches of each rank. Leave `batches` as it is."
        ),
        hints=(
            "`max(batches, key=len)` gives the first of the largest.",
            "A slice can be replaced: `batches[i : i + 1] = [first, second]`. And "
            "`batches[rank::ranks]` is every `ranks`-th, from `rank` on.",
        ),
        solution=shards,
        cases=_shard_cases,
        misconceptions=(
            Misconception(
                "not the same number",
                _uneven,
                "Some ranks have one batch more than others. In that step they wait for the "
                "others, which have already finished.",
            ),
            Misconception(
                "the rest dropped",
                _rest_dropped,
                "The numbers are the same, but the last batches are lost. Every sequence must "
                "come once.",
            ),
            Misconception(
                "batches repeated",
                _repeated,
                "You filled up with batches that were dealt out before, as `DistributedSampler` "
                "does. Their sequences are seen twice, and counted twice in a metric.",
            ),
            Misconception(
                "empty batches",
                _empty_batches,
                "You filled up with empty batches, but a model cannot run on them.",
            ),
            Misconception(
                "one rank after the other",
                _one_after_the_other,
                "You gave each rank a run of neighbouring batches. Deal them out in turn, because "
                "neighbours cost about the same and belong in one step.",
            ),
            Misconception(
                "split unevenly",
                {"(len(largest) + 1) // 2": "1"},
                "You split off a single sequence. Split it in half, so that both parts cost about "
                "the same.",
            ),
            Misconception(
                "the smaller half first",
                {"(len(largest) + 1) // 2": "len(largest) // 2"},
                "If the number of sequences is odd, the first half is the larger one.",
            ),
            Misconception(
                "the last of the largest",
                {"max(batches, key=len)": "max(reversed(batches), key=len)"},
                "If several batches are the largest, split the first of them.",
            ),
            slip(
                "the second half at the end",
                {
                    "[largest[:half], largest[half:]]": "[largest[:half]]\n"
                    "        batches.append(largest[half:])"
                },
            ).teach(
                """You put the second half at the end of the list. Both halves take the place of
                the batch that was split, so that they come in the same step or in neighbouring
                ones: they cost about the same."""
            ),
        ),
    ),
    Exercise(
        id="09.4",
        title="Metrics without repeated items",
        minutes=5,
        notice=(
            "Sample i is on rank i % ranks, at place i // ranks. Transposed, `right` is in order."
        ),
        task=(
            "`DistributedSampler` without shuffling gives rank r the samples r, r + ranks, "
            "r + 2 * ranks and so on; if the ranks do not divide `count`, it begins again with the "
            "first samples. `right` (ranks, n) holds 1.0 where a rank had its sample right, and "
            "the data set has `count` samples. Return the accuracy, each sample counted once."
        ),
        hints=(
            "In which order do the samples stand if you read the ranks' first ones, then their "
            "second ones? What stands at the end?",
            "Transpose `right`, flatten it, and keep the first `count`.",
        ),
        solution=metric_without_repeats,
        cases=_metric_cases,
        misconceptions=(
            Misconception(
                "repeated items counted",
                {"in_order[:count].mean()": "in_order.mean()"},
                "The items at the end are the first ones repeated, so you count these twice.",
            ),
            Misconception(
                "rank by rank",
                {"right.T.flatten()": "right.flatten()"},
                "Read rank by rank, the last rank's samples stand at the end, so you cut off real "
                "ones.",
            ),
            Misconception(
                "divided by all",
                {"in_order[:count].mean()": "in_order[:count].sum() / right.numel()"},
                "The sum is right, but divide by the number of samples without the repeated ones.",
            ),
            Misconception(
                "all summed, divided by the samples",
                {"in_order[:count].mean()": "in_order.sum() / count"},
                "Your sum includes the repeated items, so the accuracy can be above 1.",
            ),
            slip(
                "the last one always dropped",
                {"[:count]": "[:-1]"},
                {"in_order[:count]": "right[:, : count // len(right)]"},
            ).teach(
                """You cut off a fixed number, or whole columns, whether or not anything there is
                repeated. Only what comes after the first `count` samples is."""
            ),
            Misconception(
                "the first samples dropped",
                {"in_order[:count]": "in_order[-count:]"},
                "The repeated items stand at the end, but you cut off the beginning.",
            ),
        ),
    ),
]
