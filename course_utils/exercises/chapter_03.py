"""Exercises of chapter 03, Masking and the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from course_utils.exercises.engine import Exercise, Misconception
from course_utils.masks import lengths_to_keep_mask

_LENGTHS = [[2, 1], [3, 1, 2], [2, 2], [4, 1], [1, 5, 3], [6, 2, 2, 4]]


def _mask_cases():
    rows = [
        ["10", "11"],
        ["110", "111", "100"],
        ["111", "111"],
        ["101", "110"],
        ["000", "100"],
        ["01", "11"],
        ["1011", "0111", "1100", "1111"],
        ["10110", "11111", "11000", "00000", "00001"],
    ]
    return [(torch.tensor([[c == "1" for c in row] for row in one]),) for one in rows]


def lengths_and_holes(keep_mask):
    lengths = keep_mask.sum(dim=1)
    steps = torch.arange(keep_mask.shape[1])
    has_hole = (keep_mask != (steps < lengths[:, None])).any(dim=1)
    return lengths, has_hole


def _inverted_lengths(keep_mask):
    return lengths_and_holes(~keep_mask)


def _first_padding(keep_mask):
    return keep_mask.long().argmin(dim=1), lengths_and_holes(keep_mask)[1]


def _hole_where_padding(keep_mask):
    return keep_mask.sum(dim=1), ~keep_mask.all(dim=1)


def _all_in_place_of_any(keep_mask):
    lengths = keep_mask.sum(dim=1)
    expected = torch.arange(keep_mask.shape[1]) < lengths[:, None]
    return lengths, (keep_mask == expected).all(dim=1)


def _left_is_no_hole(keep_mask):
    # A hole only between two real steps.
    lengths, _ = lengths_and_holes(keep_mask)
    first = keep_mask.long().argmax(dim=1)
    return lengths, (_up_to_last(keep_mask)[0] - first != lengths) & (lengths > 0)


def _over_the_rows(keep_mask):
    return keep_mask.sum(dim=0), lengths_and_holes(keep_mask)[1]


def _no_holes(keep_mask):
    return keep_mask.sum(dim=1), torch.zeros(len(keep_mask), dtype=torch.bool)


def _up_to_last(keep_mask):
    steps = torch.arange(1, keep_mask.shape[1] + 1)
    lengths = (keep_mask * steps).amax(dim=1)
    return lengths, lengths != keep_mask.sum(dim=1)


def _loss_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        B, T, C = len(lengths), max(lengths), 3
        for extra, junk in ((0, 0.0), (2, 7.0), (1, float("nan"))):
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), T + extra)
            if seed > 3:
                keep_mask[0, 0] = len(keep_mask[0]) < 2  # a mask may have a hole
            logits = torch.randn(B, T + extra, C, generator=generator).round(decimals=1)
            logits = logits.masked_fill(~keep_mask[..., None], junk)
            targets = torch.randint(0, C, (B, T + extra), generator=generator)
            targets[-1, 0] = 0  # class 0 is a class like any other, and the padding's number too
            targets = targets.masked_fill(~keep_mask, 0)
            cases.append((logits.requires_grad_(), targets, keep_mask))
    return cases


def masked_loss(logits, targets, keep_mask):
    return F.cross_entropy(logits[keep_mask], targets[keep_mask])


def _per_step(logits, targets):
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def _unmasked(logits, targets, keep_mask):
    return _per_step(logits, targets).mean()


def _over_everything(logits, targets, keep_mask):
    return _per_step(logits, targets).masked_fill(~keep_mask, 0).mean()


def _over_everything_multiplied(logits, targets, keep_mask):
    return (_per_step(logits, targets) * keep_mask).mean()


def _over_everything_selected(logits, targets, keep_mask):
    return masked_loss(logits, targets, keep_mask) * keep_mask.sum() / keep_mask.numel()


def _each_sequence(logits, targets, keep_mask):
    real = _per_step(logits, targets).masked_fill(~keep_mask, 0)
    return (real.sum(1) / keep_mask.sum(1)).mean()


def _each_sequence_selected(logits, targets, keep_mask):
    rows = zip(logits, targets, keep_mask, strict=True)
    return torch.stack([F.cross_entropy(x[keep], y[keep]) for x, y, keep in rows]).mean()


def _multiplied_loss(logits, targets, keep_mask):
    return (_per_step(logits, targets) * keep_mask).sum() / keep_mask.sum()


def _pad_label(logits, targets, keep_mask):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=0)


def _inverted_loss(logits, targets, keep_mask):
    return F.cross_entropy(logits[~keep_mask], targets[~keep_mask])


def _inverted_fill(logits, targets, keep_mask):
    return _per_step(logits, targets).masked_fill(keep_mask, 0).sum() / keep_mask.sum()


def _reshaped(logits, targets, keep_mask):
    B, T, C = logits.shape
    per_step = F.cross_entropy(logits.reshape(B, C, T), targets, reduction="none")
    return per_step[keep_mask].mean()


def _not_transposed(logits, targets, keep_mask):
    return F.cross_entropy(logits, targets.masked_fill(~keep_mask, -100))


def _not_transposed_per_step(logits, targets, keep_mask):
    return F.cross_entropy(logits, targets, reduction="none")[keep_mask].mean()


def _by_lengths(logits, targets, keep_mask):
    rows = zip(logits, targets, keep_mask.sum(1).tolist(), strict=True)
    parts = [(x[:length], y[:length]) for x, y, length in rows]
    return F.cross_entropy(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _summed(logits, targets, keep_mask):
    return F.cross_entropy(logits[keep_mask], targets[keep_mask], reduction="sum")


def _summed_over_sequences(logits, targets, keep_mask):
    return _summed(logits, targets, keep_mask) / len(logits)


def _filled_per_step(logits, targets, keep_mask):
    return _per_step(logits, targets).masked_fill(~keep_mask, 0).sum() / keep_mask.sum()


def _nothing_cases():
    cases = []
    for seed, ignored in enumerate((1, 2, 0, 2, 5)):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(max(ignored, 2), 3, generator=generator).round(decimals=1)
        targets = torch.randint(0, 3, (len(logits),), generator=generator)
        targets[:ignored] = -100
        if seed == 3:
            logits[:] = torch.tensor([0.0, 2.0, -1.0])
        cases.append((logits.requires_grad_(), targets))
    # A loss that really is NaN must stay one: a guard is no rug.
    broken = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]], requires_grad=True)
    return [*cases, (broken, torch.tensor([0, 1]))]


def guarded_loss(logits, targets):
    total = F.cross_entropy(logits, targets, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)


def _plain(logits, targets):
    return F.cross_entropy(logits, targets)


def _by_hand(logits, targets):
    keep = targets != -100
    per_step = F.cross_entropy(logits, targets.masked_fill(~keep, 0), reduction="none")
    return (per_step * keep).sum() / keep.sum()


def _new_zero(logits, targets):
    if (targets == -100).all():
        return torch.tensor(0.0)
    return F.cross_entropy(logits, targets)


def _new_zero_with_gradient(logits, targets):
    if (targets == -100).all():
        return torch.tensor(0.0, requires_grad=True)
    return F.cross_entropy(logits, targets)


def _times_zero(logits, targets):
    loss = F.cross_entropy(logits, targets)
    return loss * 0 if (targets == -100).all() else loss


def _swept(logits, targets):
    return F.cross_entropy(logits, targets).nan_to_num()


def _swept_by_new_zero(logits, targets):
    loss = F.cross_entropy(logits, targets)
    return torch.zeros_like(loss) if loss.isnan() else loss


def _summed_loss(logits, targets):
    return F.cross_entropy(logits, targets, reduction="sum")


def _class_zero(logits, targets):
    return F.cross_entropy(logits, targets.clamp(min=0))


def _plus_one(logits, targets):
    return F.cross_entropy(logits, targets, reduction="sum") / ((targets != -100).sum() + 1)


def _all_counted(logits, targets):
    return F.cross_entropy(logits, targets, reduction="sum") / len(targets)


def _micro_cases():
    cases = []
    for seed, groups in enumerate(
        ([[1], [3]], [[2, 1], [4, 4]], [[2], [2]], [[5, 1], [1], [2, 2, 2]], [[3], [0, 0], [1]])
    ):
        generator = torch.Generator().manual_seed(seed)
        micro_batches = []
        for lengths in groups:
            T = max(max(lengths), 1)
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), T)
            steps = torch.randn(len(lengths), T, 2, generator=generator).round(decimals=1)
            targets = torch.randint(0, 3, (len(lengths), T), generator=generator)
            micro_batches.append((steps, targets, keep_mask))
        weight = torch.randn(3, 2, generator=generator).round(decimals=1)
        cases.append((weight.requires_grad_(), micro_batches))
    return cases


def accumulate(weight, micro_batches):
    count = sum(keep_mask.sum() for _, _, keep_mask in micro_batches)
    for steps, targets, keep_mask in micro_batches:
        logits = steps @ weight.T
        loss = F.cross_entropy(logits[keep_mask], targets[keep_mask], reduction="sum")
        (loss / count).backward()
    return weight.grad


def _backward(weight, micro_batches, divisor):
    for steps, targets, keep_mask in micro_batches:
        logits = steps @ weight.T
        loss = F.cross_entropy(logits[keep_mask], targets[keep_mask], reduction="sum")
        (loss / divisor(targets, keep_mask)).backward()
    return weight.grad


def _mean_of_means(weight, micro_batches):
    return _backward(weight, micro_batches, lambda _, keep: keep.sum() * len(micro_batches))


def _sum_of_means(weight, micro_batches):
    return _backward(weight, micro_batches, lambda _, keep: keep.sum())


def _never_divided(weight, micro_batches):
    return _backward(weight, micro_batches, lambda _, keep: 1)


def _divided_by_micro_batches(weight, micro_batches):
    return _backward(weight, micro_batches, lambda _, keep: len(micro_batches))


def _cells_counted(weight, micro_batches):
    cells = sum(keep_mask.numel() for _, _, keep_mask in micro_batches)
    return _backward(weight, micro_batches, lambda _, keep: cells)


def _mean_of_non_empty(weight, micro_batches):
    filled = [one for one in micro_batches if one[2].any()]
    return _mean_of_means(weight, filled)


def _divided_twice(weight, micro_batches):
    count = sum(keep_mask.sum() for _, _, keep_mask in micro_batches)
    return _backward(weight, micro_batches, lambda _, keep: count * len(micro_batches))


def _by_sequences(weight, micro_batches):
    sequences = sum(len(keep_mask) for _, _, keep_mask in micro_batches)
    return _backward(weight, micro_batches, lambda _, keep: sequences)


def _everything(weight, micro_batches):
    return accumulate(
        weight, [(steps, targets, torch.ones_like(keep)) for steps, targets, keep in micro_batches]
    )


def _only_the_last(weight, micro_batches):
    count = sum(keep_mask.sum() for _, _, keep_mask in micro_batches)
    return _backward(weight, micro_batches[-1:], lambda _, keep: count)


def _inverted_micro(weight, micro_batches):
    return accumulate(weight, [(steps, targets, ~keep) for steps, targets, keep in micro_batches])


def _attention_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        for extra, junk in ((1, 0.0), (0, 5.0), (2, float("nan"))):
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + extra)
            shape = (*keep_mask.shape, 2)
            values = torch.randn(shape, generator=generator).round(decimals=1)
            scores = torch.randn(shape[:2], generator=generator).round(decimals=1)
            values = values.masked_fill(~keep_mask[..., None], junk)
            scores = scores.masked_fill(~keep_mask, junk)
            cases.append((values.requires_grad_(), scores.requires_grad_(), keep_mask))
    return cases


def attention_pool(values, scores, keep_mask):
    weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=1)
    real = values.masked_fill(~keep_mask[..., None], 0)
    return (weights[..., None] * real).sum(dim=1)


def _pool(values, weights):
    return (weights[..., None] * values).sum(dim=1)


def _pool(values, weights):
    return (weights[..., None] * values).sum(dim=1)


def _real(values, keep_mask):
    return values.masked_fill(~keep_mask[..., None], 0)


def _no_mask_pool(values, scores, keep_mask):
    return _pool(values, scores.softmax(dim=1))


def _score_zero(values, scores, keep_mask):
    return _pool(_real(values, keep_mask), scores.masked_fill(~keep_mask, 0).softmax(dim=1))


def _score_zero_values_as_given(values, scores, keep_mask):
    return _pool(values, scores.masked_fill(~keep_mask, 0).softmax(dim=1))


def _score_multiplied(values, scores, keep_mask):
    return _pool(values, (scores * keep_mask).softmax(dim=1))


def _score_multiplied_values_filled(values, scores, keep_mask):
    return _pool(_real(values, keep_mask), (scores * keep_mask).softmax(dim=1))


def _zero_after(values, scores, keep_mask):
    weights = scores.softmax(dim=1).masked_fill(~keep_mask, 0)
    return _pool(_real(values, keep_mask), weights)


def _zero_after_values_as_given(values, scores, keep_mask):
    return _pool(values, scores.softmax(dim=1).masked_fill(~keep_mask, 0))


def _multiplied_after(values, scores, keep_mask):
    return _pool(values, scores.softmax(dim=1) * keep_mask)


def _inverted_pool(values, scores, keep_mask):
    return attention_pool(values, scores, ~keep_mask)


def _inverted_scores(values, scores, keep_mask):
    return _pool(_real(values, keep_mask), scores.masked_fill(keep_mask, -torch.inf).softmax(1))


def _inverted_scores_alone(values, scores, keep_mask):
    return _pool(values, scores.masked_fill(keep_mask, -torch.inf).softmax(1))


def _over_the_batch(values, scores, keep_mask):
    weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=0)
    return _pool(_real(values, keep_mask), weights)


def _over_the_batch_values_as_given(values, scores, keep_mask):
    return _pool(values, scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=0))


def _weights_only(values, scores, keep_mask):
    weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=1)
    return _pool(values, weights)


def _product_filled(values, scores, keep_mask):
    weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=1)
    return _real(weights[..., None] * values, keep_mask).sum(dim=1)


def _mean_in_place_of_sum(values, scores, keep_mask):
    return attention_pool(values, scores, keep_mask) / keep_mask.shape[1]


EXERCISES = [
    Exercise(
        id="03.1",
        title="Back to lengths, if there are any",
        minutes=6,
        task=(
            "From `keep_mask` (B, T), True where real, return two tensors: the number of real "
            "steps of each row (B,), and whether the row has a *hole* (B,), bool: padding with a "
            "real step somewhere after it. Padding on the left counts as a hole too; a row "
            "without any real step has none."
        ),
        hints=(
            "The number of real steps is a sum. A row without a hole is the mask that those "
            "lengths would give.",
            "Build `steps < lengths[:, None]` from your lengths, and compare it with "
            "`keep_mask`, row by row.",
        ),
        solution=lengths_and_holes,
        cases=_mask_cases,
        misconceptions=(
            Misconception(
                "the mask is inverted",
                _inverted_lengths,
                "You counted the padding: `keep_mask` is True where a step is *real*. Only a "
                "`key_padding_mask` is True where it is padding.",
            ),
            Misconception(
                "up to the first padding",
                _first_padding,
                "`argmin` finds the first padding, but a row without any has none, and there it "
                "says 0. After a hole there may be more real steps. Count them: `sum(dim=1)`.",
            ),
            Misconception(
                "padding taken for a hole",
                _hole_where_padding,
                "You reported a hole wherever there is padding. Padding after the last real step "
                "is no hole.",
            ),
            Misconception(
                "holes where there are none",
                _all_in_place_of_any,
                "You have found the rows *without* a hole: turn it round, with `~` or `!=`.",
            ),
            Misconception(
                "padding on the left is no hole",
                _left_is_no_hole,
                "Here it counts as one: no length describes a row that begins with padding.",
            ),
            Misconception(
                "summed over the sequences",
                _over_the_rows,
                "`sum(dim=0)` counts, for each step, the sequences that have it. The steps of one "
                "sequence lie along `dim=1`.",
            ),
            Misconception(
                "no hole ever",
                _no_holes,
                "The counts are right, but some rows do have padding before a real step. Compare "
                "the mask with the one that your lengths would give.",
            ),
            Misconception(
                "up to the last real step",
                _up_to_last,
                "You gave the place of the last real step. With a hole before it, that is more "
                "than the number of real steps.",
            ),
        ),
    ),
    Exercise(
        id="03.2",
        title="The loss over real steps",
        minutes=8,
        task=(
            "Return the mean cross-entropy over all real steps of the batch, one number. `logits` "
            "(B, T, C), `targets` (B, T), `keep_mask` (B, T), True where real; it may have holes. "
            "At padding the targets are 0, which is also the number of a class, and the logits may "
            "be anything, NaN too. The gradient must be right as well."
        ),
        hints=(
            "What if you took only the real steps, before computing any loss?",
            "A mask is an index: `logits[keep_mask]` is (real steps, C), which is the shape that "
            "`F.cross_entropy` likes best.",
        ),
        solution=masked_loss,
        cases=_loss_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "padding counted as steps",
                _unmasked,
                "You averaged over all steps, so the model learns to predict class 0 on padding.",
            ),
            Misconception(
                "masked, then divided by B × T",
                _over_everything,
                "The padding's loss is gone, but it still counts in the divisor: `.mean()` divides "
                "by all cells. Divide by the number of real steps.",
                (_over_everything_multiplied, _over_everything_selected),
            ),
            Misconception(
                "a mean for each sequence",
                _each_sequence,
                "You averaged each sequence, and then the sequences. That is a good loss too, but "
                "not this one: here each step has one vote, so divide once, by all real steps.",
                (_each_sequence_selected,),
            ),
            Misconception(
                "never divided",
                _summed,
                "That is the sum over the real steps. Divide it by their number.",
            ),
            Misconception(
                "divided by the number of sequences",
                _summed_over_sequences,
                "The sum is right. Divide it by the number of real *steps*.",
            ),
            Misconception(
                "lengths from a mask with holes",
                _by_lengths,
                "You cut each row at its number of real steps. In a row with a hole that keeps the "
                "wrong ones. Use the mask itself.",
            ),
            Misconception(
                "the mask multiplies",
                _multiplied_loss,
                "With NaN in the padding, NaN × 0 is NaN. Select the real steps instead: "
                "`[keep_mask]`.",
            ),
            Misconception(
                "the logits at padding were used",
                _filled_per_step,
                "The value is right, the gradient is not. The loss was computed at padding too, "
                "and on the way back its 0 meets the NaN there: 0 × NaN is NaN. Leave the padding "
                "out *before* the loss: select the real logits, or fill those at padding.",
            ),
            Misconception(
                "the pad label is also a class",
                _pad_label,
                "`ignore_index=0` drops the padding, and every real step whose class is 0. Use the "
                "mask, or targets of -100.",
            ),
            Misconception(
                "the mask is inverted",
                _inverted_loss,
                "You kept the padding and dropped the data: `keep_mask` is True where a step is "
                "real, and `masked_fill` fills where its mask is True.",
                (_inverted_fill,),
            ),
            Misconception(
                "classes not second",
                _not_transposed,
                "`F.cross_entropy` wants the classes second, (B, C, T): `logits.transpose(1, 2)`. "
                "Where T = C it does not even complain.",
                (_not_transposed_per_step,),
            ),
            Misconception(
                "reshaped in place of transposed",
                _reshaped,
                "`F.cross_entropy` wants the classes second, (B, C, T). `reshape` only cuts the "
                "numbers anew and mixes steps with classes; `transpose(1, 2)` swaps.",
            ),
        ),
    ),
    Exercise(
        id="03.3",
        title="Nothing to learn from",
        minutes=6,
        task=(
            "Return the mean cross-entropy over the targets that are not -100. `logits` (N, C), "
            "`targets` (N,). Where all of them are -100, return 0 with a gradient of 0. A loss "
            "that is NaN for another reason must stay NaN: it is news."
        ),
        hints=(
            'Sum first: `F.cross_entropy(logits, targets, reduction="sum")` is 0 where nothing '
            "is left. Then divide, but by what?",
            "`(targets != -100).sum()` counts. `clamp(min=1)` keeps a count of 0 from dividing.",
        ),
        solution=guarded_loss,
        cases=_nothing_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "0 / 0",
                _plain,
                "Of no targets at all the mean is 0 / 0: NaN. And times 0 it stays NaN.",
                (_times_zero,),
            ),
            Misconception(
                "0 / 0, and a mask that multiplies",
                _by_hand,
                "Dividing by 0 sends back ∞, and the mask makes ∞ × 0 of it: not only the loss is "
                "NaN but also its gradient. One optimizer step, and all weights are.",
            ),
            Misconception(
                "a zero from nowhere",
                _new_zero,
                "The value is right, but a new tensor has no connection to the model: `backward()` "
                "raises an error, or reaches nothing. Let the 0 come out of the sum.",
                (_new_zero_with_gradient,),
            ),
            Misconception(
                "NaN swept away",
                _swept,
                "Replacing NaN by 0 hides every other NaN as well: a model that diverges would "
                "report a loss of 0. Ask how many targets there are, not what came out.",
                (_swept_by_new_zero,),
            ),
            Misconception(
                "never divided",
                _summed_loss,
                "That is the sum. Divide it by the number of targets that are not -100.",
            ),
            Misconception(
                "ignored targets made class 0",
                _class_zero,
                "`clamp(min=0)` turns -100 into class 0, and the model learns it.",
            ),
            Misconception(
                "one too many",
                _plus_one,
                "Adding 1 to the count prevents 0 / 0, and makes every other mean too small. Use "
                "`clamp(min=1)`.",
            ),
            Misconception(
                "the ignored are counted",
                _all_counted,
                "You divided by all targets, the ignored ones too.",
            ),
        ),
    ),
    Exercise(
        id="03.4",
        title="One batch in several pieces",
        minutes=8,
        task=(
            "Each micro-batch is `(steps, targets, keep_mask)` of shapes (b, T, D), (b, T), "
            "(b, T); the logits are `steps @ weight.T`. Call `backward()` once for each, so that "
            "`weight.grad` becomes the gradient of the mean cross-entropy over *all* real steps "
            "of *all* of them, and return `weight.grad`. A micro-batch may have no real step."
        ),
        hints=(
            "Gradients add up over `backward()` calls. Which sum of losses is the mean that you "
            "want?",
            "Count the real steps of all micro-batches before the first `backward()`, and divide "
            'each `reduction="sum"` by that one number.',
        ),
        solution=accumulate,
        cases=_micro_cases,
        misconceptions=(
            Misconception(
                "a mean of means",
                _mean_of_means,
                "You averaged each micro-batch, and then the micro-batches. A step of a small "
                "micro-batch then weighs more than one of a large.",
                (_mean_of_non_empty,),
            ),
            Misconception(
                "a sum of means",
                _sum_of_means,
                "Each micro-batch was divided by its own count, and nothing by the number of "
                "micro-batches: a mean of means, and that many times too large as well.",
            ),
            Misconception(
                "never divided",
                _never_divided,
                "The gradients are sums over real steps. Divide by the number of real steps of "
                "all micro-batches.",
            ),
            Misconception(
                "divided by the number of micro-batches",
                _divided_by_micro_batches,
                "The sums are right, but the divisor is not: it must be the number of real steps "
                "of all micro-batches.",
            ),
            Misconception(
                "padding in the divisor",
                _cells_counted,
                "You divided by all cells, padding too. Count `keep_mask.sum()`, not "
                "`keep_mask.numel()`.",
            ),
            Misconception(
                "divided twice",
                _divided_twice,
                "You divided by all real steps, and then by the number of micro-batches as well.",
            ),
            Misconception(
                "divided by the number of sequences",
                _by_sequences,
                "The mean over *steps* is asked for: divide by the number of real steps.",
            ),
            Misconception(
                "no mask",
                _everything,
                "The padding was learned from, like any step: use `keep_mask`.",
            ),
            Misconception(
                "only the last micro-batch",
                _only_the_last,
                "Only the last micro-batch has reached the gradient. Is `backward()` inside the "
                "loop, and nothing there that clears gradients?",
            ),
            Misconception(
                "the mask is inverted",
                _inverted_micro,
                "You learned from the padding: `keep_mask` is True where a step is real.",
            ),
        ),
    ),
    Exercise(
        id="03.5",
        title="Attention pooling",
        minutes=8,
        task=(
            "Average each sequence with weights: the softmax of `scores` (B, T) over its real "
            "steps. `values` (B, T, D), `keep_mask` (B, T), True where real; every row has a "
            "real step. Return (B, D). The padding may hold anything, NaN too, and the gradient "
            "must be right as well."
        ),
        hints=(
            "A score of 0 is no weight of 0: the softmax takes its exponential, which is 1. Which "
            "score becomes a weight of 0?",
            "`masked_fill(~keep_mask, -torch.inf)` on the scores, before the softmax over "
            "`dim=1`. And a weight of 0 does not stop a NaN among the values.",
        ),
        solution=attention_pool,
        cases=_attention_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "no mask",
                _no_mask_pool,
                "The padding got its share of the weights, like any step.",
            ),
            Misconception(
                "scores of 0 at padding",
                _score_zero,
                "A score of 0 is an ordinary score: its exponential is 1, so the padding still "
                "takes a share of the weights. Use `-torch.inf`.",
                (_score_zero_values_as_given,),
            ),
            Misconception(
                "the mask multiplies",
                _score_multiplied,
                "You multiplied the scores by the mask. A score of 0 is an ordinary score, and "
                "NaN × 0 is NaN. Use `masked_fill(~keep_mask, -torch.inf)`.",
                (_score_multiplied_values_filled,),
            ),
            Misconception(
                "masked after the softmax",
                _zero_after,
                "The padding had its share already: after setting it to 0, the weights of the "
                "real steps no longer add up to 1. Mask before the softmax.",
                (_zero_after_values_as_given, _multiplied_after),
            ),
            Misconception(
                "the mask is inverted",
                _inverted_pool,
                "You averaged the padding: `keep_mask` is True where a step is real, and "
                "`masked_fill` fills where its mask is True. Use `~keep_mask` there.",
                (_inverted_scores, _inverted_scores_alone),
            ),
            Misconception(
                "softmax over the batch",
                _over_the_batch,
                "`dim=0` lets the sequences compete with each other. The steps of one sequence lie "
                "along `dim=1`.",
                (_over_the_batch_values_as_given,),
            ),
            Misconception(
                "NaN among the values",
                _weights_only,
                "The weights are right, but 0 × NaN is NaN: fill the padding of `values` as well.",
            ),
            Misconception(
                "NaN in the gradient",
                _product_filled,
                "The value is right, the gradient is not: the padding was multiplied first and "
                "filled afterwards, and on the way back 0 × NaN is NaN. Fill `values` before.",
            ),
            Misconception(
                "a mean of weighted values",
                _mean_in_place_of_sum,
                "The weights add up to 1 already: sum over time, do not average.",
            ),
        ),
    ),
]
