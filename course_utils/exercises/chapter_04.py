"""Exercises of chapter 04, Transformer key-padding masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.exercises.cases import ragged, ragged_batches
from course_utils.exercises.engine import Exercise, slip

_LENGTHS = ragged([2, 1], [1, 3], [3, 1, 2], [2, 2], [4, 2, 3], [1, 5, 5, 2])


def _hugging_face_cases():
    return [
        (lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + seed % 2).long(),)
        for seed, lengths in enumerate(_LENGTHS)
    ]


def convert(attention_mask):
    keep_mask = attention_mask.bool()
    return ~keep_mask, keep_mask[:, None, None, :]


def _masks(first, second="keep_mask[:, None, None, :]"):
    """Return other masks."""
    return {"~keep_mask, keep_mask[:, None, None, :]": f"{first}, {second}"}


CONVERT = Exercise(
    id="04.1",
    title="Three conventions",
    minutes=5,
    notice="""
        There is *one* keep mask, and each convention follows from it in one step: `~` for one of
        them, two more dimensions for the other.""",
    task="""
        `attention_mask` (B, T) comes from a Hugging Face tokenizer: integers, 1 = real. Return two
        bool tensors: the `key_padding_mask` (B, T) for `nn.MultiheadAttention`, and the `attn_mask`
        (B, 1, 1, T) for `F.scaled_dot_product_attention`.""",
    hints=(
        """Make one keep mask first, True = real. Which of the two functions expects exactly that,
        and which expects its opposite?""",
        """`.bool()` first: `~` on an integer is not a logical not. `[:, None, None, :]` adds the
        dimensions of the heads and of the queries.""",
    ),
    solution=convert,
    cases=_hugging_face_cases,
    axes="B T, B 1 1 T",
    twins=({"[:, None, None, :]": ""},),
    misconceptions=(
        slip(
            "both masks are inverted",
            _masks("keep_mask", "~keep_mask[:, None, None, :]"),
            _masks("keep_mask.float()", "(~keep_mask[:, None, None, :]).float()"),
        ).teach("""
            Both masks are exactly the opposite of the right ones: `key_padding_mask` is True at
            *padding*, and a bool `attn_mask` of `F.scaled_dot_product_attention` is True at the
            keys to *attend* to."""),
        slip("the key padding mask is inverted", _masks("keep_mask")).teach("""
            `nn.MultiheadAttention` ignores the keys where `key_padding_mask` is True, so it must be
            True at padding."""),
        slip(
            "the SDPA mask is inverted", _masks("~keep_mask", "~keep_mask[:, None, None, :]")
        ).teach("""
            `F.scaled_dot_product_attention` attends to the keys where a bool `attn_mask` is True:
            there it must be True at real steps."""),
        slip(
            "floats are added",
            _masks("(~keep_mask).float()", "keep_mask[:, None, None, :].float()"),
            _masks("~keep_mask", "keep_mask[:, None, None, :].float()"),
        ).teach("""
            The values are in the right places, but as floats, which are *added* to the scores. 1.0
            makes a key a little more likely, and hides nothing. Return bool."""),
        slip(
            "integers",
            _masks("1 - attention_mask", "attention_mask[:, None, None, :]"),
            _masks("~keep_mask", "attention_mask[:, None, None, :]"),
        ).teach("""
            The values are in the right places, but as integers, which both functions refuse. Return
            bool."""),
        slip(
            "handed on as it came", _masks("attention_mask", "attention_mask[:, None, None, :]")
        ).teach("""
            Both functions refuse integers, and `key_padding_mask` needs the opposite polarity. Use
            `.bool()`, and `~` for one of the two."""),
        slip("in the wrong order", _masks("keep_mask[:, None, None]", "~keep_mask")).teach("""
            Both masks are right, but return the `key_padding_mask` first."""),
        slip(
            "~ on integers", _masks("(~attention_mask).bool()"), _masks("~attention_mask")
        ).teach("""
            `~1` is -2 and `~0` is -1: both count as True, so every key would be ignored. Use
            `.bool()` before `~`."""),
        slip("queries masked in place of keys", {"None, None, :]": "None, :, None]"}).teach("""
            Your mask has the shape (B, 1, T, 1): it switches off whole queries, and lets every
            other query look at the padding. The keys are the last dimension."""),
        slip("two dimensions only", {"[:, None, None, :]": ""}).teach("""
            (B, T) would be read as (queries, keys). Add dimensions for heads and queries:
            `[:, None, None, :]`."""),
    ),
)


def _snippet_cases():
    shapes = ragged([2, 1, 3], [3, 2, 3], [4, 2], [1, 4, 4, 2], [5, 3, 7])
    batches = ragged_batches(shapes, ((0, 0.0), (1, 3.0)), size=10, in_turn=True)
    return [(padded, keep_mask.sum(1)) for padded, keep_mask, _ in batches]


def encode(padded, lengths):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(d_model=10, nhead=2, dropout=0.0, batch_first=True)
    keep_mask = torch.arange(padded.shape[1]) < lengths[:, None]
    output = layer(padded, src_key_padding_mask=~keep_mask)
    return output.masked_fill(~keep_mask[..., None], 0)


_UNFILLED = {"output.masked_fill(~keep_mask[..., None], 0)": "output"}
_NO_BATCH_FIRST = {", batch_first=True": ""}
_TIME_FIRST = _NO_BATCH_FIRST | {"layer(padded,": "layer(padded.transpose(0, 1),"}

# Off by one in the mask of an encoder layer, here and in 05.1.
OFF_BY_ONE = (
    slip(
        "one pad too many",
        {"mask=~keep_mask": "mask=torch.arange(padded.shape[1]) > lengths[:, None]"},
        {"<": "<="},
    ).teach("""
        Steps are counted from 0: the first padded step of a sequence of length 3 is step 3.
        Padding is `steps >= lengths`, not `>`."""),
    slip("the last step lost", {"< lengths[:, None]": "< lengths[:, None] - 1"}).teach("""
        Steps are counted from 0, so `arange < lengths` already keeps the steps 0 to
        `lengths - 1`. Do not subtract 1."""),
)

ENCODE = Exercise(
    id="04.2",
    title="Repair the encoder snippet",
    minutes=8,
    notice="""
        The mask keeps real steps from reading the padding. The last line is for the code that uses
        the output next: what the layer writes at the padding means nothing.""",
    task="""
        Repair the second snippet of chapter 00, shown above. `padded` (B, T, 10), `lengths`
        (B,). Begin with `torch.manual_seed(0)` and create the layer right after it, with
        `d_model=10, nhead=2, dropout=0.0` and whatever else it needs. Return its output (B, T, 10),
        with 0 at the padding.""",
    hints=(
        """By default, a Transformer layer takes (T, B, D). So it read your sequences as steps.
        Where B = T, it does not even complain.""",
        """Pass `batch_first=True`. The mask is already right if you make it from `padded.shape[1]`.
        Fill the output: `masked_fill(~keep_mask[..., None], 0)`.""",
    ),
    solution=encode,
    cases=_snippet_cases,
    axes="B T D",
    twins=(_UNFILLED,),
    misconceptions=(
        slip("batch_first is missing", _NO_BATCH_FIRST).teach("""
            The layer reads (T, B, D) unless you pass `batch_first=True`. With B different from T it
            complains about the mask. With B = T it says nothing, and lets step i of one sequence
            attend to step i of the others."""),
        slip(
            "the mask transposed until it fits",
            _NO_BATCH_FIRST | {"mask=~keep_mask": "mask=~keep_mask.T"},
        ).teach("""
            Transposing the mask removes the error, not the fault: the layer still takes the
            sequences for steps. Use `batch_first=True`."""),
        slip(
            "the mask is inverted, and batch_first is missing",
            _NO_BATCH_FIRST | {"mask=~keep_mask": "mask=keep_mask"},
        ).teach("""
            There are two faults: `src_key_padding_mask` is True at the steps to *ignore*, and the
            layer reads (T, B, D) unless you pass `batch_first=True`."""),
        slip("the mask is inverted", {"mask=~keep_mask": "mask=keep_mask"}).teach("""
            You ignore the real steps and attend to the padding: `src_key_padding_mask` is True at
            the steps to ignore. A sequence without padding is left with nothing at all to attend
            to."""),
        slip("no mask", {", src_key_padding_mask=~keep_mask": ""}).teach("""
            Without `src_key_padding_mask`, every step attends to the padding too."""),
        slip(
            "zeros in place of a mask",
            {
                "    output = layer(padded, src_key_padding_mask=~keep_mask)": "    padded ="
                " padded.masked_fill(~keep_mask[..., None], 0)\n    output = layer(padded)"
            },
        ).teach("""
            You filled the padding with 0 before the layer and after it, but a step of zeros is a
            key like any other, and every real step attends to it. Pass `src_key_padding_mask`."""),
        *OFF_BY_ONE,
        slip(
            "all of it the wrong way round", {"<": ">"}, {"<": ">="}, {"~keep_mask": "keep_mask"}
        ).teach("""
            Your mask is True after the end of the sequence, so the layer ignores the real steps. A
            keep mask is `steps < lengths`."""),
        slip("dropout left on", {", dropout=0.0": ""}).teach("""
            A layer drops 10% of its numbers at random unless you pass `dropout=0.0` or put it into
            evaluation mode. Your output is different on each call."""),
        slip(
            "another seed",
            {"    torch.manual_seed(0)\n": ""},
            {"manual_seed(0)": "manual_seed(1)"},
            {"manual_seed(0)": "manual_seed(42)"},
        ).teach("""
            The weights of the layer are drawn at random, and yours differ from those that your
            output is compared with. Call `torch.manual_seed(0)` right before creating the
            layer."""),
        slip(
            "another number of heads",
            *({"nhead=2": f"nhead={number}"} for number in (1, 5, 10)),
        ).teach("""
            The task says `nhead=2`. Another number of heads divides the same weights differently,
            so all the numbers change."""),
        slip(
            "not transposed back",
            _TIME_FIRST,
            _TIME_FIRST | {"~keep_mask[..., None]": "~keep_mask.T[..., None]"},
        ).teach("""
            You transposed the batch for a layer that reads (T, B, D). Its output has time first as
            well: transpose it back, or use `batch_first=True`."""),
        slip(
            "a mask of floats",
            {"mask=~keep_mask": "mask=(~keep_mask).float()"},
            {"mask=~keep_mask": "mask=keep_mask.float()"},
        ).teach("""
            A float mask is added to the scores: 1.0 makes a step *more* attractive, and hides
            nothing. Use bool."""),
        slip("the wrong side filled", {"~keep_mask[..., None]": "keep_mask[..., None]"}).teach("""
            You filled the real steps and kept the padding: `masked_fill` fills where its mask is
            True."""),
        slip("padding left as it came out", _UNFILLED).teach("""
            The real steps are right. At the padding, the layer leaves numbers that mean nothing:
            fill them with 0."""),
    ),
)


def _safe_cases():
    shapes = ragged([1, 0], [2, 1], [0, 2], [3, 0, 1], [2, 2], [4, 0, 0, 3], [9, 0, 2])
    cases = []
    for seed, lengths in enumerate(shapes):
        generator = torch.Generator().manual_seed(seed)
        keep_mask = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + seed % 2)
        qkv = torch.randn(3, *keep_mask.shape, 2, generator=generator).round(decimals=1)
        cases.append((*(one.clone().requires_grad_() for one in qkv), keep_mask))
    # Scores far below 0: a fill of -100 in place of -inf is above them. And far above 0, those of
    # the padding even further: they must not take part in the softmax.
    _, _, value, keep_mask = (one.detach() for one in cases[1])
    query = torch.full_like(value, 15.0)
    large = [
        (query, -query - value, value, keep_mask),
        (query, query * (2 - keep_mask[..., None].float()), value, keep_mask),
    ]
    # And one of -1e10, below -1e9, another fill that is often seen.
    far, one_of_two = torch.full((2, 2, 2), 1e5), torch.tensor([[True, False]] * 2)
    large.append((far, -far, torch.arange(8.0).reshape(2, 2, 2), one_of_two))
    return cases + [(*(one.clone().requires_grad_() for one in qkv), keep) for *qkv, keep in large]


def safe_attention(query, key, value, keep_mask):
    keep = keep_mask[:, None, :]
    empty = ~keep.any(dim=2, keepdim=True)
    scores = query @ key.transpose(1, 2) / query.shape[2] ** 0.5
    # A row with no key keeps its scores, so its softmax is finite, and is set to 0.
    weights = scores.masked_fill(~keep & ~empty, -torch.inf).softmax(dim=2)
    return weights.masked_fill(empty, 0) @ value


_NOT_SET_TO_0 = {"weights.masked_fill(empty, 0)": "weights"}
_SWEPT = {"weights @ value": "(weights @ value).nan_to_num()"}
_ROWS = "scores.masked_fill(~keep_mask[..., None], -torch.inf).softmax(dim=2)"


def _weights(expression):
    """Compute the weights in another way, and do nothing about empty rows."""
    right = "scores.masked_fill(~keep & ~empty, -torch.inf).softmax(dim=2)"
    return {right: expression} | _NOT_SET_TO_0


SAFE_ATTENTION = Exercise(
    id="04.3",
    title="Attention with nothing to attend to",
    minutes=8,
    notice="""
        The empty row is made safe *before* the softmax. Once a NaN has been computed, filling the
        value afterwards does not save the gradient.""",
    task="""
        Write attention by hand: the scores are `query` times `key`, divided by the square root of
        D, and their softmax over the real keys gives the weights of `value`. All three are
        (B, T, D); `keep_mask` (B, T) is True where a key is real. A sequence without any real key
        gets zeros. Padded queries of the other sequences attend like any query: leave what they
        get. There must be no NaN anywhere, gradients included.
        (`F.scaled_dot_product_attention` does all of this: try to do without it.)""",
    hints=(
        """The softmax of a row that is -inf throughout is NaN. Replacing the NaN afterwards fixes
        the value, but usually not the gradient. So do not create such a row.""",
        """Give an empty row finite scores (leave them unmasked), and set its *weights* to 0 after
        the softmax.""",
    ),
    solution=safe_attention,
    cases=_safe_cases,
    axes="B T D",
    gradients=True,
    misconceptions=(
        slip(
            "NaN in empty rows", _weights("scores.masked_fill(~keep, -torch.inf).softmax(dim=2)")
        ).teach("""
            The softmax of a row that is -inf everywhere is 0 / 0. Rows without a real key need a
            different treatment."""),
        slip(
            "NaN swept away at the end",
            _weights("scores.masked_fill(~keep, -torch.inf).softmax(dim=2)") | _SWEPT,
        ).teach("""
            The value is right, but the gradient is not: the replacement sends back a gradient of 0,
            and on the way to `value` that 0 is multiplied by the NaN weights. Do not create the NaN
            at all."""),
        slip(
            "NaN swept away in the weights",
            _weights(
                "(scores + torch.zeros(keep.shape).masked_fill(~keep, -torch.inf))"
                ".softmax(dim=2).nan_to_num()"
            ),
        ).teach("""
            The value is right, but the gradient is not: it goes back through the softmax that was
            NaN, and an *added* -inf lets the NaN pass on to the scores. `masked_fill` would stop
            it; better still, do not create the NaN at all."""),
        slip(
            "a large negative number in place of -inf",
            _weights("scores.masked_fill(~keep, torch.finfo(query.dtype).min).softmax(dim=2)"),
            _weights("scores.masked_fill(~keep, -1e9).softmax(dim=2)"),
            _weights("scores.masked_fill(~keep, -1e4).softmax(dim=2)"),
        ).teach("""
            There is no NaN. But where all keys are masked, all scores are now equal, and the row
            attends to all of its padding evenly. It should be 0."""),
        slip(
            "a fill that is not small enough",
            *({"-torch.inf": f"{fill}"} for fill in (-100.0, -10.0, -20.0, -30.0, -50.0, -99.0)),
            {"-torch.inf": "-1e9"},
        ).teach("""
            A real score can be as small as that, and then the padding takes all the weight. Nothing
            is below `-torch.inf`."""),
        slip(
            "the mask is inverted",
            {"keep = keep_mask": "keep = ~keep_mask"},
            _weights("scores.masked_fill(keep, -1e9).softmax(dim=2)"),
            _weights("scores.masked_fill(keep, -torch.inf).softmax(dim=2)") | _SWEPT,
            _weights("scores.softmax(dim=2).masked_fill(keep, 0)"),
        ).teach("You attend to the padding: `keep_mask` is True where a key is real."),
        slip(
            "opened, and not closed again",
            {
                "    keep = ": "    keep_mask = keep_mask.clone()\n"
                "    keep_mask[~keep_mask.any(dim=1), 0] = True\n    keep = "
            },
        ).teach("""
            There is no NaN. But an empty row now returns its first padded value. Set it to 0."""),
        slip("no mask", _weights("scores.softmax(dim=2)")).teach("""
            Each query attends to the padded keys as to any others: use `keep_mask`."""),
        slip(
            "scores of 0",
            _weights("(scores * keep).softmax(dim=2)"),
            _weights("(scores + keep.float()).softmax(dim=2)"),
            {"scores.masked_fill(~keep & ~empty, -torch.inf)": "(scores * keep)"},
            _weights("(scores * keep).softmax(dim=2) * keep"),
        ).teach("""
            A score of 0 is an ordinary score: its exponential is 1. Use `-torch.inf`, and take care
            of empty rows."""),
        slip(
            "the mask is inverted, and NaN",
            _weights("scores.masked_fill(keep, -torch.inf).softmax(dim=2)"),
        ).teach("""
            `masked_fill` fills where its mask is True: with `keep_mask` it hides the real keys. Use
            `~keep_mask`."""),
        slip(
            "masked after the softmax", _weights("scores.softmax(dim=2).masked_fill(~keep, 0)")
        ).teach("""
            The padding has already had its share, so the weights of the real keys no longer add up
            to 1."""),
        slip(
            "masked after the softmax, and divided again",
            *(
                _weights("(scores.softmax(dim=2) * keep)")
                | {"weights @": f"weights / weights.sum(dim=2, keepdim=True){least} @"}
                for least in (".clamp(min=1e-9)", "", ".clamp(min=1e-4)")
            ),
        ).teach("""
            With ordinary scores the result is right. But the padding took part in the softmax: a
            large score there leaves 0 / 0. Mask before the softmax."""),
        slip(
            "0 times infinity",
            _weights("(scores + (1 - keep.float()) * -torch.inf).softmax(dim=2)"),
            _weights("(scores - (1 - keep.float()) * torch.inf).softmax(dim=2)"),
        ).teach("""
            0 × -∞ is NaN, so every real key gets NaN. A product cannot choose between two numbers:
            use `masked_fill(~keep, -torch.inf)`."""),
        slip(
            "queries masked in place of keys",
            _weights("scores.softmax(dim=2).masked_fill(~keep_mask[..., None], 0)"),
            {"~keep & ~empty": "~keep_mask[..., None] & ~empty"},
            {"~keep & ~empty, -torch.inf": "~keep_mask[..., None], -1e9"},
            _weights(_ROWS),
            _weights(_ROWS) | _SWEPT,
            _weights(_ROWS.replace("-torch.inf", "-1e9")),
        ).teach("""
            You switched off padded *queries*; the real ones still look at padded keys. The keys are
            the last dimension of the scores: `keep_mask[:, None, :]`."""),
        slip(
            "padded queries masked as well",
            {"@ value": "@ value * keep_mask[..., None]"},
            _weights(_ROWS.replace("~keep_mask[..., None]", "~(keep & keep_mask[..., None])")),
        ).teach("""
            The keys are masked as they should be. But you masked the padded *queries* as well,
            which gives zeros, or a row of nothing but `-inf` and so NaN. Leave what they get."""),
        slip("not scaled", {" / query.shape[2] ** 0.5": ""}).teach("""
            The scores must be divided by the square root of D."""),
        slip("divided by D", {"** 0.5": "** 1"}).teach("""
            The scores are divided by the *square root* of D: `query.shape[2] ** 0.5`."""),
        slip("divided by the root of T", {"query.shape[2] **": "query.shape[1] **"}).teach("""
            You divided by the square root of T, so the weights depend on how long the *longest*
            sequence of the batch is. It must be the root of D, the size of a query:
            `query.shape[2]`."""),
        slip("softmax over the queries", {"softmax(dim=2)": "softmax(dim=1)"}).teach("""
            The weights of one query, over its keys, must add up to 1. The keys are the last
            dimension of the scores: `softmax(dim=2)`."""),
        slip("an empty row not set to 0", _NOT_SET_TO_0).teach("""
            There is no NaN. But an empty row now averages the values of the padding. Set its
            weights to 0."""),
    ),
)


def _decoder_cases():
    cases = []
    pairs = [([2, 1], [2, 1]), ([2, 3], [3, 1]), ([1, 2], [3, 2]), ([3, 1, 2], [2, 3, 3])]
    pairs += [([3], [2]), ([9, 2], [3, 12]), ([9, 2], [3, 12]), ([2, 9], [12, 3])]
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


_TARGET_UNFILLED = {"output.masked_fill(~target_keep_mask[..., None], 0)": "output"}
_NO_TARGET_MASK = {"        tgt_key_padding_mask=~target_keep_mask,\n": ""}
_MEMORY_CAUSAL = {
    "tgt_mask=future,": "tgt_mask=future,\n        memory_mask="
    "torch.ones(steps, memory.shape[1], dtype=torch.bool).triu(1),"
}
_BOTH_INVERTED = {"_padding_mask=~": "_padding_mask="}

DECODE = Exercise(
    id="04.4",
    title="A decoder and its two paddings",
    minutes=8,
    notice="""
        The target is padded at the end, so the causal mask already hides its padding from every
        real step. Nothing else does that for the padding of the memory.""",
    task="""
        Run `decoder`, an `nn.TransformerDecoderLayer` with `batch_first=True`, on `target`
        (B, L, D) and `memory` (B, S, D), the output of the encoder. No target step may see a later
        one, and none may see padding, in the target or in the memory. Both keep masks are True
        where real, (B, L) and (B, S). Return (B, L, D) with 0 at padding.""",
    hints=(
        """Three masks: one hides the future, one the padding of the target, and one the padding of
        the memory. In `nn.Transformer*`, True means ignore in all three. (For the real steps, one
        of them is not needed. Which?)""",
        """`tgt_mask` is `torch.ones(L, L, dtype=torch.bool).triu(1)`; then there are
        `tgt_key_padding_mask` and `memory_key_padding_mask`.""",
    ),
    solution=decode,
    cases=_decoder_cases,
    axes="B L D",
    twins=(_TARGET_UNFILLED,),
    misconceptions=(
        slip(
            "the memory's padding is seen",
            {"        memory_key_padding_mask=~memory_keep_mask,\n": ""},
        ).teach("""
            Without `memory_key_padding_mask`, each target step attends to the padding of its
            source, so a translation depends on the other sources in the batch."""),
        slip("the target's mask on the memory", {"=~memory_keep": "=~target_keep"}).teach("""
            The memory has lengths of its own. The mask of the target fits it only by chance, and
            where L = S nothing complains."""),
        slip("the memory mask is inverted", {"=~memory_keep": "=memory_keep"}).teach("""
            You ignore the real steps of the memory: `memory_key_padding_mask` is True at padding.
            In a memory without padding, nothing is left to attend to."""),
        slip(
            "the target's padding mask is inverted",
            {"tgt_key_padding_mask=~": "tgt_key_padding_mask="},
        ).teach("""
            You ignore the real steps of the target: `tgt_key_padding_mask` is True at padding."""),
        slip("both padding masks are inverted", _BOTH_INVERTED).teach("""
            Key padding masks are True at padding, but you passed the keep masks as they are."""),
        slip(
            "all three masks are inverted", _BOTH_INVERTED | {"tgt_mask=future": "tgt_mask=~future"}
        ).teach("""
            In `nn.Transformer*` True means ignore in all three masks. So the padding masks are True
            at padding, and the causal mask is True in the future."""),
        slip(
            "a causal mask on the memory",
            _MEMORY_CAUSAL,
            {"tgt_mask=future,": "tgt_mask=future, memory_mask=future,"},
        ).teach("""
            You hid the later steps of the memory as well. The memory is known as a whole before the
            target begins, so each target step may see all of it. Only `tgt_mask` is causal."""),
        slip("the future is seen", {"        tgt_mask=future,\n": ""}).teach("""
            Without a causal `tgt_mask`, each step sees the later ones, which it is meant to
            predict."""),
        slip("a causal mask of floats", {", dtype=torch.bool": ""}).teach("""
            A float mask is added to the scores: 1.0 makes a later step a little *more* likely, and
            hides nothing. Use `dtype=torch.bool`."""),
        slip("the causal mask is inverted", {"tgt_mask=future": "tgt_mask=~future"}).teach("""
            In `nn.Transformer*` True means ignore: `tril()` hides the past, and the last step has
            nothing left to attend to. `triu(1)` hides the future."""),
        slip("no step sees itself", {"diagonal=1": "diagonal=0"}).teach("""
            `triu()` hides the diagonal too, so the first step has nothing to attend to. `triu(1)`
            begins one above the diagonal."""),
        slip(
            "the wrong side filled",
            {"~target_keep_mask[...,": "target_keep_mask[...,"},
            _NO_TARGET_MASK | {"~target_keep_mask[...,": "target_keep_mask[...,"},
        ).teach("""
            You filled the real steps and kept the padding: `masked_fill` fills where its mask is
            True."""),
        slip(
            "padding left as it came out", _TARGET_UNFILLED, _TARGET_UNFILLED | _NO_TARGET_MASK
        ).teach("""
            The real steps are right. At the padding of the target there are numbers that mean
            nothing: fill them with 0."""),
    ),
)


def _road_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        key_padding_mask = ~lengths_to_keep_mask(torch.tensor(lengths))
        shape = (3, len(lengths), 2, max(lengths), 4)
        query, key, value = torch.randn(shape, generator=generator).round(decimals=1)
        if seed % 2:  # Values may be wider than queries and keys.
            value = torch.cat([value, value[..., :1] - 1], dim=3)
        cases += [(query, key, value, key_padding_mask, causal) for causal in (False, True)]
    return cases


def fast_road(query, key, value, key_padding_mask, causal):
    allowed = ~key_padding_mask[:, None, None, :]
    if causal:
        steps = query.shape[2]
        allowed = allowed & torch.ones(steps, steps, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


_INVERTED = {"~key_padding_mask": "key_padding_mask"}
_NEVER_CAUSAL = {"if causal": "if False"}
_EITHER = {"allowed & torch": "allowed | torch"}
_FLOATS = {"attn_mask=allowed": "attn_mask=allowed.float()"}
_FLAG = _NEVER_CAUSAL | {"attn_mask=allowed": "attn_mask=allowed, is_causal=causal"}

FAST_PATH = Exercise(
    id="04.5",
    title="The other path",
    minutes=8,
    notice="""
        `&` joins masks of what is allowed; masks of what is forbidden are joined with `|`.""",
    task="""
        Write the fast path so that it agrees with the slow one: `F.scaled_dot_product_attention` of
        `query`, `key`, `value`, each (B, heads, T, D); the values may have a different D.
        `key_padding_mask` (B, T) is True at padding. If `causal` is True, no step may see a later
        one either.""",
    hints=(
        "Which polarity does the given mask have, and which does this function expect?",
        """The function does not allow `attn_mask` together with `is_causal=True`. Join the two in
        one mask: allowed is what is real *and* not later.""",
    ),
    solution=fast_road,
    cases=_road_cases,
    axes="B head T D",
    misconceptions=(
        slip("both masks are inverted", _INVERTED | _EITHER | {".tril()": ".triu(1)"}).teach("""
            You passed the masks with True = ignore. This function attends where a bool mask is
            True."""),
        slip(
            "the mask is inverted, as it was found", _INVERTED | _NEVER_CAUSAL, _INVERTED | _EITHER
        ).teach("""
            This is still the original fault: the mask is passed as it came, where True = ignore,
            but this function attends where a bool mask is True. And `causal` is not used."""),
        slip("the padding mask is inverted", _INVERTED, _INVERTED | _FLAG).teach("""
            You attend to the padding: `key_padding_mask` is True at the keys to ignore, but the
            mask of this function is True at the keys to attend to."""),
        slip(
            "the causal mask is inverted", {".tril()": ".triu(1)"}, {".tril()": ".triu()"}
        ).teach("""
            The padding is right. But here True means attend, so `triu` lets each step see the
            future. A step may see the past and itself: `tril()`."""),
        slip(
            "floats are added",
            _FLOATS,
            _FLOATS | _NEVER_CAUSAL,
            _FLOATS | _NEVER_CAUSAL | _INVERTED,
        ).teach("""
            A float mask is added to the scores: 1.0 at real keys and 0.0 at padding hides nothing.
            Leave it bool."""),
        slip(
            "causal, and the padding forgotten",
            {
                "        steps = query.shape[2]\n": "        return "
                "F.scaled_dot_product_attention(query, key, value, is_causal=True)\n"
            },
        ).teach("""
            With `is_causal=True` alone, the padding is forgotten. After the last real step that
            makes a difference: padded queries see padded keys. Join both masks."""),
        slip("a mask together with is_causal", _FLAG).teach("""
            torch's documentation does not allow `attn_mask` together with `is_causal=True`. One of
            its kernels accepts both, but as soon as another kernel is chosen, here because the
            values are wider than the keys, there is an error. Join both in one mask: real *and* not
            later."""),
        slip("no step sees itself", {".tril()": ".tril(-1)"}).teach("""
            `tril(-1)` hides the diagonal too, so the first step has nothing to attend to. `tril()`
            keeps it."""),
        slip("one step of the future is seen", {".tril()": ".tril(1)"}).teach("""
            `tril(1)` keeps one diagonal above the main one, so each step sees the next one. Use
            `tril()`."""),
        slip(
            "queries and keys swapped", {"attention(query, key,": "attention(key, query,"}
        ).teach("""
            The queries ask, and the keys are asked: pass `query, key, value`, in this order."""),
        slip("never causal", _NEVER_CAUSAL).teach("`causal` changes nothing in your answer."),
        slip("either in place of both", _EITHER).teach("""
            A key must be real *and* not later. Your mask allows every key that is one of the
            two."""),
    ),
)

EXERCISES = [CONVERT, ENCODE, SAFE_ATTENTION, DECODE, FAST_PATH]
