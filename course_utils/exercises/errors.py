"""What an error that an answer raised means, and where it arose."""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Sequence

from course_utils.exercises.places import Trial, only_cases, size_names

# A pattern for the message, and, indented, what it means; the first pattern that matches is taken.
_MEANINGS = r"""
shape of the mask .* does not match the shape of the indexed tensor
    A mask used as an index must have the shape of what it selects from, or of its first dimensions.
'NoneType' object has no attribute '(\w+)'
    Something is None at this line, and has no `{0}`.
The size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)
    Two shapes do not line up: {0} is opposite {1}. Is a dimension missing, which `[:, None]` adds,
    or are two of them swapped?
index -?\d+ is out of bounds for dimension \d+ with size (\d+)
    An index is beyond the end: a dimension of size {0} has no such index, since it counts from 0.
index out of range|list index out of range
    An index is beyond the end: it counts from 0.
Boolean value of Tensor with more than one
    Python asked whether a whole tensor is true. `.any()` or `.all()` says which of the two is
    meant; between masks, write `&`, `|`, `~`, not `and`, `or`, `not`.
mat1 and mat2 shapes cannot be multiplied
    In a matrix product, the last dimension of the first must equal the first of the second.
Expected size for first two dimensions of batch2 tensor
    A product of batches needs (B, n, k) and (B, k, m): transpose one of them, or swap the two.
`lengths` array must be sorted in decreasing order
    The lengths are not sorted, longest first. Pass `enforce_sorted=False`.
Expected `len\(lengths\)` to be equal to batch_size
    The batch is read with time first: pass `batch_first=True`.
Expected all lengths to be|Length of all samples
    A length is 0, or negative.
should be on CPU
    The lengths of a packed batch have to be on the CPU: `lengths.cpu()`.
shape of (?:the )?(?:2D |key_padding_mask|mask)|key_padding_mask
    The mask has a different shape from what the layer expects: which dimension does the layer
    take for time?
Sizes of tensors must match except in dimension (\d+)
    When tensors are joined along dimension {0}, all their other dimensions must agree. Do the
    sequences still have different lengths?
stack expects each tensor to be equal size
    `torch.stack` takes tensors of one shape. These still have different lengths.
shape mismatch|cannot be broadcast|must match the existing size|expanded size
    What is written, or broadcast, has a different shape from the place it goes to.
shape '.*' is invalid for input of size|cannot reshape
    The number of entries does not fit this shape.
Expected .*target.* size|Expected input batch_size|expected scalar type|Expected target
    Logits and targets do not fit each other: which dimension does the loss take for the classes?
must be (?:a )?bool|only support bool|mask .*bool|Bool
    A mask has to be of dtype bool.
(?:unsupported operand|bad operand|not supported between)
    This operation does not exist for these types. Is there a list where a tensor is needed?
Integer division|Long but found|Float but found|same dtype|have dtype|type Long
    Two dtypes do not go together: integers and floats.
result type Float can't be cast|floating point|must be .*floating|not implemented for
    This operation was given the wrong dtype: it needs `.float()`, `.long()` or `.bool()`.
a leaf Variable that requires grad|in-place operation|modified by an inplace
    Something that the gradient needs was overwritten in place: work on a new tensor.
does not require grad|element 0 of tensors
    The result has no connection to the weights: there is nothing to call `backward` on.
cannot access local variable '(\w+)'
    `{0}` is used before it has a value: it is set only in another branch of the function.
non-empty TensorList|expects a non-empty
    There is nothing to join: the list is still empty at this line.
cannot be converted to Scalar|only one element tensors
    `.item()` and `int(...)` take a tensor of one number, and this one has several.
derivative for aten::floor_divide
    `//` rounds down, and has no gradient: divide with `/`.
created only for scalar outputs
    `backward()` starts at a single number, and this tensor has several: sum or average it.
key_padded_mask\.shape\[1\] to be (\d+), but got (\d+)
    The mask is {1} steps wide, but the layer sees {0}. Either the mask was made for another width,
    or the layer takes another dimension for time: does it have `batch_first=True`?
must be divisible by num_heads
    Each head takes an equal share of the features, so `d_model` must be a multiple of `nhead`.
expecting embedding dimension of (\d+), but got (\d+)
    The layer was made for {0} features, but gets {1}.
dropout probability
    A probability lies between 0 and 1.
'min' or 'max' must not be None
    `clamp` needs a bound: `min=` or `max=`.
atol must be|rtol must be
    A tolerance cannot be negative.
0-d tensor
    At this line it is a single number, which has neither a length nor an index.
division by zero
    Something is divided by 0: what if there is nothing to count?
has no attribute '(\w+)'
    The object has no `{0}`: is it of the type that you expect?
name '(\w+)' is not defined
    `{0}` is not defined: is it imported, and is it spelt correctly?
missing \d+ required|takes \d+ positional|unexpected keyword|multiple values
    A call does not fit the function: an argument is missing, superfluous, or has another name.
not enough values to unpack|too many values|cannot unpack
    There are not as many names on the left side of `=` as there are values on the right.
not iterable|not subscriptable|not callable
    One of the values is not of the type that this line expects.
Dimension out of range|dimension specified|dims? \(?-?\d
    There is no such dimension: how many dimensions does the tensor have at this line?
indices should be|as indices|only integer tensors|too many ind|must be integers|to be a vector
    This does not work as an index: indices are integers or bool, one for each dimension.
invalid combination of arguments|must be Tensor, not|must be tuple of|must be int, not|argument
    An argument is not of the type, or not in the position, that the function expects.
"""
HINTS = {
    pattern: " ".join(meaning.split())
    for pattern, meaning in re.findall(r"^(\S.*)\n((?: .*\n)+)", _MEANINGS, re.MULTILINE)
}


def line_of(error: BaseException, answer: object) -> str:
    """Find the line of the answer in which an error arose; "" where it cannot be seen."""
    code = getattr(answer, "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code is not None and frame.filename == code.co_filename
    ]
    if not frames:
        return ""
    linecache.checkcache(frames[-1].filename)
    return (frames[-1].line or "").strip()


def raised(trials: Sequence[Trial]) -> tuple[str, bool]:
    """Say in which cases an answer raises, and what that means; and whether either is known."""
    bad = [trial.error is not None for trial in trials]
    errors = [trial.error for trial in trials if trial.error is not None]
    message = str(errors[0])
    place = only_cases(trials, bad)
    if place:
        text = f"Your function raises an error {place}."
    else:
        some = "every case" if all(bad) else f"{sum(bad)} of {len(bad)} cases"
        text = f"Your function raises an error in {some}."
    for pattern, hint in HINTS.items():
        if found := re.search(pattern, message):
            first = next(trial for trial in trials if trial.error is not None)
            words = found.groups()
            if pattern.startswith("The size of tensor a"):
                sizes = size_names(first, ())
                words = [f"{sizes[int(n)]} ({n})" if sizes.get(int(n)) else n for n in words]
            return f"{text} {hint.format(*words)}", True
    return text, bool(place)
