"""Set-ups of public models: small, with random weights, as people run them on ragged batches.

Each family is a generator of `Setup`s, and imports its library itself. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

from benchmarks.model_truth import Setup

D, VOCABULARY, PAD = 16, 48, 1


def lengths_of(generator: torch.Generator, count: int = 5, low: int = 3, high: int = 14) -> list:
    """Different lengths, in no order."""
    return (torch.randperm(high - low + 1, generator=generator)[:count] + low).tolist()


# --- Token ids with a mask, as the tokenizers of transformers give them ---


def token_samples(generator: torch.Generator, **how: int) -> list[Tensor]:
    sizes = lengths_of(generator, **how)
    return [torch.randint(5, VOCABULARY, (size,), generator=generator) for size in sizes]


def token_batch(
    samples: list[Tensor],
    extra: int = 0,
    value: float | None = None,
    *,
    left: bool = False,
    positions: bool = False,
    pad: int = PAD,
) -> dict[str, Tensor]:
    total = max(map(len, samples)) + extra
    ids = torch.full((len(samples), total), pad)
    mask = torch.zeros(len(samples), total, dtype=torch.int64)
    for row, sample in enumerate(samples):
        where = slice(total - len(sample), total) if left else slice(0, len(sample))
        ids[row, where], mask[row, where] = sample, 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if positions:
        batch["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return batch


def widen_tokens(batch: dict, steps: int, value: float, *, left: bool, pad: int = PAD) -> dict:
    sides = (steps, 0) if left else (0, steps)
    fill = {"input_ids": pad, "decoder_input_ids": pad}
    return {key: F.pad(one, sides, value=fill.get(key, 0)) for key, one in batch.items()}


def cut(output: Tensor, mask: Tensor) -> list[Tensor]:
    return [row[keep.bool()] for row, keep in zip(output, mask, strict=True)]


def hugging_face_config(kind: str, dropout: bool, **settings: Any) -> Any:
    """A small configuration; its dropouts at 0 unless `dropout`, without other randomness."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind, **settings)
    for key, value in config.to_dict().items():
        random = "layerdrop" in key or (key.startswith("mask_") and key.endswith("_prob"))
        off = "drop" in key and not dropout
        if (random or off) and isinstance(value, float):
            setattr(config, key, 0.0)
    return config


def tokens(
    kind: str,
    settings: dict,
    *,
    label: str = "",
    left: bool = False,
    positions: bool = False,
    pad: int = PAD,
    head: str = "AutoModel",
    output: str = "last_hidden_state",
    without: tuple[str, ...] = (),
    attention: str | None = None,
    pooled: bool = False,
    ask: dict | None = None,
    extra: dict | None = None,
    note: str = "",
    adapter: bool = True,
    samples: dict | None = None,
) -> Setup:
    """A text model of transformers; `without` names what the caller leaves out of the call."""

    def build(dropout: bool) -> nn.Module:
        import transformers

        sizes = {"vocab_size": VOCABULARY, "pad_token_id": pad, "eos_token_id": 2}
        sizes |= {"bos_token_id": 0, **settings}
        config = hugging_face_config(kind, dropout, **sizes)
        loaded = {"attn_implementation": attention} if attention else {}
        if "num_experts_per_tok" in settings and not dropout:
            loaded["experts_implementation"] = "eager"  # the default refuses float64
        maker = getattr(transformers, head)
        return maker.from_config(config, **loaded) if head.startswith("Auto") else maker(config)

    def rows(model: Any, batch: dict) -> list[Tensor]:
        call = {key: one for key, one in batch.items() if key not in without}
        answer = model(**call, **(extra or {}))[output]
        return list(answer) if pooled else cut(answer, batch["attention_mask"])

    def asked(testing: Any) -> dict:
        if adapter and not (without or pooled or extra):
            return {"adapter": testing.hugging_face(output=output), **(ask or {})}
        widen = partial(widen_tokens, left=left, pad=pad)
        return {"run": rows, "more_padding": widen, **(ask or {})}

    passed = "ids" if "attention_mask" in without else "ids, mask"
    passed += ", position_ids" if positions else ""
    return Setup(
        "transformers",
        f"{label or kind}",
        f"{passed}; {'left' if left else 'right'}",
        build,
        partial(token_samples, **(samples or {})),
        partial(token_batch, left=left, positions=positions, pad=pad),
        rows,
        asked,
        note=note,
    )


BERT = {
    "hidden_size": D,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * D,
    "max_position_embeddings": 64,
}
GPT = {"n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 64}
LLAMA = {**BERT, "num_key_value_heads": 1}


def text_encoders() -> Iterator[Setup]:
    for kind in ("bert", "roberta", "xlm-roberta"):
        yield tokens(kind, BERT)
    yield tokens("bert", BERT, label="bert, eager attention", attention="eager")
    yield tokens("bert", BERT, label="bert", left=True, positions=True)
    counted = "positions count the padding, unless position_ids are passed"
    yield tokens("bert", BERT, left=True, note=counted)
    yield tokens("bert", BERT, without=("attention_mask",))
    yield tokens("bert", BERT, label="bert, pooler", output="pooler_output", pooled=True)
    in_float32 = {"dtype": torch.float32}
    yield tokens("bert", BERT, label="bert, asked in float32", ask=in_float32)
    classes = {"head": "AutoModelForSequenceClassification", "output": "logits", "pooled": True}
    yield tokens("bert", BERT, label="bert, classifier", **classes)
    yield tokens("roberta", BERT, left=True)
    yield tokens("electra", BERT | {"embedding_size": D})
    yield tokens("albert", BERT | {"embedding_size": 8})
    small = {"dim": D, "n_layers": 2, "n_heads": 2, "hidden_dim": 2 * D}
    yield tokens("distilbert", small | {"max_position_embeddings": 64})
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
    yield tokens("deberta", BERT | relative)
    yield tokens("deberta-v2", BERT | relative | {"position_buckets": 8, "share_att_key": True})
    convolves = {"conv_kernel_size": 3, "conv_act": "gelu"}
    yield tokens("deberta-v2", BERT | relative | convolves, label="deberta-v2 with convolution")
    yield tokens("mpnet", BERT)
    yield tokens(
        "fnet", BERT, without=("attention_mask",), note="it takes no mask, and mixes over padding"
    )
    beyond = "a convolution reads the padding behind the last step: the mask stops attention alone"
    small = {"embedding_size": D, "conv_kernel_size": 3}
    yield tokens("convbert", BERT | small, note=beyond)
    blocks = {"block_sizes": [1, 1], "d_model": D, "n_head": 2, "d_head": 8, "d_inner": 2 * D}
    yield tokens(
        "funnel",
        blocks | {"num_decoder_layers": 1},
        head="FunnelModel",
        note="the last token is pooled with padding",
    )
    landmarks = {"num_landmarks": 16, "conv_kernel_size": 3, "segment_means_seq_len": 16}
    yield tokens("nystromformer", BERT | landmarks, note=beyond)
    yield tokens("longformer", BERT | {"attention_window": 4})
    yield tokens("big_bird", BERT | {"attention_type": "original_full"})
    sparse = {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}
    yield tokens(
        "big_bird",
        BERT | sparse,
        label="big_bird, sparse",
        samples={"low": 26, "high": 40},
        note="which blocks a token attends to depends on the number of columns",
    )
    yield tokens("roformer", BERT | {"embedding_size": D})
    yield tokens("modernbert", BERT | {"local_attention": 4, "cls_token_id": 3, "sep_token_id": 4})
    yield tokens("eurobert", LLAMA)
    yield tokens("esm", BERT | {"mask_token_id": 4, "position_embedding_type": "rotary"})
    yield tokens("xlnet", {"d_model": D, "n_layer": 2, "n_head": 2, "d_inner": 32}, left=True)
    yield tokens("xlnet", {"d_model": D, "n_layer": 2, "n_head": 2, "d_inner": 32})
    yield tokens("xlm", {"emb_dim": D, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64})
    mobile = {"embedding_size": D, "intra_bottleneck_size": D, "true_hidden_size": D}
    next_one = "the embedding of the padding that follows is an input of the last token"
    yield tokens("mobilebert", BERT | mobile, note=next_one)
    yield tokens("mra", BERT | {"block_per_row": 1})
    other = "the attention expects a mask of 0 and -10,000, and is given 1 and 0: it masks nothing"
    yield tokens("yoso", BERT, note=other)


def decoders() -> Iterator[Setup]:
    yield tokens("gpt2", GPT)
    yield tokens("gpt2", GPT, left=True, positions=True)
    counted = "positions count the padding, unless position_ids are passed"
    yield tokens("gpt2", GPT, left=True, note=counted)
    yield tokens("gpt2", GPT, without=("attention_mask",))
    classes = {"head": "AutoModelForSequenceClassification", "output": "logits", "pooled": True}
    yield tokens("gpt2", GPT, label="gpt2, classifier", **classes)
    yield tokens("llama", LLAMA)
    yield tokens("llama", LLAMA, left=True, positions=True)
    yield tokens("llama", LLAMA, left=True)
    yield tokens("llama", LLAMA, label="llama, asked in float32", ask={"dtype": torch.float32})
    yield tokens("mistral", LLAMA | {"sliding_window": 4})
    yield tokens("mistral", LLAMA | {"sliding_window": 4}, left=True, positions=True)
    experts = {"num_local_experts": 3, "num_experts_per_tok": 2}
    yield tokens("mixtral", LLAMA | experts)
    heads = {"head_dim": 8}
    for kind in ("qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"):
        yield tokens(kind, LLAMA | heads)
    for kind in ("qwen2", "gemma2", "gemma3_text"):
        yield tokens(kind, LLAMA | heads, left=True, positions=True)
    some = {"moe_intermediate_size": D, "shared_expert_intermediate_size": D, "num_experts": 3}
    yield tokens("qwen2_moe", LLAMA | some | {"num_experts_per_tok": 2})
    yield tokens("gpt_neox", BERT)
    yield tokens("gpt_neox", BERT, left=True, positions=True)
    pattern = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4}
    yield tokens("gpt_neo", BERT | pattern | {"num_heads": 2})
    yield tokens("gptj", GPT | {"rotary_dim": 4})
    opt = {"word_embed_proj_dim": D, "ffn_dim": 2 * D}
    yield tokens("opt", BERT | opt)
    yield tokens("opt", BERT | opt, left=True)
    yield tokens("bloom", {"hidden_size": D, "n_layer": 2, "n_head": 2})
    yield tokens("bloom", {"hidden_size": D, "n_layer": 2, "n_head": 2}, left=True)
    yield tokens("falcon", BERT)
    yield tokens("xglm", {"d_model": D, "num_layers": 2, "attention_heads": 2, "ffn_dim": 32})
    for kind in ("phi", "olmo2"):
        yield tokens(kind, LLAMA | heads | {"num_key_value_heads": 2})
    yield tokens("gpt_oss", LLAMA | experts | heads | {"sliding_window": 4})
    state = {"hidden_size": D, "num_hidden_layers": 2, "state_size": 4}
    yield tokens("mamba", state)
    yield tokens("mamba", state, left=True)
    yield tokens("mamba2", state | {"num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4})


SEQ2SEQ = {
    "d_model": D,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 2 * D,
    "decoder_ffn_dim": 2 * D,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
}
T5 = {"d_model": D, "d_kv": 8, "d_ff": 2 * D, "num_layers": 2, "num_heads": 2}


def two_sequences(generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    return list(zip(token_samples(generator), token_samples(generator), strict=True))


def two_batches(samples: list, extra: int = 0, value: float | None = None) -> dict[str, Tensor]:
    source = token_batch([one for one, _ in samples], extra)
    target = token_batch([two for _, two in samples], extra)
    return source | {f"decoder_{key}": one for key, one in target.items()}


def seq2seq(
    kind: str, settings: dict, *, label: str = "", without: tuple[str, ...] = (), note: str = ""
) -> Setup:
    def build(dropout: bool) -> nn.Module:
        from transformers import AutoModel

        sizes = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": 2}
        sizes |= {"bos_token_id": 0, "decoder_start_token_id": 2, **settings}
        return AutoModel.from_config(hugging_face_config(kind, dropout, **sizes))

    def rows(model: Any, batch: dict) -> list[Tensor]:
        call = {key: one for key, one in batch.items() if key not in without}
        return cut(model(**call).last_hidden_state, batch["decoder_attention_mask"])

    widen = partial(widen_tokens, left=False)
    passed = "ids, no mask" if without else "ids and mask of both sides"
    return Setup(
        "transformers",
        label or kind,
        f"{passed}; right",
        build,
        two_sequences,
        two_batches,
        rows,
        lambda testing: {"run": rows, "more_padding": widen},
        note=note,
    )


def encoder_decoders() -> Iterator[Setup]:
    yield seq2seq("t5", T5)
    yield seq2seq("t5", T5, without=("attention_mask",))
    yield seq2seq("t5", T5, label="t5, no decoder mask", without=("decoder_attention_mask",))
    for kind in ("umt5",):
        yield seq2seq(kind, T5)
    yield seq2seq("switch_transformers", T5 | {"router_jitter_noise": 0.0})
    yield seq2seq("longt5", T5 | {"local_radius": 3})
    wide = {"encoder_attention_type": "transient-global", "local_radius": 3}
    yield seq2seq("longt5", T5 | wide | {"global_block_size": 2}, label="longt5, global")
    for kind in ("bart", "pegasus", "m2m_100"):
        yield seq2seq(kind, SEQ2SEQ)
    yield seq2seq("bart", SEQ2SEQ, without=("attention_mask",))
    window = {"attention_window": 4, "max_encoder_position_embeddings": 64}
    yield seq2seq("led", SEQ2SEQ | window | {"max_decoder_position_embeddings": 64})
    prophet = {"hidden_size": D, "num_encoder_layers": 2, "num_decoder_layers": 2}
    prophet |= {"num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2}
    prophet |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64}
    yield seq2seq("prophetnet", prophet)
    full = {"attention_type": "original_full"}
    yield seq2seq("bigbird_pegasus", SEQ2SEQ | full)


# --- Floats: (padded, lengths) ---


def float_samples(generator: torch.Generator, sizes: tuple[int, ...] = ()) -> list[Tensor]:
    sizes = sizes or lengths_of(generator)
    return [torch.randn(size, 8, generator=generator) for size in sizes]


def float_batch(
    samples: list[Tensor], extra: int = 0, value: float | None = None, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    side = "left" if left else "right"
    padded = pad_sequence(samples, True, value or 0.0, padding_side=side)
    lengths = torch.tensor([len(sample) for sample in samples])
    return widen_floats((padded, lengths), extra, value or 0.0, left=left)


def widen_floats(batch: tuple, steps: int, value: float, *, left: bool = False) -> tuple:
    padded, lengths = batch
    sides = (steps, 0) if left else (0, steps)
    return F.pad(padded, (0,) * (2 * padded.ndim - 4) + sides, value=value), lengths


def keep_of(padded: Tensor, lengths: Tensor, axis: int = 1) -> Tensor:
    """(B, T) bool, True = real."""
    return torch.arange(padded.shape[axis]) < lengths[:, None]


def to_lengths(output: Tensor, lengths: Tensor) -> list[Tensor]:
    return [row[: int(size)] for row, size in zip(output, lengths, strict=True)]


class Holder(nn.Module):
    """Parts that belong to one model, called by the set-up's own `rows`."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def floats(
    library: str,
    model: str,
    passed: str,
    build: Callable[[bool], nn.Module],
    rows: Callable[[Any, tuple], list[Tensor]],
    *,
    samples: Callable = float_samples,
    left: bool = False,
    ask: Callable[[Any], dict] | None = None,
    note: str = "",
) -> Setup:
    """A model on (padded, lengths), with `rows(model, (padded, lengths))`."""
    batch, widen = partial(float_batch, left=left), partial(widen_floats, left=left)

    def asked(testing: Any) -> dict:
        if library == "torch" and not left:
            return {"run": rows}  # the oracle finds out how to widen it
        return {"run": rows, "more_padding": widen}

    return Setup(library, model, passed, build, samples, batch, rows, ask or asked, True, note)


def audio_samples(generator: torch.Generator) -> list[Tensor]:
    sizes = (torch.randperm(160, generator=generator)[:4] + 60).tolist()
    return [torch.randn(size, generator=generator) for size in sizes]


CONVOLUTIONS = {"conv_dim": (8, 8), "conv_kernel": (6, 3), "conv_stride": (3, 2)}
SPEECH = {**BERT, **CONVOLUTIONS, "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2}


def speech(
    kind: str, settings: dict, passed: str = "audio, mask", label: str = "", note: str = ""
) -> Setup:
    """A speech model of transformers on raw audio."""

    def build(dropout: bool) -> nn.Module:
        from transformers import AutoModel

        return AutoModel.from_config(hugging_face_config(kind, dropout, **SPEECH | settings))

    def rows(model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        mask = keep_of(padded, lengths).long() if "mask" in passed else None
        output = model(padded, attention_mask=mask).last_hidden_state
        return to_lengths(output, model._get_feat_extract_output_lengths(lengths))

    def steps(lengths: Tensor) -> Tensor:
        for kernel, stride in zip((6, 3), (3, 2), strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def named(samples: list[Tensor]) -> dict[str, Tensor]:
        padded, lengths = float_batch(samples)
        return {"input_values": padded, "attention_mask": keep_of(padded, lengths).long()}

    def ask(testing: Any) -> dict:
        adapter = testing.hugging_face(output="last_hidden_state", output_lengths=steps)
        return {"collate": named, "adapter": adapter}

    how = {"samples": audio_samples, "note": note}
    if "mask" in passed:
        how["ask"] = ask
    return floats("transformers", label or kind, passed, build, rows, **how)


def speech_models() -> Iterator[Setup]:
    group = "GroupNorm over all steps, padding included, before any mask"
    for kind in ("wav2vec2", "hubert"):
        how = {"feat_extract_norm": "group"}
        yield speech(kind, how, label=f"{kind}, group norm", note=group)
    yield speech("wav2vec2", {"feat_extract_norm": "layer"}, label="wav2vec2, layer norm")
    stable = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    yield speech("wav2vec2", stable, label="wav2vec2, layer norm, stable")
    yield speech("wav2vec2", {"feat_extract_norm": "layer"}, "audio", label="wav2vec2, layer norm")
    yield speech("hubert", stable, label="hubert, layer norm")
    yield speech("wavlm", {"feat_extract_norm": "layer"}, label="wavlm, layer norm")
    yield speech("unispeech-sat", {"feat_extract_norm": "layer"}, label="unispeech-sat")
    yield speech("unispeech", {"feat_extract_norm": "layer"}, label="unispeech, layer norm")
    stack = "five convolutions in a row for the positions, the mask before the first alone"
    positions = {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 5}
    yield speech("data2vec-audio", positions, note=stack)
    yield speech("sew", {"squeeze_factor": 1, "feat_extract_norm": "layer"})
    relative = {"position_embeddings_type": "relative", "feat_extract_norm": "layer"}
    beyond = "a convolution reads the padding behind the last step, and BatchNorm counts it"
    settings = relative | {"conv_depthwise_kernel_size": 3}
    yield speech("wav2vec2-conformer", settings, note=beyond)

    def features(kind: str, settings: dict, passed: str = "features, mask") -> Setup:
        def build(dropout: bool) -> nn.Module:
            from transformers import AutoModel

            return AutoModel.from_config(hugging_face_config(kind, dropout, **settings))

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            padded, lengths = batch
            mask = keep_of(padded, lengths).long()
            return to_lengths(model(padded, attention_mask=mask).last_hidden_state, lengths)

        return floats("transformers", kind, passed, build, rows)

    bert = BERT | {"feature_projection_input_dim": 8, "conv_depthwise_kernel_size": 3}
    yield features("wav2vec2-bert", bert)


# --- x-transformers ---


def x_transformers() -> Iterator[Setup]:
    from x_transformers import ContinuousTransformerWrapper, Decoder, Encoder, TransformerWrapper

    size = {"dim": D, "depth": 2, "heads": 2, "attn_dim_head": 8}

    def ids(
        label: str, layers: type, told: bool = True, wrap: dict | None = None, **how: Any
    ) -> Setup:
        def build(dropout: bool) -> nn.Module:
            rate = 0.1 * dropout
            inner = layers(**size, attn_dropout=rate, ff_dropout=rate, **how)
            return TransformerWrapper(
                num_tokens=VOCABULARY, max_seq_len=64, attn_layers=inner, **(wrap or {})
            )

        def rows(model: Any, batch: dict) -> list[Tensor]:
            mask = batch["attention_mask"].bool()
            return cut(model(batch["input_ids"], mask=mask if told else None), mask)

        widen = partial(widen_tokens, left=False)
        noted = layers is Encoder and "shift_tokens" in how
        return Setup(
            "x-transformers",
            label,
            "ids, mask" if told else "ids",
            build,
            token_samples,
            token_batch,
            rows,
            lambda testing: {"run": rows, "more_padding": widen},
            note="the last token is given the padding behind it" if noted else "",
        )

    encoders = {
        "": {},
        ", rotary": {"rotary_pos_emb": True},
        ", RMSNorm": {"use_rmsnorm": True},
        ", ALiBi": {"alibi_pos_bias": True},
        ", dynamic bias": {"dynamic_pos_bias": True},
        ", query and key norm": {"attn_qk_norm": True},
        ", flash": {"attn_flash": True},
        ", top-k attention": {"attn_sparse_topk": 2},
        ", shift_tokens=1": {"shift_tokens": 1},
    }
    for label, how in encoders.items():
        yield ids(f"Encoder{label}", Encoder, **how)
    yield ids("Encoder", Encoder, told=False)
    memory = {"num_memory_tokens": 2}
    yield ids("Encoder, memory tokens", Encoder, wrap=memory)
    yield ids("Decoder", Decoder)
    yield ids("Decoder, rotary", Decoder, rotary_pos_emb=True)
    yield ids("Decoder, shift_tokens=1", Decoder, shift_tokens=1)

    def build(dropout: bool) -> nn.Module:
        inner = Encoder(**size, attn_dropout=0.1 * dropout)
        return ContinuousTransformerWrapper(dim_in=8, dim_out=4, max_seq_len=64, attn_layers=inner)

    def rows(model: Any, batch: tuple) -> list[Tensor]:
        return to_lengths(model(batch[0], mask=keep_of(*batch)), batch[1])

    yield floats("x-transformers", "ContinuousTransformerWrapper", "padded, mask", build, rows)


# --- sentence-transformers ---


def sentence_transformers() -> Iterator[Setup]:
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")

    def pooled(
        label: str,
        make: Callable[[], nn.Module],
        normalize: bool = False,
        between: Callable[[], nn.Module] | None = None,
        note: str = "",
    ) -> Setup:
        def build(dropout: bool) -> nn.Module:
            parts = {"bert": tokens("bert", BERT).build(dropout), "last": make()}
            if between is not None:
                parts["between"] = between()
            return Holder(**parts)

        def rows(model: Any, batch: dict) -> list[Tensor]:
            hidden = model.bert(**batch).last_hidden_state
            mask = batch["attention_mask"]
            features = {"token_embeddings": hidden, "attention_mask": mask}
            features["sentence_lengths"] = mask.sum(1)
            if between is not None:
                features = model.between(features)
            answer = model.last(features)["sentence_embedding"]
            return list(F.normalize(answer, dim=-1) if normalize else answer)

        widen = partial(widen_tokens, left=False)
        return Setup(
            "sentence-transformers",
            label + (", F.normalize" if normalize else ""),
            "ids, mask",
            build,
            token_samples,
            token_batch,
            rows,
            lambda testing: {"run": rows, "more_padding": widen},
            note=note,
        )

    names = ("mean", "max", "cls", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")
    for name in names:
        yield pooled(f"BERT, {name}", partial(modules.Pooling, D, name))
    for name in ("mean", "weightedmean"):
        yield pooled(f"BERT, {name}", partial(modules.Pooling, D, name), normalize=True)
    cnn = partial(modules.CNN, D, 4, [1, 3])
    for name in ("mean", "max"):
        last = partial(modules.Pooling, 8, name)
        beyond = "the convolution takes no mask, and reads the padding behind the last token"
        yield pooled(f"BERT, CNN, {name}", last, between=cnn, note=beyond)
    lstm = partial(modules.LSTM, D, 6)
    last = partial(modules.Pooling, 12, "mean")
    wide = "padded beyond the longest text, the mask no longer fits, and pooling drops it silently"
    yield pooled("BERT, LSTM, mean", last, between=lstm, note=wide)
    yield pooled("BERT, LSTM, mean", last, between=lstm, normalize=True)


# --- speechbrain: lengths are shares of the padded steps ---


def speechbrain() -> Iterator[Setup]:
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
    from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
    from speechbrain.lobes.models.transformer.Transformer import TransformerEncoder
    from speechbrain.nnet.attention import RelPosEncXL
    from speechbrain.nnet.pooling import AttentionPooling, StatisticsPooling
    from speechbrain.nnet.RNN import GRU, LSTM

    add = partial(floats, "speechbrain")

    def shares(padded: Tensor, lengths: Tensor) -> Tensor:
        return lengths.to(padded.dtype) / padded.shape[1]

    def relative(samples: list[Tensor]) -> tuple[Tensor, Tensor]:
        padded, lengths = float_batch(samples)
        return padded, shares(padded, lengths)

    def in_float32(padded: Tensor, lengths: Tensor) -> Tensor:
        return lengths.float() / padded.shape[1]  # as speechbrain's own batches have them

    lost = "shares of T in float32 are rounded down to steps: 13 of 22 loses a step"

    def recurrent(kind: type, lengths: Callable | None, passed: str, **how: Any) -> Setup:
        def build(dropout: bool) -> nn.Module:
            return kind(input_size=8, hidden_size=8, **how)

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            given = None if lengths is None else lengths(*batch)
            output = model(batch[0], lengths=given)[0]
            short = int(batch[1].max()) - output.shape[1]
            return to_lengths(F.pad(output, (0, 0, 0, max(short, 0))), batch[1])

        # 13 of 22 steps are a share that float32 rounds down, so that a step is lost.
        long = partial(float_samples, sizes=(17, 5, 13, 22, 9))
        label = kind.__name__ + (", bidirectional" if how.get("bidirectional") else "")
        return add(label, passed, build, rows, samples=long, note=lost * (lengths is not None))

    for kind in (LSTM, GRU):
        yield recurrent(kind, in_float32, "relative lengths", bidirectional=True)
    yield recurrent(LSTM, in_float32, "relative lengths")
    yield recurrent(LSTM, None, "padded alone")
    yield recurrent(LSTM, None, "padded alone", bidirectional=True)

    def pooling(label: str, make: Callable, told: bool, passed: str, note: str = "") -> Setup:
        def rows(model: Any, batch: tuple) -> list[Tensor]:
            hidden = model.first(batch[0])
            return list(model.pool(hidden, shares(*batch)) if told else model.pool(hidden))

        def build(dropout: bool) -> nn.Module:
            return Holder(first=nn.Linear(8, 8), pool=make())

        return add(label, passed, build, rows, note=note)

    quiet = partial(StatisticsPooling, return_std=False)
    noise = "noise is added to the mean, in evaluation too: two runs differ"
    yield pooling("StatisticsPooling, mean", quiet, True, "relative lengths", noise)
    yield pooling("StatisticsPooling, mean", quiet, False, "padded alone")
    yield pooling("AttentionPooling", partial(AttentionPooling, 8), False, "padded alone")

    def told_of(passed: str) -> bool:
        return passed == "relative lengths"

    def speaker(label: str, build: Callable, passed: str = "relative lengths") -> Setup:
        def rows(model: Any, batch: tuple) -> list[Tensor]:
            given = [shares(*batch)] if told_of(passed) else []
            return list(model(batch[0], *given))

        def ask(testing: Any) -> dict:
            adapter = testing.padded_batch(relative=True)
            return {"collate": relative, "adapter": adapter}

        note = "convolutions read, and BatchNorm counts, the padding behind the last step"
        how = {"note": note, "ask": ask} if told_of(passed) else {}
        return add(label, passed, build, rows, **how)

    channels = {"channels": [8, 8, 16], "kernel_sizes": [5, 3, 1], "dilations": [1, 2, 1]}
    ecapa = dict(channels, groups=[1, 1, 1], attention_channels=4, res2net_scale=2, se_channels=4)
    yield speaker("ECAPA_TDNN", lambda dropout: ECAPA_TDNN(8, lin_neurons=6, **ecapa))
    yield speaker(
        "ECAPA_TDNN", lambda dropout: ECAPA_TDNN(8, lin_neurons=6, **ecapa), "padded alone"
    )

    beyond = "a convolution reads the padding behind the last step: the mask stops attention alone"

    def encoder(
        label: str, build: Callable, relative: bool, told: bool = True, note: str = ""
    ) -> Setup:
        def rows(model: Any, batch: tuple) -> list[Tensor]:
            hidden = model.first(batch[0])
            more = {"pos_embs": model.positions(hidden)} if relative else {}
            mask = ~keep_of(*batch) if told else None
            output = model.encoder(hidden, src_key_padding_mask=mask, **more)[0]
            return to_lengths(output, batch[1])

        def make(dropout: bool) -> nn.Module:
            positions = RelPosEncXL(D) if relative else nn.Identity()
            rate = 0.1 * dropout
            return Holder(first=nn.Linear(8, D), positions=positions, encoder=build(rate))

        passed = "padded, src_key_padding_mask" if told else "padded alone"
        return add(label, passed, make, rows, note=note)

    size = {"num_layers": 2, "d_model": D, "nhead": 2}

    def conformer(rate: float, **how: Any) -> nn.Module:
        return ConformerEncoder(d_ffn=2 * D, kernel_size=5, dropout=rate, **size, **how)

    yield encoder("ConformerEncoder", conformer, True, note=beyond)
    yield encoder("ConformerEncoder", conformer, True, told=False)
    regular = partial(conformer, attention_type="regularMHA")
    yield encoder("ConformerEncoder, regularMHA", regular, False, note=beyond)

    def branchformer(rate: float) -> nn.Module:
        return BranchformerEncoder(kernel_size=5, csgu_linear_units=2 * D, dropout=rate, **size)

    yield encoder("BranchformerEncoder", branchformer, True, note=beyond)

    def plain(rate: float) -> nn.Module:
        return TransformerEncoder(d_ffn=2 * D, dropout=rate, **size)

    yield encoder("TransformerEncoder", plain, False)


# --- Smaller libraries ---


def convolutions() -> Iterator[Setup]:
    from pytorch_tcn import TCN

    def tcn(**how: Any) -> Setup:
        def build(dropout: bool) -> nn.Module:
            size = {"num_inputs": 8, "num_channels": [8, 8], "kernel_size": 3}
            return TCN(**size, dropout=0.1 * dropout, input_shape="NLC", **how)

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            return to_lengths(model(batch[0]), batch[1])

        label = "TCN, causal" if how["causal"] else "TCN, not causal"
        label += f", {how['use_norm']}" if "use_norm" in how else ""
        label += ", skip connections" if "use_skip_connections" in how else ""

        def first(samples: list[Tensor]) -> tuple[Tensor, Tensor]:
            padded, lengths = float_batch(samples)
            return padded.transpose(1, 2), lengths

        def ask(testing: Any) -> dict:
            def run(model: Any, batch: tuple) -> Tensor:
                return model(batch[0].transpose(1, 2)).transpose(1, 2)

            adapter = testing.padded_batch(time=2, per_step=True, run=run)
            return {"collate": first, "adapter": adapter}

        note = "" if how["causal"] else "it takes no lengths, and its second layer reads padding"
        note = "BatchNorm counts the padding" if "batch" in label else note
        return floats("pytorch-tcn", label, "padded alone", build, rows, ask=ask, note=note)

    yield tcn(causal=True)
    yield tcn(causal=False)
    yield tcn(causal=True, use_norm="layer_norm")
    yield tcn(causal=True, use_norm="batch_norm")
    yield tcn(causal=True, use_skip_connections=True)


def conformers() -> Iterator[Setup]:
    from conformer import ConformerBlock

    def block(told: bool, **how: Any) -> Setup:
        def build(dropout: bool) -> nn.Module:
            size = {"dim": 8, "dim_head": 4, "heads": 2, "conv_kernel_size": 3}
            rate = 0.1 * dropout
            return ConformerBlock(**size, attn_dropout=rate, ff_dropout=rate, **how)

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            mask = keep_of(*batch) if told else None
            return to_lengths(model(batch[0], mask=mask), batch[1])

        label = "ConformerBlock" + (", causal" if how else "")
        note = "a convolution reads the padding behind the last step, and BatchNorm counts it"
        note = note if told and not how else ""
        passed = "padded, mask" if told else "padded alone"
        return floats("conformer", label, passed, build, rows, note=note)

    yield block(True)
    yield block(False)
    yield block(True, conv_causal=True)


def attentions() -> Iterator[Setup]:
    from nystrom_attention import Nystromformer

    def nystrom(told: bool) -> Setup:
        def build(dropout: bool) -> nn.Module:
            size = {"dim": 8, "depth": 1, "dim_head": 4, "heads": 2, "num_landmarks": 4}
            return Nystromformer(**size, attn_values_residual_conv_kernel=3)

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            mask = keep_of(*batch) if told else None
            return to_lengths(model(batch[0], mask=mask), batch[1])

        passed = "padded, mask" if told else "padded alone"
        note = "steps are padded and grouped into landmarks by the number of columns" * told
        return floats("nystrom-attention", "Nystromformer", passed, build, rows, note=note)

    yield nystrom(True)
    yield nystrom(False)


def local_attention() -> Iterator[Setup]:
    from local_attention import LocalTransformer

    def local(told: bool, **how: Any) -> Setup:
        def build(dropout: bool) -> nn.Module:
            size = {"num_tokens": VOCABULARY, "max_seq_len": 64, "dim": D, "depth": 2}
            window = {"local_attn_window_size": 4, "dim_head": 8, "heads": 2}
            return LocalTransformer(**size, **window, **how)

        def rows(model: Any, batch: dict) -> list[Tensor]:
            mask = batch["attention_mask"].bool()
            return cut(model(batch["input_ids"], mask=mask if told else None), mask)

        widen = partial(widen_tokens, left=False)
        label = "LocalTransformer" + (", causal" if how["causal"] else ", not causal")
        return Setup(
            "local-attention",
            label,
            "ids, mask" if told else "ids",
            build,
            token_samples,
            token_batch,
            rows,
            lambda testing: {"run": rows, "more_padding": widen},
        )

    yield local(True, causal=True)
    yield local(True, causal=False)
    yield local(False, causal=False)


def state_spaces() -> Iterator[Setup]:
    from mambapy.mamba import Mamba, MambaConfig

    def mamba(pscan: bool) -> Setup:
        def build(dropout: bool) -> nn.Module:
            return Mamba(MambaConfig(d_model=8, n_layers=2, d_state=4, pscan=pscan))

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            return to_lengths(model(batch[0]), batch[1])

        label = "Mamba, parallel scan" if pscan else "Mamba, sequential"
        return floats("mambapy", label, "padded alone", build, rows)

    yield mamba(True)
    yield mamba(False)


def minimal_rnns() -> Iterator[Setup]:
    from minGRU_pytorch.minGRU import minGRU
    from minGRU_pytorch.minLSTM import minLSTM

    for kind in (minGRU, minLSTM):

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            return to_lengths(model(batch[0]), batch[1])

        def build(dropout: bool, kind: type = kind) -> nn.Module:
            return kind(8)

        yield floats("minGRU-pytorch", kind.__name__, "padded alone", build, rows)


def crf() -> Iterator[Setup]:
    from torchcrf import CRF

    def tagger(told: bool) -> Setup:
        def build(dropout: bool) -> nn.Module:
            return Holder(first=nn.Linear(8, 4), crf=CRF(4, batch_first=True))

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            scores = model.first(batch[0])
            tags = torch.arange(scores.shape[1]).expand(len(scores), -1) % 4
            mask = keep_of(*batch) if told else None
            return list(model.crf(scores, tags, mask=mask, reduction="none"))

        passed = "padded, mask" if told else "padded alone"
        return floats("pytorch-crf", "CRF, likelihood", passed, build, rows)

    yield tagger(True)
    yield tagger(False)


def forecasting() -> Iterator[Setup]:
    from pytorch_forecasting import DeepAR, TemporalFusionTransformer
    from pytorch_forecasting.metrics import NormalDistributionLoss, QuantileLoss

    names = [f"x{index}" for index in range(8)]

    def deep_ar(dropout: bool) -> nn.Module:
        return DeepAR(
            cell_type="LSTM",
            hidden_size=8,
            rnn_layers=2,
            dropout=0.1 * dropout,
            time_varying_reals_encoder=names,
            time_varying_reals_decoder=names[1:],
            x_reals=names,
            target="x0",
            loss=NormalDistributionLoss(),
        )

    def state(model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        empty = torch.zeros(*padded.shape[:2], 0, dtype=torch.int64)
        given = {"encoder_cont": padded, "encoder_cat": empty, "encoder_lengths": lengths}
        hidden, cell = model.encode(given)
        return list(torch.cat([hidden, cell]).transpose(0, 1))

    yield floats("pytorch-forecasting", "DeepAR, encoder", "encoder_lengths", deep_ar, state)

    def fusion(dropout: bool) -> nn.Module:
        return TemporalFusionTransformer(
            hidden_size=8,
            hidden_continuous_size=4,
            attention_head_size=2,
            dropout=0.1 * dropout,
            output_size=3,
            time_varying_reals_encoder=names,
            time_varying_reals_decoder=names[1:],
            x_reals=names,
            loss=QuantileLoss([0.1, 0.5, 0.9]),
            output_transformer=lambda given: given["prediction"],
        )

    def forecast(model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        padded = padded[:, : int(lengths.max())]  # it refuses more columns than the longest has
        future = padded[:, :2] * 0 + torch.linspace(-1, 1, 8, dtype=padded.dtype)
        given = {"encoder_cont": padded, "decoder_cont": future, "encoder_lengths": lengths}
        for side, one in (("encoder", padded), ("decoder", future)):
            given[f"{side}_cat"] = torch.zeros(*one.shape[:2], 0, dtype=torch.int64)
        given["decoder_lengths"] = torch.full_like(lengths, 2)
        given["target_scale"] = torch.ones(len(padded), 2, dtype=padded.dtype)
        return list(model(given)["prediction"])

    yield floats(
        "pytorch-forecasting", "TemporalFusionTransformer", "encoder_lengths", fusion, forecast
    )


def audio_library() -> Iterator[Setup]:
    from torchaudio.models import Conformer, DeepSpeech, Emformer, wav2vec2_model

    add = partial(floats, "torchaudio")

    def conformer(dropout: bool, **how: Any) -> nn.Module:
        return Conformer(8, 2, 16, 2, 3, dropout=0.1 * dropout, **how)

    def first(model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        return to_lengths(model(padded[:, : int(lengths.max())], lengths)[0], lengths)

    beyond = "a convolution reads the padding behind the last step, and the norm counts it"
    yield add("Conformer", "padded, lengths", conformer, first, note=beyond)
    grouped = partial(conformer, use_group_norm=True)
    yield add("Conformer, group norm", "padded, lengths", grouped, first, note=beyond)
    layers = [(8, 6, 3), (8, 3, 2)]

    def waves(mode: str, told: bool = True) -> Setup:
        def build(dropout: bool) -> nn.Module:
            rate = 0.1 * dropout
            return wav2vec2_model(
                mode, layers, True, D, rate, 6, 2, 2, 2, rate, 32, rate, rate, False, 0.0, None
            )

        def rows(model: Any, batch: tuple) -> list[Tensor]:
            padded, lengths = batch
            output, given = model(padded, lengths if told else None)
            sizes = given
            if not told:
                sizes = lengths
                for _, kernel, stride in layers:
                    sizes = torch.div(sizes - kernel, stride, rounding_mode="floor") + 1
            return to_lengths(output, sizes)

        passed = "audio, lengths" if told else "audio"
        note = "GroupNorm over all steps, padding included, before any mask"
        note = note if mode == "group_norm" else ""
        return add(f"wav2vec2, {mode}", passed, build, rows, samples=audio_samples, note=note)

    yield waves("group_norm")
    yield waves("layer_norm")
    yield waves("layer_norm", told=False)

    def emformer(dropout: bool) -> nn.Module:
        return Emformer(8, 2, 16, 2, 2, dropout=0.1 * dropout, left_context_length=4)

    yield add("Emformer", "padded, lengths", emformer, first)

    def deep_speech(dropout: bool) -> nn.Module:
        return DeepSpeech(8, n_hidden=8, n_class=5, dropout=0.0)

    def spoken(model: Any, batch: tuple) -> list[Tensor]:
        return to_lengths(model(batch[0][:, None]), batch[1])

    backward = "it takes no lengths, and its backward RNN begins in the padding"
    yield add("DeepSpeech", "padded alone", deep_speech, spoken, note=backward)


# --- torch's own layers ---


def torch_layers() -> Iterator[Setup]:
    add = partial(floats, "torch")

    def encoder(dropout: bool, norm_first: bool = False, nested: bool = True) -> nn.Module:
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, 0.1 * dropout, batch_first=True, norm_first=norm_first
        )
        nested = nested and not norm_first
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def encode(kind: str, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        keep = keep_of(padded, lengths)
        masks = {"mask": ~keep, "no mask": None, "inverted": keep}
        future = nn.Transformer.generate_square_subsequent_mask(padded.shape[1], dtype=bool)
        if kind == "causal":
            output = model(padded, mask=future, is_causal=True)
        elif kind == "causal and mask":
            output = model(padded, mask=future, is_causal=True, src_key_padding_mask=~keep)
        else:
            output = model(padded, src_key_padding_mask=masks[kind])
        if output.shape[1] < int(lengths.max()):
            output = F.pad(output, (0, 0, 0, int(lengths.max()) - output.shape[1]))
        return to_lengths(output, lengths)

    words = {
        "mask": "src_key_padding_mask",
        "no mask": "padded alone",
        "inverted": "src_key_padding_mask, inverted",
        "causal": "padded, causal mask",
        "causal and mask": "src_key_padding_mask, causal mask",
    }
    for kind, passed in words.items():
        yield add("TransformerEncoder", passed, encoder, partial(encode, kind))
    before = partial(encoder, norm_first=True)
    yield add("TransformerEncoder, norm first", words["mask"], before, partial(encode, "mask"))
    slow = partial(encoder, nested=False)
    yield add("TransformerEncoder, not nested", words["mask"], slow, partial(encode, "mask"))

    def encode_left(model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        ignore = ~keep_of(padded, lengths).flip(1)
        future = nn.Transformer.generate_square_subsequent_mask(padded.shape[1], dtype=bool)
        output = model(padded, mask=future, is_causal=True, src_key_padding_mask=ignore)
        return [row[len(row) - int(size) :] for row, size in zip(output, lengths, strict=True)]

    passed = "src_key_padding_mask, causal mask; left"
    yield add("TransformerEncoder", passed, encoder, encode_left, left=True)
    yield add("TransformerEncoder, not nested", passed, slow, encode_left, left=True)

    def attention(told: bool, model: Any, batch: tuple) -> list[Tensor]:
        mask = ~keep_of(*batch) if told else None
        output = model(batch[0], batch[0], batch[0], key_padding_mask=mask, need_weights=False)[0]
        return to_lengths(output, batch[1])

    def heads(dropout: bool) -> nn.Module:
        return nn.MultiheadAttention(8, 2, 0.1 * dropout, batch_first=True)

    for told, passed in ((True, "key_padding_mask"), (False, "padded alone")):
        yield add("MultiheadAttention", passed, heads, partial(attention, told))

    def translator(dropout: bool) -> nn.Module:
        return nn.Transformer(8, 2, 1, 1, 16, 0.1 * dropout, batch_first=True)

    def translate(memory: bool, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        ignore = ~keep_of(padded, lengths)
        target = padded.flip(2)
        future = nn.Transformer.generate_square_subsequent_mask(padded.shape[1], dtype=bool)
        told = {"memory_key_padding_mask": ignore} if memory else {}
        told |= {"src_key_padding_mask": ignore, "tgt_key_padding_mask": ignore}
        output = model(padded, target, tgt_mask=future, tgt_is_causal=True, **told)
        return to_lengths(output, lengths)

    three = "masks of source, target and memory"
    yield add("Transformer", three, translator, partial(translate, True))
    two = "masks of source and target, not of memory"
    yield add("Transformer", two, translator, partial(translate, False))

    def recurrent(kind: type, dropout: bool, **how: Any) -> nn.Module:
        return kind(8, 8, 2, batch_first=True, dropout=0.1 * dropout, **how)

    def packed(read: str, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        given = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        output, state = model(given)
        if read == "state":
            state = state[0] if isinstance(state, tuple) else state
            return list(state.transpose(0, 1))
        output, _ = pad_packed_sequence(output, batch_first=True)
        return to_lengths(output, lengths)

    def unpacked(read: str, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        output, state = model(padded)
        if read == "state":
            state = state[0] if isinstance(state, tuple) else state
            return list(state.transpose(0, 1))
        if read == "last":
            return list(output[:, -1])
        if read == "last real":
            return list(output[torch.arange(len(output)), lengths - 1])
        return to_lengths(output, lengths)

    lstm, gru = partial(recurrent, nn.LSTM), partial(recurrent, nn.GRU)
    both = partial(recurrent, nn.LSTM, bidirectional=True)
    yield add("LSTM, outputs", "packed", lstm, partial(packed, "outputs"))
    yield add("LSTM, last state", "packed", lstm, partial(packed, "state"))
    yield add("LSTM both ways, outputs", "packed", both, partial(packed, "outputs"))
    yield add("LSTM both ways, last state", "packed", both, partial(packed, "state"))

    def packs(testing: Any) -> dict:
        def run(model: Any, batch: Any) -> list[Tensor]:
            return list(model(batch)[1].transpose(0, 1))

        def collate(samples: list[Tensor]) -> Any:
            return pack_sequence(samples, enforce_sorted=False)

        return {"collate": collate, "run": run}

    yield add("GRU, last state", "packed", gru, partial(packed, "state"))
    yield add("GRU, last state", "PackedSequence", gru, partial(packed, "state"), ask=packs)
    yield add("LSTM, outputs", "padded alone", lstm, partial(unpacked, "outputs"))
    yield add("LSTM, last state", "padded alone", lstm, partial(unpacked, "state"))
    yield add("LSTM, output[:, -1]", "padded alone", lstm, partial(unpacked, "last"))
    yield add("LSTM, last real output", "padded, lengths", lstm, partial(unpacked, "last real"))
    yield add("LSTM both ways, outputs", "padded alone", both, partial(unpacked, "outputs"))
    yield add("GRU, last state", "padded alone", gru, partial(unpacked, "state"))

    def convolutions(dropout: bool, norm: Callable | None = None, depth: int = 2) -> nn.Module:
        parts = []
        for _ in range(depth):
            parts += [nn.Conv1d(8, 8, 3, padding=1), nn.GELU()] + ([norm()] if norm else [])
        return nn.Sequential(*parts)

    def convolved(fill: bool, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        keep = keep_of(padded, lengths)[:, None]
        hidden = padded.transpose(1, 2)
        for layer in model:
            hidden = layer(hidden * keep if fill else hidden)
        return to_lengths(hidden.transpose(1, 2), lengths)

    batch_norm = partial(convolutions, norm=partial(nn.BatchNorm1d, 8))
    group_norm = partial(convolutions, norm=partial(nn.GroupNorm, 2, 8))
    instance_norm = partial(convolutions, norm=partial(nn.InstanceNorm1d, 8, affine=True))
    single = partial(convolutions, depth=1)
    filled, plain = partial(convolved, True), partial(convolved, False)
    before = "padding set to 0 before each layer"
    yield add("Conv1d stack", "padded alone", convolutions, plain)
    yield add("Conv1d stack", before, convolutions, filled)
    yield add("Conv1d, one layer", before, single, filled)
    yield add("Conv1d, BatchNorm1d", before, batch_norm, filled)
    yield add("Conv1d, GroupNorm", before, group_norm, filled)
    yield add("Conv1d, InstanceNorm1d", before, instance_norm, filled)

    def pooled(how: str, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        keep = keep_of(padded, lengths)[..., None]
        hidden = model.first(padded)
        if how == "mean":
            answer = hidden.mean(1)
        elif how == "real mean":
            answer = (hidden * keep).sum(1) / lengths[:, None]
        elif how == "max":
            answer = hidden.amax(1)
        elif how == "real max":
            answer = hidden.masked_fill(~keep, -torch.inf).amax(1)
        elif how == "adaptive":
            answer = F.adaptive_avg_pool1d(hidden.transpose(1, 2), 2).flatten(1)
        else:
            score = model.score(hidden)
            score = score.masked_fill(~keep, -torch.inf) if how == "real attention" else score
            answer = (score.softmax(1) * hidden).sum(1)
        return list(model.last(answer))

    def pooler(dropout: bool, width: int = 8) -> nn.Module:
        parts = {"first": nn.Linear(8, 8), "score": nn.Linear(8, 1), "last": nn.Linear(width, 3)}
        return Holder(**parts)

    def normed(dropout: bool) -> nn.Module:
        parts = {"first": nn.Linear(8, 8), "score": nn.Linear(8, 1), "last": nn.LayerNorm(8)}
        return Holder(**parts)

    words = {
        "mean": "padded alone",
        "real mean": "padded, lengths",
        "max": "padded alone",
        "real max": "padded, mask",
        "attention": "padded alone",
        "real attention": "padded, mask",
    }
    for how, passed in words.items():
        yield add(f"Linear, {how.removeprefix('real ')}", passed, pooler, partial(pooled, how))
    yield add(
        "Linear, real mean, LayerNorm", "padded, lengths", normed, partial(pooled, "real mean")
    )
    yield add("Linear, mean, LayerNorm", "padded alone", normed, partial(pooled, "mean"))
    twice = partial(pooler, width=16)
    yield add("AdaptiveAvgPool1d", "padded alone", twice, partial(pooled, "adaptive"))

    def over_rows(dropout: bool) -> nn.Module:
        return Holder(first=nn.Linear(8, 8), norm=nn.BatchNorm1d(8), last=nn.Linear(8, 3))

    def normalised(real: bool, model: Any, batch: tuple) -> list[Tensor]:
        padded, lengths = batch
        hidden = model.first(padded)
        if real:
            keep = keep_of(padded, lengths)
            hidden = hidden.masked_scatter(keep[..., None], model.norm(hidden[keep]))
        else:
            hidden = model.norm(hidden.flatten(0, 1)).view_as(hidden)
        return to_lengths(model.last(hidden), lengths)

    yield add("BatchNorm1d over all steps", "padded alone", over_rows, partial(normalised, False))
    yield add("BatchNorm1d over real steps", "padded, mask", over_rows, partial(normalised, True))


FAMILIES: dict[str, Callable[[], Iterator[Setup]]] = {
    "torch": torch_layers,
    "transformers: encoders": text_encoders,
    "transformers: decoders": decoders,
    "transformers: encoders and decoders": encoder_decoders,
    "transformers: speech": speech_models,
    "sentence-transformers": sentence_transformers,
    "x-transformers": x_transformers,
    "speechbrain": speechbrain,
    "torchaudio": audio_library,
    "pytorch-tcn": convolutions,
    "conformer": conformers,
    "nystrom-attention": attentions,
    "local-attention": local_attention,
    "mambapy": state_spaces,
    "minGRU-pytorch": minimal_rnns,
    "pytorch-crf": crf,
    "pytorch-forecasting": forecasting,
}
