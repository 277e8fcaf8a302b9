"""How to run various kinds of batch, and how to give them more padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

MorePadding = Callable[[Any, int, float], Any]
GIVE_MORE_PADDING = "give more_padding, which adds steps of padding to your batch"


@dataclass(frozen=True)
class Adapter:
    """How to run one kind of batch, and how to widen it.

    Attributes:
        run: `run(model, batch)` gives one row of outputs per sample, with nothing at padding.
        more_padding: `more_padding(batch, steps, value)` gives the batch with so many more steps
            of padding, or None if it cannot. `value` is what floats hold there; where it is not
            0, integers are to hold an id that is not that of padding.
        why: what to say where there can be no more padding.
    """

    run: Callable[[Callable, Any], Any]
    more_padding: MorePadding | None = None
    why: str = GIVE_MORE_PADDING


def call(model: Callable, batch: Any) -> Any:
    """Run `model(*batch)`, `model(**batch)` or `model(batch)`, depending on the batch's type."""
    if isinstance(batch, Mapping):
        return model(**batch)
    spread = isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence)
    return model(*batch) if spread else model(batch)


def widen(tensor: Tensor, steps: int, value: float, *, time: int = 1, left: bool = False) -> Tensor:
    """Add `steps` of `value` to one dimension of a tensor, at its end or its beginning."""
    pairs = [0, 0] * (tensor.ndim - time - 1) + ([steps, 0] if left else [0, steps])
    if tensor.dtype == torch.bool:
        return F.pad(tensor, pairs, value=bool(value))
    return F.pad(tensor, pairs, value=value)


def hugging_face(
    output: str | None = None,
    *,
    per_step: bool | None = None,
    output_lengths: Callable[[Tensor], Tensor] | None = None,
    pad_id: int | None = None,
    widened: Sequence[str] | None = None,
) -> Adapter:
    """Adapt dictionaries with an `attention_mask` (B, T), 1 = real, as Hugging Face's models take.

    The output is cut to the real steps of each sample; more padding is added to both the ids and
    the mask, on the side where the batch has its padding.

    Args:
        output: which one to compare; where None, `logits`, else `last_hidden_state`.
        per_step: whether it has a dimension T to be cut; where None, it has if it is (B, T, ...)
            of 3 or more dimensions.
        output_lengths: `output_lengths(lengths)` gives the real steps of an output that a
            convolution has shortened, (B,) from (B,).
        pad_id: what `input_ids` hold at padding; where None, what the batch holds there.
        widened: keys of the tensors with the dimension T; where None, each that is (B, T, ...),
            except those that begin with `decoder_` or `labels`.
    """

    def run(model: Callable, batch: Mapping) -> list[Tensor]:
        found = model(**batch)
        mask = batch["attention_mask"].bool()
        value = _output(found, output)
        lengths, longest = mask.sum(1), mask.shape[1]
        if output_lengths is not None:
            lengths = output_lengths(lengths)
            return [row[:n] for row, n in zip(value, lengths.tolist(), strict=True)]
        cut = value.ndim >= 3 and value.shape[1] == longest if per_step is None else per_step
        return [row[keep] for row, keep in zip(value, mask, strict=True)] if cut else list(value)

    def more_padding(batch: Mapping, steps: int, value: float) -> dict | None:
        mask = batch["attention_mask"]
        real = mask.bool()
        left = not bool(real[:, 0].all())
        ids = batch.get("input_ids")
        fill = pad_id
        if ids is not None and fill is None:
            if bool(real.all()):
                return None
            fill = int(ids[~real][0])
        if ids is not None and value != 0:
            if left:  # there the id of padding may say where a text begins
                return None
            others = ids[real]
            fill = int(others[others != fill][0])
        wider = dict(batch)
        for key, tensor in batch.items():
            has_time = isinstance(tensor, Tensor) and tensor.shape[:2] == mask.shape
            if widened is None and key.startswith(("decoder_", "labels")):
                continue
            if key not in widened if widened is not None else not has_time:
                continue
            holds = value if tensor.is_floating_point() else 0
            holds = 0 if key == "attention_mask" else fill if key == "input_ids" else holds
            wider[key] = widen(tensor, steps, holds, left=left)
        return wider

    return Adapter(run, more_padding, "the batch has no padding to see the id of: give pad_id=")


def _output(found: Any, name: str | None) -> Tensor:
    if isinstance(found, Tensor):
        return found
    names = [name] if name else ["logits", "last_hidden_state"]
    for key in names:
        value = found.get(key) if isinstance(found, Mapping) else getattr(found, key, None)
        if isinstance(value, Tensor):
            return value
    has = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
    raise TypeError(
        f"model gave {has}, but not {' or '.join(names)}: name the output to compare, "
        "hugging_face(output=...)."
    )


def padded_batch(
    *,
    padded: int | str = 0,
    lengths: int | str | None = 1,
    also: Sequence[int | str] = (),
    time: int = 1,
    relative: bool = False,
    left: bool = False,
    pad_id: int | None = None,
    per_step: bool = False,
    output_time: int | None = None,
    run: Callable[[Callable, Any], Any] = call,
) -> Adapter:
    """Adapt batches of a padded tensor and what tells its real steps.

    Args:
        padded: which part of the batch is padded, a position or a key.
        lengths: which part holds the lengths (B,); None where the batch has none.
        also: parts that grow with it in the same dimension and are 0 or False at padding, such as
            a keep mask.
        time: the dimension of time in `padded` and `also`: 1, or 2 for channels first, (B, C, T).
        relative: lengths are shares of T, as speechbrain has them.
        left: the padding comes before the samples.
        pad_id: the id of padding, where `padded` holds ids.
        per_step: whether the output has a dimension of time, to be cut to the real steps.
        output_time: which one; `time` where None.
        run: `run(model, batch)` gives the output, before it is cut.
    """
    axis = time if output_time is None else output_time

    def real_steps(batch: Any) -> list[int]:
        given = batch[lengths]
        return ((given * batch[padded].shape[time]).round() if relative else given).long().tolist()

    def rows(model: Callable, batch: Any) -> Any:
        output = run(model, batch)
        if not per_step:
            return output
        cut = []
        for row, n in zip(output, real_steps(batch), strict=True):
            start = row.shape[axis - 1] - n if left else 0
            cut.append(row.narrow(axis - 1, start, n))
        return cut

    def more_padding(batch: Any, steps: int, value: float) -> Any:
        tensor = batch[padded]
        holds = value
        if not tensor.is_floating_point():
            holds = 0 if pad_id is None else pad_id
            others = tensor[tensor != holds]
            if value != 0:
                if not others.numel():
                    return None
                holds = int(others.flatten()[0])
        changed = {padded: widen(tensor, steps, holds, time=time, left=left)}
        for key in also:
            changed[key] = widen(
                batch[key], steps, 0, time=min(time, batch[key].ndim - 1), left=left
            )
        if relative and lengths is not None:
            wide = tensor.shape[time] + steps
            changed[lengths] = batch[lengths].new_tensor(real_steps(batch)) / wide
        if isinstance(batch, Mapping):
            return {**batch, **changed}
        parts = [changed.get(index, part) for index, part in enumerate(batch)]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)

    return Adapter(rows, more_padding)


def packed_batch() -> Adapter:
    """Adapt models of one PackedSequence, which has no padding to add to."""
    return Adapter(call, None, "a PackedSequence has no padding")


def sure_widening(batch: Any) -> MorePadding | str:
    """Return how to widen a batch where that is certain, or why it is not.

    It is certain for a tuple or list that begins with floats (B, T, ...) and integer lengths (B,),
    the longest of them T, if all of the padding after the real steps holds the same number, and
    nothing else in the batch has T columns.
    """
    unsure = f"{GIVE_MORE_PADDING}, or an adapter"
    if not isinstance(batch, (tuple, list)) or isinstance(batch, PackedSequence):
        return unsure
    padded, lengths = batch[0], batch[1] if len(batch) > 1 else None
    if not all(isinstance(part, Tensor) for part in (padded, lengths)) or padded.ndim < 2:
        return unsure
    if lengths.is_floating_point() and lengths.shape == padded.shape[:1]:
        return f"lengths are {lengths.dtype}: say so with adapter=padded_batch(relative=True)"
    if not padded.is_floating_point():
        return "the batch holds ids: give adapter=padded_batch(pad_id=...) or more_padding"
    if lengths.shape != padded.shape[:1] or lengths.dtype == torch.bool:
        return unsure
    longest = int(lengths.max())
    if padded.shape[1] != longest or (padded.ndim > 2 and padded.shape[2] == longest):
        return f"no dimension is surely time: the longest is {longest} of {tuple(padded.shape)}"
    for index, part in enumerate(batch[2:], 2):
        if isinstance(part, Tensor) and longest in part.shape[1:]:
            return f"batch[{index}] has T columns too: give adapter=padded_batch(also=[{index}])"
    behind = torch.arange(longest, device=lengths.device) >= lengths[:, None]
    values = padded[behind.to(padded.device)]
    if values.numel() and not bool((values == values.flatten()[0]).all()):
        return "the padding is not behind the real steps: say so with padded_batch(left=True)"
    return padded_batch().more_padding
