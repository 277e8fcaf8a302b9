"""The core of the oracle: run somebody's model without leaving a trace, and compare two runs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.utils.rnn import PackedSequence, unpack_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What counts as equal, relative to the largest value: float64 leaves 1e-13 of rounding, and faults
# are larger than 1e-5. The others are the relative tolerances of torch.testing.assert_close, except
# for float32, where sums over many steps leave more rounding.
TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 1.6e-2,
}
# Where parts of a model always compute in float32, no fault is as small as this.
_LARGEST_ROUNDING = 1e-5


class Path(NamedTuple):
    """One of the ways in which a model is run: its mode, and whether gradients are recorded."""

    training: bool | None
    gradients: bool


PATHS = {
    "training": Path(True, True),
    "evaluation": Path(False, True),
    "inference": Path(False, False),
}


# --- comparing --------------------------------------------------------------------------------


def relative_difference(value: Tensor, other: Tensor, scale: float) -> float:
    """Return the largest difference, divided by `scale`; inf where shapes or NaN differ."""
    if value.shape != other.shape:
        return math.inf
    if value.numel() == 0:
        return 0.0
    # NaN or inf on only one side must count as a difference, and never vanish in a comparison.
    same = (value == other) | (value.isnan() & other.isnan())
    difference = (value - other).masked_fill(same, 0).abs().max().item()
    return math.inf if math.isnan(difference) else difference / (scale or 1.0)


def largest(values: Iterable[Tensor]) -> float:
    """Return the largest absolute value that is finite, or 0."""
    finite = [value[value.isfinite()].abs() for value in values]
    return max((value.max().item() for value in finite if value.numel()), default=0.0)


def gradient_differences(
    together: dict[str, Tensor], alone: dict[str, Tensor], sizes: dict[str, float]
) -> dict[str, float]:
    """Compare gradients by name, each relative to its own largest value alone.

    Where that is less than 1% of the model's largest gradient, it is relative to that 1%, because
    a gradient that is 0 in exact arithmetic, such as that of a bias before a softmax, is nothing
    but rounding.
    """
    least = max(sizes.values(), default=0.0) / 100
    return {
        name: relative_difference(together[name], alone[name], max(sizes[name], least))
        for name in alone
    }


def in_doubt(differences: Iterable[float]) -> bool:
    """Say whether a difference may be either a fault or the rounding of a part in float32."""
    return any(TOLERANCES[torch.float64] < difference <= 1e-4 for difference in differences)


def projection(row: Tensor, index: int) -> Tensor:
    """Return the fixed random mixture of a sample's outputs whose gradient is compared.

    It depends only on the sample's index, so it is the same in every batch. A mean of squares
    would be constant after a normalisation, and its gradient nothing but rounding.
    """
    generator = torch.Generator().manual_seed(index + 1)
    weights = torch.randn(row.shape, generator=generator, dtype=torch.float64)
    return (row * weights.to(row.device, row.dtype)).sum()


def one_number(loss: Any) -> Tensor:
    """Refuse a loss that is not one number, and return it without dimensions."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError("loss must return a tensor of one number: take its mean().")
    return loss.reshape(())


def percent(difference: float) -> str:
    """Say a relative difference in two digits."""
    if math.isinf(difference):
        return "entirely"
    size = 100 * difference
    return f"by {size:.0f}%" if size >= 10 else f"by {size:.2g}%"


# --- rows and batches -------------------------------------------------------------------------


def rows_of(output: Any, count: int) -> list[Tensor]:
    """Check that a model gave a row of floats for each sample, and return them."""
    samples = "1 sample" if count == 1 else f"{count} samples"
    if isinstance(output, PackedSequence):
        output = unpack_sequence(output)
    if output is None:
        raise TypeError(f"model gave None for {samples}: does its forward end in a return?")
    if isinstance(output, Mapping):
        raise TypeError(
            f"model returned {', '.join(map(str, output))}: say which, "
            "run=lambda model, batch: model(**batch)[...], or adapter=hugging_face()."
        )
    if isinstance(output, Tensor) and output.ndim == 0:
        raise ValueError(
            f"model gave one number for {samples}: return one row per sample, the outputs before "
            "the loss is taken, or the losses with reduction='none'."
        )
    if not isinstance(output, (Tensor, tuple, list)):
        raise TypeError(
            f"model gave a {type(output).__name__}: return a tensor (B, ...), or B tensors; "
            "say how with run=."
        )
    rows = list(output)
    if len(rows) != count or not all(isinstance(row, Tensor) for row in rows):
        hint = "does it squeeze a dimension away?" if count == 1 else "say which with run=."
        if isinstance(output, (tuple, list)):
            hint = "say which part with run=lambda model, batch: model(*batch)[0]."
        raise ValueError(f"model gave {len(rows)} rows for {samples}: {hint}")
    for row in rows:
        if not row.is_floating_point():
            raise TypeError(
                f"model gave {row.dtype}: return floating point, the logits before an argmax."
            )
        if row.is_meta:
            raise ValueError(
                "model gave a meta tensor, which holds no numbers: put model and samples on a "
                "device, for example model.to_empty(device='cpu')."
            )
    return rows


def tensors_in(batch: Any) -> list[Tensor]:
    """Return the tensors of any kind of batch."""
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    elif not isinstance(batch, (tuple, list)):
        batch = list(getattr(batch, "__dict__", {}).values())
    return [found for part in batch for found in tensors_in(part)]


def convert(value: Any, dtype: torch.dtype | None, count: int) -> Any:
    """Copy all tensors of a batch, and convert floats to `dtype` unless that is None.

    One float per sample, (B,), stays as it is: relative lengths are cut to whole numbers, and the
    0.7 of float32 is not the 0.7 of float64.
    """
    if isinstance(value, PackedSequence):
        indices = (value.sorted_indices, value.unsorted_indices)
        return PackedSequence(convert(value.data, dtype, -1), value.batch_sizes, *indices)
    if isinstance(value, Tensor):
        kept = dtype is None or value.shape == (count,)
        if value.is_floating_point() and not kept:
            return value.detach().to(dtype, copy=True)
        if value.is_complex() and not kept and dtype == torch.float64:
            return value.detach().to(torch.complex128, copy=True)
        return value.detach().clone()
    if isinstance(value, Mapping):
        changed = {key: convert(part, dtype, count) for key, part in value.items()}
        try:  # a Hugging Face batch is a mapping with attributes of its own
            moved = copy.copy(value)
            for key, item in changed.items():
                moved[key] = item
        except TypeError:
            return changed
        return moved
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(convert(part, dtype, count) for part in value))
    if type(value) in (tuple, list):
        return type(value)(convert(part, dtype, count) for part in value)
    attributes = getattr(value, "__dict__", {})
    held = {name: part for name, part in attributes.items() if isinstance(part, Tensor)}
    if not held or isinstance(value, nn.Module):
        return value
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{name: convert(part, dtype, count) for name, part in held.items()}
        )
    moved = copy.copy(value)
    moved.__dict__.update({name: convert(part, dtype, count) for name, part in held.items()})
    return moved


# --- rounding ---------------------------------------------------------------------------------

# Operations that move numbers, or choose among them, and do not round.
_EXACT_NAMES = """
    _to_copy clone copy_ cat stack where masked_fill masked_fill_ masked_scatter index select
    gather scatter embedding index_select index_put index_put_ fill fill_ full full_like zeros
    zeros_like zero_ ones ones_like new_zeros new_ones new_full new_empty empty empty_like
    empty_strided arange constant_pad_nd max amax min amin maximum minimum relu relu_ neg abs
    sort topk flip roll triu tril repeat pad_sequence _local_scalar_dense bernoulli bernoulli_
    rand rand_like randn randn_like uniform_ normal_ randint eye scalar_tensor lift_fresh
    native_dropout dropout sign floor round ceil trunc new_empty_strided slice_backward
    select_backward _pack_padded_sequence
"""
_EXACT = frozenset(_EXACT_NAMES.split())


class _Rounding(TorchDispatchMode):
    """Move each result of arithmetic by up to its own rounding, and record how coarse that is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.coarsest = torch.float64

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _EXACT or func.is_view:
            return result
        given = {id(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            plain = (
                isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.is_nested
            )
            if not plain or id(tensor) in given or not tensor.numel():
                continue
            if torch.finfo(tensor.dtype).eps > torch.finfo(self.coarsest).eps:
                self.coarsest = tensor.dtype
            noise = torch.empty(tensor.shape, dtype=torch.float64)
            noise.uniform_(-1, 1, generator=self.generator)
            # In half precision 1 + eps * noise would itself be rounded away.
            tensor.copy_(tensor.cpu().double() * (1 + torch.finfo(tensor.dtype).eps * noise))
        return result


# --- running ----------------------------------------------------------------------------------


class Draws:
    """Random states of torch, Python and NumPy, to see whether something was drawn."""

    def __init__(self) -> None:
        self.torch, self.python = torch.get_rng_state(), random.getstate()
        self.numpy = self._numpy_state()

    @staticmethod
    def _numpy_state() -> tuple | None:
        numpy = sys.modules.get("numpy")
        return numpy.random.get_state() if numpy else None

    def since(self) -> list[str]:
        """Return the names of the generators that have been drawn from since."""
        drawn = []
        if not torch.equal(self.torch, torch.get_rng_state()):
            drawn.append("torch")
        if self.python != random.getstate():
            drawn.append("Python's random")
        now = self._numpy_state()
        if self.numpy and now and repr(self.numpy) != repr(now):
            drawn.append("NumPy")
        return drawn

    def put_back(self) -> None:
        random.setstate(self.python)
        if self.numpy:
            sys.modules["numpy"].random.set_state(self.numpy)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[Draws]:
    """Seed all generators that a model may draw from; afterwards their states are as before."""
    cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if cuda else []
    before = Draws()
    with torch.random.fork_rng(devices=devices):
        try:
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.manual_seed_all(seed)
            random.seed(seed)
            if before.numpy:
                sys.modules["numpy"].random.seed(seed)
            yield Draws()
        finally:
            before.put_back()


@contextlib.contextmanager
def _attributes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restore whatever a run sets on modules: mode, hooks, caches, weights made by hooks."""
    saved = []
    for module in modules:
        attributes = dict(module.__dict__)
        contents = {
            name: copy.copy(value)
            for name, value in attributes.items()
            if isinstance(value, (dict, list, set))
        }
        saved.append((module, attributes, contents))
    try:
        yield
    finally:
        for module, attributes, contents in saved:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, content in contents.items():
                value = attributes[name]
                value.clear()
                value.extend(content) if isinstance(value, list) else value.update(content)


class _Holder(nn.Module):
    """Modules side by side, so that `functional_call` replaces the tensors of all of them."""

    def __init__(self, roots: Sequence[nn.Module]) -> None:
        super().__init__()
        self.roots = nn.ModuleList(roots)

    def forward(self, call: Callable[[], Any]) -> Any:
        return call()


def _is_lazy(parameter: Tensor) -> bool:
    return isinstance(parameter, UninitializedTensorMixin)


def _unwrapped(function: Callable) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__self__", function)


def _named_by(function: Callable) -> dict[int, str]:
    """Return the names by which a function knows modules, by their id."""
    function = _unwrapped(function)
    if not inspect.isfunction(function):
        return {}
    known = inspect.getclosurevars(function)
    values = {**known.globals, **known.nonlocals}
    return {id(value): name for name, value in values.items() if isinstance(value, nn.Module)}


class Subject:
    """Somebody's model, run as often as needed, and left as it was.

    While it runs, its parameters and buffers are replaced by copies in a given precision, and
    whatever a run changes in its modules is put back. Where the model is a function, the modules
    that it calls are found by calling it once.

    Args:
        model: a module or a function that calls modules.
        call: `call(model)` runs it once, to find modules.
        search: whether to look for modules besides `model`, where `model` is itself a module.
    """

    def __init__(
        self, model: Callable, call: Callable[[Callable], Any], search: bool = True
    ) -> None:
        owner = _unwrapped(model)
        own = [owner] if isinstance(owner, nn.Module) else []
        if own and any(map(_is_lazy, owner.parameters())):
            # A lazy module takes its shape from its first batch; let a copy do so.
            model = copy.deepcopy(owner)
            own = [model]
            with seeded(0), torch.no_grad():
                call(model)
        self.model = model
        roots = self._find(own, lambda: call(self.model)) if search or not own else own
        known = _named_by(model)
        self.holder = _Holder(roots)
        self.modules = [module for module in self.holder.modules() if module is not self.holder][1:]
        self.has_module = bool(roots)
        self.names: dict[str, str] = {}
        taken: set[str] = set()
        prefixes = []
        for index, root in enumerate(roots):
            name = "" if own and index == 0 else known.get(id(root), type(root).__name__)
            while name and name in taken:
                name += "'"
            taken.add(name)
            prefixes.append(f"{name}." if name else "")
        for name, _ in self.holder.named_parameters():
            _, index, rest = name.split(".", 2)
            self.names[name] = prefixes[int(index)] + rest
        self.module_names = {}
        for index, root in enumerate(roots):
            for name, module in root.named_modules():
                full = (prefixes[index] + name).rstrip(".") or type(root).__name__
                self.module_names.setdefault(id(module), full)
        if any(isinstance(module, torch.jit.ScriptModule) for module in self.modules):
            raise TypeError(
                "model was compiled by torch.jit, which fixes its tensors: give the module that it "
                "was made from."
            )
        for name, parameter in self.holder.named_parameters():
            if parameter.is_meta:
                raise ValueError(
                    f"{self.names[name]} is on the meta device, which holds no numbers: give the "
                    "model values first, for example model.to_empty(device='cpu')."
                )
        self.dtype: torch.dtype | None = None
        self.perturbed = False
        self.parameters: dict[str, nn.Parameter] = {}
        self._versions: dict[str, int] = {}
        self.dropout_off = False

    @staticmethod
    def _find(own: list[nn.Module], call: Callable[[], Any]) -> list[nn.Module]:
        called: dict[int, nn.Module] = {}
        with contextlib.ExitStack() as stack:
            own_modules = [module for owner in own for module in owner.modules()]

            def keep(module: nn.Module) -> None:
                stack.enter_context(_attributes_kept([module]))
                # The run changes these copies: a BatchNorm its statistics, an Embedding with
                # max_norm its weights.
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.detach().clone()
                for name, parameter in module._parameters.items():
                    if parameter is not None and not parameter.is_meta:
                        value = parameter.detach().clone()
                        module._parameters[name] = nn.Parameter(value, parameter.requires_grad)

            for module in own_modules:
                keep(module)
            seen = {id(module) for module in own_modules}

            def before(module: nn.Module, args: tuple) -> None:
                if id(module) in seen:
                    return
                if any(map(_is_lazy, module.parameters())):
                    raise ValueError(
                        f"{type(module).__name__} is lazy and has no shape yet: run the model "
                        "once first."
                    )
                for child in module.modules():
                    if id(child) not in seen:
                        seen.add(id(child))
                        keep(child)
                called[id(module)] = module

            handle = register_module_forward_pre_hook(before)
            try:
                with seeded(0), torch.no_grad():
                    call()
            finally:
                handle.remove()
        inner = {
            id(child)
            for module in called.values()
            for child in module.modules()
            if child is not module
        }
        return own + [module for module in called.values() if id(module) not in inner]

    # What functional_call takes is made once for a precision, and again where a run has changed it.

    def prepare(self, dtype: torch.dtype | None, perturb: bool = False) -> None:
        """Copy the parameters, and convert floats to `dtype` unless that is None."""
        self.dtype, self.perturbed = dtype, perturb
        self.parameters = {}
        for name, parameter in self.holder.named_parameters():
            value = self._moved(parameter, copied=True)
            self.parameters[name] = nn.Parameter(value, requires_grad=parameter.requires_grad)
        if perturb:
            self._perturb()
        self._versions = {name: parameter._version for name, parameter in self.parameters.items()}

    def _moved(self, value: Tensor, copied: bool) -> Tensor:
        value = value.detach()
        if self.dtype is not None and value.is_floating_point():
            return value.to(self.dtype, copy=copied)
        if self.dtype == torch.float64 and value.is_complex():
            return value.to(torch.complex128, copy=copied)
        return value.clone() if copied else value

    def _perturb(self) -> None:
        """Give parameters values like trained ones; a bias of 0 or a scale of 1 hides faults."""
        generator = torch.Generator().manual_seed(0)
        kept = {  # training does not move the row of padding
            f"{name}.weight": module.padding_idx
            for name, module in self.holder.named_modules()
            if isinstance(module, nn.Embedding) and module.padding_idx is not None
        }
        for name, parameter in self.parameters.items():
            if not parameter.is_floating_point():
                continue
            size = parameter.detach().abs().mean().item() or 1.0
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name in kept:
                noise[kept[name]] = 0
            with torch.no_grad():
                parameter.add_((0.2 * size * noise).to(parameter.device, parameter.dtype))

    def _buffers(self) -> dict[str, Tensor]:
        buffers = {}
        generator = torch.Generator().manual_seed(1)
        for name, buffer in self.holder.named_buffers():
            buffers[name] = self._moved(buffer, copied=True)
            statistic = name.endswith(("running_mean", "running_var"))
            if self.perturbed and statistic:
                noise = torch.randn(buffer.shape, generator=generator, dtype=torch.float64)
                moved = buffers[name].double()
                moved = moved * noise.exp() if name.endswith("var") else moved + noise
                buffers[name] = moved.to(buffers[name].dtype)
        return buffers

    def _fresh(self) -> dict[str, Tensor]:
        if any(
            parameter._version != self._versions[name]
            for name, parameter in self.parameters.items()
        ):
            kept = {name: parameter.grad for name, parameter in self.parameters.items()}
            self.prepare(self.dtype, self.perturbed)
            for name, grad in kept.items():
                self.parameters[name].grad = grad
        return {**self.parameters, **self._buffers()}

    def run(
        self, call: Callable[[Callable], Any], path: Path, seed: int = 0
    ) -> tuple[Any, list[str]]:
        """Call `call(model)` on a path, in the precision prepared.

        Returns:
            its output, and the names of the random generators that it has drawn from.
        """
        if not self.parameters and self.names:
            self.prepare(self.dtype)
        with (
            seeded(seed) as draws,
            torch.inference_mode(False),
            torch.set_grad_enabled(path.gradients),
            _attributes_kept(self.modules),
            contextlib.ExitStack() as restored,
        ):
            for module in self.modules:
                for name, value in list(module.__dict__.items()):
                    # Not a parameter or buffer, yet part of the model: a table of positions.
                    if isinstance(value, Tensor):
                        module.__dict__[name] = self._moved(value, copied=True)
            if self.dropout_off:
                for _, attributes, name in list(self._dropout_rates()):
                    restored.callback(attributes.__setitem__, name, attributes[name])
                    attributes[name] = type(attributes[name])(0)
            for root in self.holder.roots:
                if path.training is not None and root.training != path.training:
                    root.train(path.training)
            tensors = self._fresh()
            result = torch.func.functional_call(self.holder, tensors, (lambda: call(self.model),))
            return result, draws.since()

    def dropouts(self) -> list[str]:
        """Return the names of the modules, or their configurations, with a dropout above 0."""
        return list(dict.fromkeys(name for name, _, _ in self._dropout_rates()))

    def _dropout_rates(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield each dropout rate: its owner's name, the owner's attributes, and its own name."""
        seen = set()
        for module in self.modules:
            named = self.module_names[id(module)]
            owners = [(named, module)]
            for name, value in module.__dict__.items():  # some models read them from a config
                plain = hasattr(value, "__dict__") and not isinstance(value, (nn.Module, Tensor))
                if plain and not callable(value) and id(value) not in seen:
                    seen.add(id(value))
                    owners.append((f"{named}.{name}", value))
            for label, owner in owners:
                for name, value in list(vars(owner).items()):
                    if _is_dropout(owner, name, value):
                        yield label, vars(owner), name

    def gradients(self) -> dict[str, Tensor]:
        """Take the gradients that have been summed since, by name, and start again at 0."""
        taken = {}
        for name, parameter in self.parameters.items():
            if parameter.requires_grad:
                grad = parameter.grad
                taken[self.names[name]] = torch.zeros_like(parameter) if grad is None else grad
            parameter.grad = None
        return taken

    def backward(self, scalar: Tensor) -> None:
        """Add the gradients of `scalar` to those summed so far."""
        wanted = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        if wanted and scalar.requires_grad:
            torch.autograd.backward(scalar, inputs=wanted)


def _is_dropout(module: Any, name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        return False
    inside = "drop" in type(module).__name__.lower() and name in ("p", "prob", "rate")
    return inside or "drop" in name.lower()


class _Uses(TorchDispatchMode):
    """Count operations, and keep the number of the one that last read a tensor's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.last: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and not tensor.is_nested:
                self.last[tensor.untyped_storage().data_ptr()] = self.count
        return func(*args, **(kwargs or {}))


Calls = list[tuple[str, list[Tensor]]]


@contextlib.contextmanager
def recorded(names: dict[int, str]) -> Iterator[Calls]:
    """Record what goes into each named module and what comes out, as it happens.

    Outputs count only if they are read afterwards: the last state of an LSTM may never be used.
    """
    events: list[tuple[str, int, list[Tensor]]] = []
    calls: Calls = []

    def keep(name: str, values: Any) -> None:
        tensors = [tensor.detach() for tensor in tree_leaves(values) if isinstance(tensor, Tensor)]
        events.append((name, uses.count, [tensor for tensor in tensors if not tensor.is_nested]))

    def before(module: nn.Module, args: tuple) -> None:
        if id(module) in names:
            keep(f"the input of {names[id(module)]}", args)

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        if id(module) in names:
            keep(names[id(module)], output)

    handles = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        with _Uses() as uses:
            yield calls
    finally:
        for handle in handles:
            handle.remove()
    for name, time, tensors in events:
        read = [t for t in tensors if uses.last.get(t.untyped_storage().data_ptr(), 0) > time]
        calls.append((name, read))


def first_difference(together: Calls, alone: Calls, index: int, tolerance: float) -> str | None:
    """Name the first module that differs from alone at a real step of sample `index`.

    It is "the input of" a module where the code before the module is at fault. Tensors are compared
    where one dimension is the batch (any size, against 1), and every other one is as long as alone,
    or longer: then its beginning or its end is what is real.
    """
    by_name: dict[str, list[list]] = {}
    for name, outputs in alone:
        by_name.setdefault(name, []).append(outputs)
    for name, outputs in together:
        if not by_name.get(name):
            return None
        for tensor, other in zip(outputs, by_name[name].pop(0), strict=False):
            difference = _at_real_steps(tensor, other, index)
            if difference is not None and difference > tolerance:
                return name
    return None


def _at_real_steps(together: Tensor, alone: Tensor, index: int) -> float | None:
    if together.is_nested or alone.is_nested or not alone.is_floating_point():
        return None
    if together.ndim != alone.ndim or not alone.numel():
        return None
    smallest = None
    for batch in range(min(2, alone.ndim)):
        if alone.shape[batch] != 1 or together.shape[batch] <= index:
            continue
        tensor, other = together.select(batch, index), alone.select(batch, 0)
        if any(a < b for a, b in zip(tensor.shape, other.shape, strict=True)):
            continue
        for last in (False, True):
            cut = tensor
            for axis, size in enumerate(other.shape):
                start = cut.shape[axis] - size if last else 0
                cut = cut.narrow(axis, start, size)
            difference = relative_difference(cut, other, largest([other]))
            smallest = difference if smallest is None else min(smallest, difference)
    return smallest


# --- the runs that are compared ---------------------------------------------------------------


class Runs:
    """The samples, run in groups on one path, and their outputs.

    Args:
        subject: whose model runs.
        batch_of: `batch_of(indices, **options)` collates these samples.
        run: `run(model, batch, count)` gives a checked row per sample.
        loss: `loss(row, index)` gives the scalar whose gradient is compared.
        path: mode, and whether gradients are recorded.
    """

    def __init__(
        self,
        subject: Subject,
        batch_of: Callable[..., Any],
        run: Callable[[Callable, Any, int], list[Tensor]],
        loss: Callable[[Tensor, int], Tensor],
        path: Path,
    ) -> None:
        self.subject, self.batch_of, self.run, self.loss = subject, batch_of, run, loss
        self.path = path
        self.drawn: list[str] = []
        self.losses: list[Tensor] = []

    def rows(
        self, indices: Sequence[int], *, seed: int = 0, backward: bool = False, **options: Any
    ) -> list[Tensor]:
        """Run these samples together; with `backward`, add up their gradients as well."""

        def call(model: Callable) -> list[Tensor]:
            batch = convert(
                self.batch_of(list(indices), **options), self.subject.dtype, len(indices)
            )
            rows = self.run(model, batch, len(indices))
            if backward:
                # Within the call, because a checkpoint computes again in the backward pass.
                losses = [
                    one_number(self.loss(row, i)) for row, i in zip(rows, indices, strict=True)
                ]
                self.losses = [value.detach() for value in losses]
                self.subject.backward(torch.stack(losses).sum())
            return [row.detach().clone() for row in rows]

        rows, self.drawn = self.subject.run(call, self.path, seed)
        return rows

    def summed(self, groups: Sequence[Sequence[int]], **options: Any) -> dict[str, Tensor]:
        """Return the sum of the gradients of these groups, by parameter."""
        self.subject.gradients()
        for indices in groups:
            self.rows(indices, backward=True, **options)
        return self.subject.gradients()

    def rounding(self, indices: Sequence[int], expected: Sequence[Tensor]) -> Rounding:
        """Measure what rounding does to this model: move each result a bit, and compare."""
        scale, worst, coarsest = largest(expected), 0.0, torch.float64
        gradients = self.path.gradients and bool(self.subject.parameters)
        plain = self.summed([indices]) if gradients else {}
        sizes = {name: largest([gradient]) for name, gradient in plain.items()}
        for seed in (0, 1):
            with _Rounding(seed) as mode:
                if gradients:
                    self.subject.gradients()
                rows = self.rows(indices, backward=gradients)
            coarsest = max(coarsest, mode.coarsest, key=lambda dtype: torch.finfo(dtype).eps)
            moved = [
                relative_difference(row, truth, scale)
                for row, truth in zip(rows, expected, strict=True)
            ]
            if gradients:
                moved += gradient_differences(self.subject.gradients(), plain, sizes).values()
            worst = max(worst, *moved)
        return Rounding(worst, coarsest)


class Rounding(NamedTuple):
    """What rounding alone does to a model.

    Attributes:
        size: the largest relative difference that it caused.
        coarsest: the coarsest dtype in which the model computes.
    """

    size: float
    coarsest: torch.dtype

    def tolerance(self, in_float64: bool) -> float:
        """Return what counts as equal: four times what was measured, or the dtype's tolerance."""
        measured = 4 * self.size if math.isfinite(self.size) else 0.0
        if in_float64:
            # What a model itself computes in a coarser type rounds like that type. It is at least
            # eight times its step, because two runs with moved results may both be lucky.
            coarse = self.coarsest != torch.float64
            step = 8 * torch.finfo(self.coarsest).eps if coarse else 0.0
            return max(TOLERANCES[torch.float64], min(max(measured, step), _LARGEST_ROUNDING))
        return max(TOLERANCES.get(self.coarsest, 1e-5), measured)
