"""Exercises of chapter 03, Masking and the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.exercises.cases import (
    filled,
    ragged,
    ragged_batches,
    with_number_at_real_step,
)
from course_utils.exercises.engine import Exercise, edited, slip

_LENGTHS = ragged([2, 1], [3, 1, 2], [2, 2], [4, 1], [1, 5, 3], [6, 2, 2, 4])


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
        ["111111111100", "111111111101", "100000000000"],
        ["111111111110", "111111111111", "110000000000"],
    ]
    return [(torch.tensor([[c == "1" for c in row] for row in one]),) for one in rows]


def lengths_and_holes(keep_mask):
    lengths = keep_mask.sum(dim=1)
    steps = torch.arange(keep_mask.shape[1])
    has_hole = (keep_mask != (steps < lengths[:, None])).any(dim=1)
    return lengths, has_hole


HOLES = Exercise(
    id="03.1",
    title="Back to lengths, if there are any",
    minutes=6,
    notice="""
        One comparison is enough: a row has no hole exactly when its mask is the one that its length
        would give.""",
    task="""
        From `keep_mask` (B, T), True where real, return two tensors: the number of real steps in
        each row (B,), and whether the row has a *hole* (B,), bool: padding with a real step
        somewhere after it. Padding on the left counts as a hole too; a row without any real step
        has none.""",
    hints=(
        """The number of real steps is a sum. A row without a hole is the mask that those lengths
        would give.""",
        """Build `steps < lengths[:, None]` from your lengths, and compare it with `keep_mask`, row
        by row.""",
    ),
    solution=lengths_and_holes,
    cases=_mask_cases,
    axes="B, B",
    misconceptions=(
        slip(
            "the mask is inverted", {"    lengths": "    keep_mask = ~keep_mask\n    lengths"}
        ).teach("""
            You counted the padding: `keep_mask` is True where a step is *real*. Only a
            `key_padding_mask` is True at padding."""),
        slip(
            "up to the first padding",
            {"return lengths": "return keep_mask.long().argmin(dim=1)"},
            {"keep_mask.sum(dim=1)": "keep_mask.long().argmin(dim=1)"},
        ).teach("""
            `argmin` finds the first padded step, but in a row without padding it returns 0. And
            after a hole there may be more real steps. Count the real steps: `sum(dim=1)`."""),
        slip(
            "the first real step",
            {"return lengths": "return keep_mask.long().argmax(dim=1)"},
            {"keep_mask.sum(dim=1)": "keep_mask.long().argmax(dim=1)"},
        ).teach("""
            `argmax` finds the first *real* step, which is step 0 in almost every row, and 0 in a
            row that has none. Count the real steps: `sum(dim=1)`."""),
        slip(
            "a full row taken for one with a hole",
            {"has_hole\n": "keep_mask.long().argmin(dim=1) < lengths\n"},
            {"has_hole\n": "keep_mask.long().argmin(dim=1) != lengths\n"},
        ).teach("""
            In a row without padding, `argmin` finds no 0, and returns index 0 all the same. So
            every full row seems to have a hole."""),
        slip(
            "argmin in place of argmax",
            {
                "has_hole\n": "(\n        keep_mask.shape[1]"
                " - keep_mask.long().flip(1).argmin(dim=1) != lengths\n    )\n"
            },
        ).teach("""
            Seen from the end, `argmin` finds the last step of *padding*. The last real step is the
            first 1 from there, which `argmax` finds."""),
        slip(
            "padding taken for a hole",
            {"return lengths, has_hole": "return lengths, ~keep_mask.all(dim=1)"},
        ).teach("""
            You reported a hole wherever there is padding. Padding after the last real step is not a
            hole."""),
        slip("holes where there are none", {"!=": "==", ".any": ".all"}, {"!=": "=="}).teach("""
            You found the rows *without* a hole. Negate the result with `~`, or compare with
            `!=`."""),
        slip(
            "padding on the left is not a hole",
            {
                "return lengths, has_hole": "first = keep_mask.long().argmax(dim=1)\n"
                "    last = (keep_mask * (steps + 1)).amax(dim=1)\n"
                "    return lengths, (last - first != lengths) & (lengths > 0)"
            },
        ).teach("""
            In this task, padding on the left counts as a hole: no length describes a row that
            begins with padding."""),
        slip(
            "summed over the sequences", {"return lengths": "return keep_mask.sum(dim=0)"}
        ).teach("""
            `sum(dim=0)` counts, for each step, the sequences that have it. The steps of one
            sequence lie along `dim=1`."""),
        slip("no hole ever", {", has_hole": ", torch.zeros_like(has_hole)"}).teach("""
            The counts are right, but some rows do have padding before a real step. Compare the mask
            with the one that your lengths would give."""),
        slip(
            "up to the last real step",
            {
                "return lengths, has_hole": "last = (keep_mask * (steps + 1)).amax(dim=1)\n"
                "    return last, last != lengths"
            },
        ).teach("""
            You returned the position of the last real step. If there is a hole before it, that is
            more than the number of real steps."""),
    ),
)


def _loss_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        B, T, C = len(lengths), max(lengths), 3
        for extra, junk in ((0, 0.0), (2, 7.0), (1, float("nan"))):
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), T + extra)
            if seed in (4, 5) or B * extra == 3:
                keep_mask[0, 0] = len(keep_mask[0]) < 2  # a mask may have a hole
            logits = torch.randn(B, T + extra, C, generator=generator).round(decimals=1)
            targets = torch.randint(0, C, (B, T + extra), generator=generator)
            targets[-1, 0] = 0  # class 0 is a class like any other, and also the padding's target
            targets = targets.masked_fill(~keep_mask, 0)
            cases.append((filled(logits, keep_mask, junk).requires_grad_(), targets, keep_mask))
    # A loss that really is NaN must stay NaN. A class that is ruled out does no harm, nor do
    # logits so large that their exponential is infinite.
    logits, targets, keep_mask = cases[4]
    for number in (float("nan"), float("inf")):
        broken = with_number_at_real_step(logits.detach(), number, 1)
        cases.append((broken.requires_grad_(), targets, keep_mask))
    ruled_out = logits.detach().clone()
    ruled_out[0, 1, (targets[0, 1] + 1) % 3] = -float("inf")
    cases.append((ruled_out.requires_grad_(), targets, keep_mask))
    return [*cases, ((logits.detach() * 200).requires_grad_(), targets, keep_mask)]


def masked_loss(logits, targets, keep_mask):
    return F.cross_entropy(logits[keep_mask], targets[keep_mask])


def _filled_per_step(logits, targets, keep_mask):
    per_step = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return per_step.masked_fill(~keep_mask, 0).sum() / keep_mask.sum()


def _per_step(mean, edit=None):
    """Take another mean of the losses of all steps."""
    right = "per_step.masked_fill(~keep_mask, 0).sum() / keep_mask.sum()"
    return edited(_filled_per_step, {right: mean} | (edit or {}))


def _each_sequence_selected(logits, targets, keep_mask):
    rows = zip(logits, targets, keep_mask, strict=True)
    return torch.stack([F.cross_entropy(x[keep], y[keep]) for x, y, keep in rows]).mean()


_SELECTED = "per_step[keep_mask].mean()"
_PRODUCT = "(per_step * keep_mask).sum() / keep_mask.sum()"

MASKED_LOSS = Exercise(
    id="03.2",
    title="The loss over real steps",
    minutes=8,
    notice="""
        The selection comes *before* the loss, so the padding never enters it, and no gradient can
        come back from there.""",
    larger=lambda: (
        torch.randn(64, 100, 9, requires_grad=True),
        torch.randint(0, 9, (64, 100)),
        torch.rand(64, 100) < 0.6,
    ),
    task="""
        Return the mean cross-entropy over all real steps of the batch, one number. `logits`
        (B, T, C), `targets` (B, T), `keep_mask` (B, T), True where real; it may have holes. At
        padding the targets are 0, which is also the number of a class, and the logits may be
        anything, NaN too. The gradient must be right as well.""",
    hints=(
        "What if you took only the real steps, before computing any loss?",
        """A mask is an index: `logits[keep_mask]` has the shape (real steps, C), exactly what
        `F.cross_entropy` expects.""",
    ),
    solution=masked_loss,
    cases=_loss_cases,
    gradients=True,
    misconceptions=(
        slip("padding counted as steps", _per_step("per_step.mean()")).teach("""
            You averaged over all steps, so the model learns to predict class 0 at the padding."""),
        slip(
            "masked, then divided by B × T",
            _per_step("per_step.masked_fill(~keep_mask, 0).mean()"),
            _per_step("(per_step * keep_mask).mean()"),
            {"return ": "return keep_mask.sum() / keep_mask.numel() * "},
        ).teach("""
            The loss of the padding is gone, but the padding is still counted in the divisor:
            `.mean()` divides by all cells. Divide by the number of real steps."""),
        slip(
            "a mean for each sequence",
            _per_step("(per_step.masked_fill(~keep_mask, 0).sum(1) / keep_mask.sum(1)).mean()"),
            _each_sequence_selected,
        ).teach("""
            You averaged within each sequence, and then over the sequences. That is a good loss too,
            but not the one asked for: here each step has one vote, so divide once, by the number of
            all real steps."""),
        slip("never divided", {"[keep_mask])": '[keep_mask], reduction="sum")'}).teach("""
            That is the sum over the real steps. Divide it by their number."""),
        slip(
            "divided by the number of sequences",
            {"[keep_mask])": '[keep_mask], reduction="sum") / len(logits)'},
        ).teach("The sum is right. Divide it by the number of real *steps*."),
        slip(
            "lengths from a mask with holes",
            {
                "    return": "    steps = torch.arange(keep_mask.shape[1])\n"
                "    keep_mask = steps < keep_mask.sum(1)[:, None]\n    return"
            },
        ).teach("""
            You counted the real steps of each row, and kept that many from its beginning. In a row
            with a hole, those are the wrong steps. Use the mask itself."""),
        slip("the mask multiplies", _per_step(_PRODUCT)).teach("""
            Where the padding holds NaN, you compute NaN × 0, which is NaN. Select the real steps
            instead: `[keep_mask]`."""),
        slip(
            "softmax before the loss",
            {"logits[keep_mask]": "logits[keep_mask].softmax(-1)"},
            _per_step(_SELECTED, {"logits.": "logits.softmax(-1)."}),
        ).teach("""
            `F.cross_entropy` takes logits, and computes the (log) softmax itself. If you apply a
            softmax first, it can hardly tell the classes apart, and the model learns slowly."""),
        slip("log_softmax is missing", {"F.cross_entropy": "F.nll_loss"}).teach("""
            `F.nll_loss` expects log-probabilities. `F.cross_entropy` takes logits as they are, and
            applies `log_softmax` itself."""),
        slip(
            "NaN swept away",
            {"targets[keep_mask])": "targets[keep_mask]).nan_to_num()"},
            {"logits[keep_mask]": "logits.nan_to_num()[keep_mask]"},
            {"logits[keep_mask]": "logits[keep_mask].nan_to_num()"},
            _per_step("per_step[keep_mask].nanmean()"),
            _per_step(_PRODUCT, {"logits.": "logits.nan_to_num()."}),
            _per_step(_PRODUCT.replace("per_step", "per_step.nan_to_num()")),
        ).teach("""
            `nan_to_num` hides every NaN, including one at a *real* step: a model that diverges
            would report a good loss. Leave out the padding, and nothing else."""),
        slip(
            "filled, but not left out",
            lambda logits, targets, keep_mask: F.cross_entropy(
                logits.masked_fill(~keep_mask[..., None], 0).transpose(1, 2), targets
            ),
        ).teach("""
            Filling the logits keeps NaN out of the gradient, but the padding still counts: all its
            logits are 0, and its loss is log(C). Let `ignore_index` leave it out as well: targets
            of -100 at the padding."""),
        slip("the logits at padding were used", _filled_per_step).teach("""
            The value is right, but the gradient is not. The loss was computed at the padding too,
            and on the way back a gradient of 0 is multiplied by the NaN there: 0 × NaN is NaN.
            Leave the padding out *before* the loss: select the real logits, or fill those at the
            padding."""),
        slip(
            "the pad label is also a class",
            lambda logits, targets, keep_mask: F.cross_entropy(
                logits.transpose(1, 2), targets, ignore_index=0
            ),
        ).teach("""
            `ignore_index=0` drops the padding, and every real step whose class is 0. Use the mask,
            or targets of -100."""),
        slip(
            "the mask is inverted",
            {"[keep_mask]": "[~keep_mask]"},
            edited(_filled_per_step, {"~keep_mask": "keep_mask"}),
        ).teach("""
            You kept the padding and dropped the data: `keep_mask` is True where a step is real, and
            `masked_fill` fills where its mask is True."""),
        slip(
            "classes not second",
            lambda logits, targets, keep_mask: F.cross_entropy(
                logits, targets.masked_fill(~keep_mask, -100)
            ),
            _per_step(_SELECTED, {".transpose(1, 2)": ""}),
        ).teach("""
            `F.cross_entropy` expects the classes second, (B, C, T): `logits.transpose(1, 2)`. Where
            T = C it does not even complain."""),
        slip(
            "reshaped in place of transposed",
            _per_step(_SELECTED, {"transpose(1, 2)": "reshape(len(logits), -1, logits.shape[1])"}),
        ).teach("""
            `F.cross_entropy` expects the classes second, (B, C, T). `reshape` only divides the same
            numbers up differently, and mixes steps with classes; `transpose(1, 2)` swaps them."""),
    ),
)


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
    # A loss that really is NaN must stay one: the guard must not hide it.
    broken = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]], requires_grad=True)
    cases.append((broken, torch.tensor([0, 1])))
    # A class that is ruled out has a logit of -inf. An ignored row may have one too: it is unused.
    ruled_out = torch.tensor([[0.0, -float("inf"), 1.0], [1.0, 2.0, -float("inf")]])
    for targets in ([-100, -100], [2, -100]):
        cases.append((ruled_out.clone().requires_grad_(), torch.tensor(targets)))
    # Long batches of one shape.
    for seed, ignored in ((7, 4), (8, 12), (9, 7)):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(12, 3, generator=generator).round(decimals=1)
        targets = torch.randint(0, 3, (12,), generator=generator)
        targets[torch.randperm(12, generator=generator)[:ignored]] = -100
        cases.append((logits.requires_grad_(), targets))
    return cases


def guarded_loss(logits, targets):
    total = F.cross_entropy(logits, targets, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)


def _by_hand(logits, targets):
    keep = targets != -100
    per_step = F.cross_entropy(logits, targets.masked_fill(~keep, 0), reduction="none")
    return (per_step * keep).sum() / keep.sum()


def _times_zero(logits, targets):
    loss = F.cross_entropy(logits, targets)
    return loss * 0 if (targets == -100).all() else loss


def _if_nothing(zero):
    """Return a zero made in another way where nothing is left to learn from."""
    return {"    total": f"    if (targets == -100).all():\n        return {zero}\n    total"}


_COUNT = "(targets != -100).sum().clamp(min=1)"

GUARDED_LOSS = Exercise(
    id="03.3",
    title="Nothing to learn from",
    minutes=6,
    notice="""
        `clamp(min=1)` changes nothing as long as at least one target counts. If none does, the
        result is 0 / 1: a zero that is still connected to the logits.""",
    task="""
        Return the mean cross-entropy over the targets that are not -100. `logits` (N, C), `targets`
        (N,). Where all of them are -100, return 0 with a gradient of 0. A loss that is NaN for
        another reason must stay NaN, so that it is noticed.""",
    hints=(
        """Sum first: `F.cross_entropy(logits, targets, reduction="sum")` is 0 where nothing is
        left. What do you then divide by?""",
        "`(targets != -100).sum()` counts. `clamp(min=1)` avoids a division by a count of 0.",
    ),
    solution=guarded_loss,
    cases=_nothing_cases,
    gradients=True,
    misconceptions=(
        slip(
            "0 / 0", lambda logits, targets: F.cross_entropy(logits, targets), _times_zero
        ).teach("""
            With no targets at all, the mean is 0 / 0, which is NaN. And NaN times 0 is still
            NaN."""),
        slip("0 / 0, and a mask that multiplies", _by_hand).teach("""
            The division by 0 sends back a gradient of ∞, and the mask turns it into ∞ × 0. So the
            gradient is NaN too, not only the loss. After one optimizer step, all weights are
            NaN."""),
        slip(
            "a zero from nowhere",
            _if_nothing("torch.tensor(0.0)"),
            _if_nothing("torch.tensor(0.0, requires_grad=True)"),
        ).teach("""
            The value is right, but a new tensor has no connection to the model: `backward()` raises
            an error, or reaches nothing. Let the 0 come out of the sum."""),
        slip(
            "the logits times 0", _if_nothing("logits.sum() * 0"), _if_nothing("logits.mean() * 0")
        ).teach("""
            That is 0 as long as all logits are finite. A class that is ruled out has a logit of
            -inf, and -inf × 0 is NaN. Let the 0 come out of the loss itself:
            `reduction="sum"`."""),
        slip(
            "NaN swept away",
            lambda logits, targets: F.cross_entropy(logits, targets).nan_to_num(),
            {
                "return total": "loss = total",
                ".clamp(min=1)": "\n    return torch.zeros_like(loss) if loss.isnan() else loss",
            },
        ).teach("""
            Replacing NaN by 0 hides every other NaN as well: a model that diverges would report a
            loss of 0. Check how many targets there are, not what came out."""),
        slip("never divided", {f" / {_COUNT}": ""}).teach("""
            That is the sum. Divide it by the number of targets that are not -100."""),
        slip(
            "ignored targets made class 0",
            lambda logits, targets: F.cross_entropy(logits, targets.clamp(min=0)),
        ).teach("`clamp(min=0)` turns -100 into class 0, and the model learns it."),
        slip("one too many", {_COUNT: "((targets != -100).sum() + 1)"}).teach("""
            Adding 1 to the count prevents 0 / 0, but makes every other mean too small. Use
            `clamp(min=1)`."""),
        slip("the ignored are counted", {_COUNT: "len(targets)"}).teach("""
            You divided by the number of all targets, including the ignored ones."""),
    ),
)


def _micro_cases():
    shapes = [[[1], [3]], [[2, 1], [4, 4]], [[2], [2]], [[5, 1], [1], [2, 2, 2]]]
    shapes += [[[3], [0, 0], [1]], [[9, 2], [12, 1]], [[9, 2], [12, 1]], [[2, 9], [1, 12]]]
    cases = []
    for seed, groups in enumerate(shapes):
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


_NON_EMPTY = "    micro_batches = [one for one in micro_batches if one[2].any()]\n"
_MEAN_OF_MEANS = {"loss / count": "loss / (keep_mask.sum() * len(micro_batches))"}

ACCUMULATE = Exercise(
    id="03.4",
    title="One batch in several pieces",
    minutes=8,
    notice="""
        The real steps are counted before the first `backward()`, so the graph of each micro-batch
        can be freed at once.""",
    task="""
        Each micro-batch is `(steps, targets, keep_mask)` of shapes (b, T, D), (b, T), (b, T); the
        logits are `steps @ weight.T`. Call `backward()` once for each, so that `weight.grad`
        becomes the gradient of the mean cross-entropy over *all* real steps of *all* micro-batches,
        and return `weight.grad`. A micro-batch may have no real step.""",
    hints=(
        """Gradients add up over `backward()` calls. Which sum of losses is the mean that you
        want?""",
        """Count the real steps of all micro-batches before the first `backward()`, and divide each
        `reduction="sum"` by that one number.""",
    ),
    solution=accumulate,
    cases=_micro_cases,
    axes="C D",
    backwards=True,
    misconceptions=(
        slip(
            "a mean of means",
            _MEAN_OF_MEANS,
            _MEAN_OF_MEANS | {"    count": f"{_NON_EMPTY}    count"},
        ).teach("""
            You averaged within each micro-batch, and then over the micro-batches. A step in a small
            micro-batch then weighs more than one in a large micro-batch."""),
        slip(
            "one backward for all",
            {
                "    for": "    total = 0\n    for",
                "(loss / count).backward()": "total = total + loss",
                "    return": "    (total / count).backward()\n    return",
            },
        ).teach("""
            The gradient is right. But with one `backward()` on the sum, the graphs of all
            micro-batches are in memory at once, and the batch was split to save that memory. Call
            `backward()` inside the loop."""),
        slip("a sum of means", {"loss / count": "loss / keep_mask.sum()"}).teach("""
            You divided each micro-batch by its own count, but never by the number of micro-batches.
            The result is a mean of means, and also that many times too large."""),
        slip("never divided", {"(loss / count)": "loss"}).teach("""
            The gradients are sums over real steps. Divide by the number of real steps in all
            micro-batches."""),
        slip(
            "divided by the number of micro-batches", {"loss / count": "loss / len(micro_batches)"}
        ).teach("""
            The sums are right, but the divisor is not: it must be the number of real steps in all
            micro-batches."""),
        slip("padding in the divisor", {"keep_mask.sum()": "keep_mask.numel()"}).teach("""
            You divided by the number of all cells, including padding. Count `keep_mask.sum()`, not
            `keep_mask.numel()`."""),
        slip(
            "a running total as the divisor",
            {
                "count = sum(keep_mask.sum() for _, _, keep_mask in micro_batches)": "count = 0",
                "        logits =": "        count = count + keep_mask.sum()\n        logits =",
            },
        ).teach("""
            When the first micro-batches are divided, the later ones have not been counted, so the
            first ones get a divisor that is too small. Count all real steps before the first
            `backward()`."""),
        slip(
            "the steps of one micro-batch counted",
            {"in micro_batches)": "in micro_batches[-1:])"},
            {"in micro_batches)": "in micro_batches[:1])"},
        ).teach("""
            You divided every sum by the number of real steps in *one* micro-batch: a variable that
            is set in a loop keeps its last value. Add up the counts of all of them."""),
        slip("divided twice", {"loss / count": "loss / (count * len(micro_batches))"}).teach("""
            You divided by all real steps, and then by the number of micro-batches as well."""),
        slip("divided by the number of sequences", {"keep_mask.sum()": "len(keep_mask)"}).teach("""
            The task asks for the mean over *steps*: divide by the number of real steps."""),
        slip(
            "no mask",
            {
                "keep_mask.sum()": "keep_mask.numel()",
                "logits[keep_mask], targets[keep_mask]": "logits.flatten(0, 1), targets.flatten()",
            },
        ).teach("""
            The model learned from the padding as from any other step: use `keep_mask`."""),
        slip(
            "only the last micro-batch",
            {"in micro_batches:\n        logits": "in micro_batches[-1:]:\n        logits"},
        ).teach("""
            Only the last micro-batch has reached the gradient. Is `backward()` inside the
            loop?"""),
        slip(
            "the gradient cleared in the loop",
            {"        logits =": "        weight.grad = None\n        logits ="},
        ).teach("""
            You clear the gradient before each `backward()`, so only that of the last micro-batch is
            left. Gradients add up over `backward()` calls, and here they should: clear them once,
            before the loop."""),
        slip(
            "the mask is inverted",
            {"[keep_mask]": "[~keep_mask]", "keep_mask.sum()": "(~keep_mask).sum()"},
        ).teach("You learned from the padding: `keep_mask` is True where a step is real."),
    ),
)


def _attention_cases():
    cases = []
    paddings = ((1, 0.0), (0, 5.0), (2, float("nan")))
    for values, keep_mask, generator in ragged_batches(_LENGTHS, paddings):
        scores = torch.randn(keep_mask.shape, generator=generator).round(decimals=1)
        scores = scores.where(keep_mask, values[..., 0])  # the same junk at the padding
        cases.append((values.requires_grad_(), scores.requires_grad_(), keep_mask))
    # Scores may be extreme either way: a fill of -100 is above them, or exp makes them infinite.
    values, scores, keep_mask = (one.detach() for one in cases[3])
    for scale, shift in ((1, -150), (1, 150), (60, 0)):
        extreme = scores * scale + shift
        cases.append((values.clone().requires_grad_(), extreme.requires_grad_(), keep_mask))
    # No number is small enough to fill in: another mask may have lowered all scores of a row to the
    # smallest number there is. And a score at the padding may be far above all real ones.
    for low in (-1e10, torch.finfo(scores.dtype).min):
        cases.append((values.clone().requires_grad_(), (scores + low).requires_grad_(), keep_mask))
    high = scores.where(keep_mask, 300.0)
    cases.append((values.clone().requires_grad_(), high.requires_grad_(), keep_mask))
    # NaN at a real step must show.
    broken = with_number_at_real_step(values, float("nan"), 2)
    cases.append((broken.requires_grad_(), scores.clone().requires_grad_(), keep_mask))
    broken = with_number_at_real_step(scores, float("nan"), 2)
    return [*cases, (values.clone().requires_grad_(), broken.requires_grad_(), keep_mask)]


def attention_pool(values, scores, keep_mask):
    weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=1)
    real = values.masked_fill(~keep_mask[..., None], 0)
    return (weights[..., None] * real).sum(dim=1)


_REAL = "values.masked_fill(~keep_mask[..., None], 0)"


def _weights(*lines):
    """Compute the weights in other lines."""
    right = "weights = scores.masked_fill(~keep_mask, -torch.inf).softmax(dim=1)"
    return {right: "\n    ".join(f"weights = {line}" for line in lines)}


_SMALLEST = "torch.finfo(scores.dtype).min"
_BIASES = (
    "torch.zeros(scores.shape).masked_fill(~keep_mask, -torch.inf)",
    "torch.zeros(scores.shape).masked_fill(~keep_mask, -1e9)",
    f"torch.zeros(scores.shape).masked_fill(~keep_mask, {_SMALLEST})",
)
_ADD_UP_TO_1 = "weights / weights.sum(dim=1, keepdim=True)"

ATTENTION_POOL = Exercise(
    id="03.5",
    title="Attention pooling",
    minutes=8,
    notice="""
        The mask does two jobs: -inf gives the padding a weight of exactly 0, and the values are
        filled because 0 times NaN is NaN.""",
    larger=lambda: (
        torch.randn(64, 100, 32, requires_grad=True),
        torch.randn(64, 100, requires_grad=True),
        torch.arange(100) < torch.randint(1, 101, (64, 1)),
    ),
    task="""
        Average each sequence with weights: the softmax of `scores` (B, T) over its real steps.
        `values` (B, T, D), `keep_mask` (B, T), True where real; every row has a real step. Return
        (B, D). The padding may hold anything, NaN too, and the gradient must be right as well.""",
    hints=(
        """A score of 0 is not a weight of 0: the softmax takes its exponential, which is 1. Which
        score becomes a weight of 0?""",
        """Apply `masked_fill(~keep_mask, -torch.inf)` to the scores, before the softmax over
        `dim=1`. And a weight of 0 does not stop a NaN among the values.""",
    ),
    solution=attention_pool,
    cases=_attention_cases,
    axes="B D",
    gradients=True,
    twins=({_REAL: "values"},),
    misconceptions=(
        slip("no mask", _weights("scores.softmax(dim=1)") | {_REAL: "values"}).teach("""
            The padding got a share of the weights, like any other step."""),
        slip("scores of 0 at padding", {"-torch.inf": "0"}).teach("""
            A score of 0 is an ordinary score: its exponential is 1, so the padding still takes a
            share of the weights. Use `-torch.inf`."""),
        slip("the mask multiplies", _weights("(scores * keep_mask).softmax(dim=1)")).teach("""
            You multiplied the scores by the mask. A score of 0 is an ordinary score, and NaN × 0 is
            NaN. Use `masked_fill(~keep_mask, -torch.inf)`."""),
        slip(
            "masked after the softmax",
            _weights("scores.softmax(dim=1).masked_fill(~keep_mask, 0)"),
            _weights("scores.softmax(dim=1) * keep_mask"),
        ).teach("""
            The padding already had its share: after setting it to 0, the weights of the real steps
            no longer add up to 1. Mask before the softmax."""),
        slip(
            "the mask is inverted",
            {"~keep_mask": "keep_mask"},
            {"(~keep_mask,": "(keep_mask,"},
            {"~keep_mask[..., None]": "keep_mask[..., None]"},
        ).teach("""
            You averaged the padding: `keep_mask` is True where a step is real, and `masked_fill`
            fills where its mask is True. Use `~keep_mask` there."""),
        slip(
            "a fill that is not small enough",
            *({"-torch.inf": f"{fill}"} for fill in (-100.0, -10.0, -20.0, -30.0, -50.0, -99.0)),
        ).teach("""
            A real score can be as small as that: next to scores of -150, a fill of -100 gives all
            the weight to the padding. Nothing is below `-torch.inf`."""),
        slip(
            "a large number in place of minus infinity",
            *({"-torch.inf": fill} for fill in ("-1e4", "-1e10", "-1e30", _SMALLEST)),
        ).teach("""
            A large negative number gives the padding a weight of 0 only as long as some real score
            is far above it. Where another mask has lowered all scores of a row as far, the padding
            takes a share, or all of it. Nothing is below `-torch.inf`."""),
        slip(
            "added to the scores",
            *(_weights(f"(scores + {bias}).softmax(dim=1)") for bias in _BIASES),
        ).teach("""
            Whatever is added to NaN leaves NaN, and ∞ + -∞ is NaN too. Do not add: replace the
            padding's scores, with `masked_fill(~keep_mask, -torch.inf)`."""),
        slip(
            "masked after the softmax, and divided again",
            _weights("scores.softmax(dim=1).masked_fill(~keep_mask, 0)", _ADD_UP_TO_1),
            _weights("scores.softmax(dim=1) * keep_mask", _ADD_UP_TO_1),
            _weights(
                "(scores.masked_fill(~keep_mask, 0)).softmax(dim=1) * keep_mask", _ADD_UP_TO_1
            ),
        ).teach("""
            Dividing again makes the weights add up to 1, and with ordinary scores the result is
            right. But the padding took part in the softmax: a NaN there makes all weights NaN, and
            a large score there leaves 0 / 0. Mask before the softmax."""),
        slip(
            "exponentials by hand",
            _weights("scores.masked_fill(~keep_mask, -torch.inf).exp()", _ADD_UP_TO_1),
            _weights("scores.exp().masked_fill(~keep_mask, 0)", _ADD_UP_TO_1),
        ).teach("""
            The exponential of 150 is too large for float32, so the weights become ∞ / ∞. `softmax`
            subtracts the largest score first."""),
        slip(
            "NaN swept away",
            {"values.masked_fill": "values.nan_to_num().masked_fill"},
            {"values.m": "values.nan_to_num().m", "scores.m": "scores.nan_to_num().m"},
            {"real).sum(dim=1)": "real).sum(dim=1).nan_to_num()"},
        ).teach("""
            `nan_to_num` also hides a NaN at a real step. Use the mask to fill the padding, and
            nothing else."""),
        slip("softmax over the batch", {"softmax(dim=1)": "softmax(dim=0)"}).teach("""
            `dim=0` lets the sequences compete with each other. The steps of one sequence lie along
            `dim=1`."""),
        slip("NaN among the values", {_REAL: "values"}).teach("""
            The weights are right, but 0 × NaN is NaN: fill the padding of `values` as well."""),
        slip(
            "NaN in the gradient",
            {
                "real = values.masked_fill(~keep_mask[..., None], 0)": "product ="
                " weights[..., None] * values",
                "(weights[..., None] * real)": "product.masked_fill(~keep_mask[..., None], 0)",
            },
        ).teach("""
            The value is right, but the gradient is not: the padding was multiplied first and filled
            afterwards, and on the way back 0 × NaN is NaN. Fill `values` before multiplying."""),
        slip("a mean of weighted values", {"real).sum(dim=1)": "real).mean(dim=1)"}).teach("""
            The weights already add up to 1: sum over time, do not average."""),
    ),
)

EXERCISES = [HOLES, MASKED_LOSS, GUARDED_LOSS, ACCUMULATE, ATTENTION_POOL]
