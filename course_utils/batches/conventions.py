"""What a mask means to each part of PyTorch, found by running it (chapter 04)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WayToMask = Callable[[Tensor, Tensor], Tensor]


def effect_of_marking(attend: WayToMask) -> str:
    """Mark one step in a mask, and find out what that does to it.

    Args:
        attend: `attend(x, marked)` gives (1, 4, 8) for x (1, 4, 8) and marked (1, 4) bool, which
            is True at the last step.
    Returns:
        "ignored", "the only one attended", "attended like the rest", "of no use: nothing is
        attended", "NaN", or the name of the error that was raised.
    """
    x = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    marked = torch.tensor([[False, False, False, True]])

    def reaches(step: int) -> bool:  # does this step reach the output of step 2?
        changed = x.clone()
        changed[0, step] += 1
        return not torch.allclose(attend(changed, marked)[0, 2], attend(x, marked)[0, 2])

    try:
        if attend(x, marked).isnan().any():
            return "NaN"
        found = reaches(3), reaches(1)  # the marked step, and another
    except Exception as error:
        return type(error).__name__
    effects = {
        (False, True): "ignored",
        (True, False): "the only one attended",
        (True, True): "attended like the rest",
        (False, False): "of no use: nothing is attended",
    }
    return effects[found]


@torch.random.fork_rng(devices=[])
def ways_to_mask() -> dict[tuple[str, str, str], WayToMask]:
    """Return the ways to give a mask to PyTorch's attention.

    Returns:
        (function, argument, value at the marked step) -> `attend(x, marked)`.
    """
    torch.manual_seed(0)
    mha = nn.MultiheadAttention(8, 2, batch_first=True)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    decoder = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    target = torch.zeros(1, 4, 8)

    def minus_inf(marked: Tensor) -> Tensor:
        return torch.zeros(marked.shape).masked_fill(marked, -torch.inf)

    def by_mha(x: Tensor, mask: Tensor) -> Tensor:
        return mha(x, x, x, key_padding_mask=mask)[0]

    def by_sdpa(x: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None, :].expand(1, 4, 4))

    @torch.no_grad()
    def on_fast_path(x: Tensor, mask: Tensor) -> Tensor:
        encoder.eval()
        output = encoder(x, src_key_padding_mask=mask)
        encoder.train()
        return output

    module, function = "nn.MultiheadAttention", "F.scaled_dot_product_attention"
    return {
        (module, "key_padding_mask", "True"): by_mha,
        (module, "attn_mask", "True"): (
            lambda x, marked: mha(x, x, x, attn_mask=marked.expand(4, 4))[0]
        ),
        ("nn.TransformerDecoderLayer", "tgt_key_padding_mask", "True"): (
            lambda x, marked: decoder(x, target, tgt_key_padding_mask=marked)
        ),
        ("nn.TransformerDecoderLayer", "tgt_mask", "True"): (
            lambda x, marked: decoder(x, target, tgt_mask=marked.expand(4, 4))
        ),
        ("nn.TransformerEncoderLayer", "src_key_padding_mask", "True"): (
            lambda x, marked: encoder(x, src_key_padding_mask=marked)
        ),
        ("nn.TransformerDecoderLayer", "memory_key_padding_mask", "True"): (
            lambda x, marked: decoder(target, x, memory_key_padding_mask=marked)
        ),
        (function, "attn_mask", "True"): by_sdpa,
        (module, "key_padding_mask", "-inf"): lambda x, marked: by_mha(x, minus_inf(marked)),
        (function, "attn_mask", "-inf"): lambda x, marked: by_sdpa(x, minus_inf(marked)),
        (module, "key_padding_mask", "1.0"): lambda x, marked: by_mha(x, marked.float()),
        (function, "attn_mask", "1.0"): lambda x, marked: by_sdpa(x, marked.float()),
        ("nn.TransformerEncoderLayer", "src_key_padding_mask", "1.0"): (
            lambda x, marked: encoder(x, src_key_padding_mask=marked.float())
        ),
        ("nn.TransformerEncoderLayer, eval, no_grad", "src_key_padding_mask", "1.0"): (
            lambda x, marked: on_fast_path(x, marked.float())
        ),
        (module, "key_padding_mask", "1, an integer"): lambda x, marked: by_mha(x, marked.long()),
        (function, "attn_mask", "1, an integer"): lambda x, marked: by_sdpa(x, marked.long()),
    }


def paths_of_attention() -> dict[str, Callable[[], tuple[nn.Module, Callable]]]:
    """Return the ways through PyTorch's attention code.

    Returns:
        name -> a function that makes a module with fixed weights, and `run(module, x, keep_mask)`
        that gives (B, T, 8) for x (B, T, 8).
    """
    sizes = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "dropout": 0.0, "batch_first": True}

    def mha(**options: bool) -> Callable:
        return lambda: (
            nn.MultiheadAttention(8, 2, batch_first=True),
            lambda layer, x, keep: layer(x, x, x, key_padding_mask=~keep, **options)[0],
        )

    def encode(layer: nn.Module, x: Tensor, keep_mask: Tensor) -> Tensor:
        return layer(x, src_key_padding_mask=~keep_mask)

    def by_hand(layer: nn.Module, x: Tensor, keep_mask: Tensor) -> Tensor:
        x = layer(x)
        scores = (x @ x.transpose(1, 2)).masked_fill(~keep_mask[:, None], -torch.inf)
        return scores.softmax(dim=2) @ x

    def by_sdpa(layer: nn.Module, x: Tensor, keep_mask: Tensor) -> Tensor:
        x = layer(x)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=keep_mask[:, None])

    def encoder(nested: bool) -> Callable:
        return lambda: (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**sizes), 2, enable_nested_tensor=nested
            ),
            encode,
        )

    return {
        "softmax by hand, -inf": lambda: (nn.Linear(8, 8), by_hand),
        "F.scaled_dot_product_attention": lambda: (nn.Linear(8, 8), by_sdpa),
        "nn.MultiheadAttention": mha(),
        "nn.MultiheadAttention, need_weights=False": mha(need_weights=False),
        "nn.TransformerEncoderLayer": lambda: (nn.TransformerEncoderLayer(**sizes), encode),
        "nn.TransformerEncoder": encoder(nested=True),
        "nn.TransformerEncoder, no nested tensors": encoder(nested=False),
    }


@torch.random.fork_rng(devices=[])
def empty_row_outcomes(make: Callable[[], tuple[nn.Module, Callable]]) -> dict[str, str]:
    """Run a batch whose second sequence has no real step, and say what comes out for it.

    Args:
        make: one of `paths_of_attention`.
    Returns:
        "training", "eval" and "eval, no_grad" -> "NaN", "zeros" or "numbers"; and "gradients" ->
        how many parameters have NaN in theirs, in training, for a loss of the first sequence alone:
        "clean" or "NaN in 3 of 4".
    """
    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    keep_mask = torch.tensor([[True, True, False, False], [False] * 4])
    torch.manual_seed(0)
    module, run = make()
    outcomes = {}
    for name in ("training", "eval", "eval, no_grad"):
        module.train(name == "training")
        with torch.set_grad_enabled("no_grad" not in name), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors")
            output = run(module, x, keep_mask)
        empty = output[1].detach()
        kind = "zeros" if (empty == 0).all() else "numbers"
        outcomes[name] = "NaN" if empty.isnan().any() else kind
        if name == "training":
            healthy = output[0, :2].square().mean()
            gradients = torch.autograd.grad(healthy, list(module.parameters()))
            lost = sum(bool(gradient.isnan().any()) for gradient in gradients)
            outcomes["gradients"] = f"NaN in {lost} of {len(gradients)}" if lost else "clean"
    return outcomes
