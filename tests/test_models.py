"""The models give what a loop over the sequences gives."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from course_utils.batches.layers import AttentionPool, sinusoids
from course_utils.batches.masks import last_real_step
from course_utils.batches.padding import pad
from course_utils.batches.rows import (
    best_fit_decreasing,
    document_mask,
    fill_rows,
    next_step_targets,
)
from course_utils.models import CausalLM, Hybrid, MaskedTransformer, PackedLSTM, PaddedLSTM
from course_utils.testing import leak_map, together_equals_alone
from tests.ragged import (
    JUNK,
    bad_lengths,
    calm,  # noqa: F401
    close,
    few,
    lengths_lists,
    padded_lists,
    ragged,
    randn,
    refuses,
)


def alone(model, sequence):
    """What a bidirectional or forward LSTM says of one sequence, without batch or packing."""
    _, (h_n, _) = model.lstm(sequence)
    return model.head(h_n.flatten())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PackedLSTM(4, 8, 3),
        lambda: PackedLSTM(4, 8, 3, bidirectional=False),
        lambda: PaddedLSTM(4, 8, 3, last_real_step),
    ],
    ids=["PackedLSTM", "forward PackedLSTM", "PaddedLSTM"],
)
@few
@given(lengths_lists(), st.sampled_from(JUNK), st.integers(0, 4), st.integers(0, 1000))
def test_each_row_is_the_sequence_alone(make, lengths, junk, added, seed):
    torch.manual_seed(seed)
    model, sequences = make(), ragged(*lengths, seed=seed)
    if isinstance(model, PaddedLSTM):
        junk = 0.0 if junk != junk or abs(junk) > 1e9 else junk  # its steps do run on the padding
    batch = pad(sequences, padding_value=junk, total_length=max(lengths) + added)
    logits = model(*batch)
    assert logits.shape == (len(lengths), 3)
    close(logits, torch.stack([alone(model, one) for one in sequences]))
    logits.square().sum().backward()
    together = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    sum(alone(model, one).square().sum() for one in sequences).backward()
    for one, parameter in zip(together, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-4)


def test_padded_lstm_hands_output_and_lengths_to_its_read_out():
    seen = []

    def read_out(output, lengths):
        seen.append((tuple(output.shape), lengths))
        return output[:, 0]

    model, (padded, lengths) = PaddedLSTM(4, 8, 3, read_out), pad(ragged(5, 3))
    logits = model(padded, lengths)
    assert seen == [((2, 5, 8), lengths)] and seen[0][1] is lengths
    close(logits, model.head(model.lstm(padded)[0][:, 0]))


def test_shapes_of_the_parameters():
    padded, packed = PaddedLSTM(4, 8, 3, last_real_step), PackedLSTM(4, 8, 3)
    assert padded.head.weight.shape == (3, 8) and packed.head.weight.shape == (3, 16)
    assert not padded.lstm.bidirectional and packed.lstm.bidirectional
    one_way = PackedLSTM(4, 8, 3, bidirectional=False)
    assert one_way.head.weight.shape == (3, 8) and not one_way.lstm.bidirectional
    assert padded.lstm.batch_first and packed.lstm.batch_first


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_lengths_may_be_of_any_integer_dtype(dtype):
    padded, lengths = pad(ragged(5, 3, 1))
    lstms = PackedLSTM(4, 8, 3), PaddedLSTM(4, 8, 3, last_real_step)
    for model in (*lstms, AttentionPool(4), MaskedTransformer(4, 8, 3), Hybrid(4, 4, 3)):
        close(model(padded, lengths.to(dtype)), model(padded, lengths))


@pytest.mark.parametrize("lengths, error, words", bad_lengths())
@pytest.mark.parametrize(
    "model",
    [
        PackedLSTM(2, 8, 3),
        PaddedLSTM(2, 8, 3, last_real_step),
        AttentionPool(2),
        MaskedTransformer(2, 8, 3),
        Hybrid(2, 4, 3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_bad_lengths_are_refused(model, lengths, error, words):
    refuses(error, words, nn.Module.__call__, model, randn(3, 5, 2), lengths)


def pool_alone(model, sequence):
    """The weighted mean of one sequence, without mask or batch."""
    return model.score(sequence).softmax(0).flatten() @ sequence


def transformer_alone(model, sequence):
    """Project, add positions, encode, average: one sequence, without mask or padding."""
    steps = model.project(sequence) + sinusoids(len(sequence), 8)
    return model.head(model.encoder(steps[None])[0].mean(0))


def hybrid_alone(model, sequence):
    """Read, look back, average: one sequence, without packing, mask or padding."""
    return model.head(model.layer(model.lstm(sequence)[0][None])[0].mean(0))


# Each masked model in double precision, and what it is for one sequence.
MASKED = {
    "AttentionPool": (lambda: AttentionPool(4).double(), pool_alone),
    "MaskedTransformer": (lambda: MaskedTransformer(4, 8, 3).double(), transformer_alone),
    "one head, one layer": (
        lambda: MaskedTransformer(4, 8, 3, nhead=1, num_layers=1).double(),
        transformer_alone,
    ),
    "Hybrid": (lambda: Hybrid(4, 4, 3, nhead=2).double(), hybrid_alone),
}


def masked_case(name, lengths, seed, training=True):
    torch.manual_seed(seed)
    make, plain = MASKED[name]
    return make().train(training), plain, [one.double() for one in ragged(*lengths, seed=seed)]


@pytest.mark.parametrize("name", MASKED)
@few
@given(lengths_lists(), st.sampled_from(JUNK), st.integers(0, 4), st.booleans(), st.booleans())
def test_masked_models_are_the_plain_ones_of_each_sequence(
    name, lengths, junk, added, training, gradients
):
    model, plain, sequences = masked_case(name, lengths, sum(lengths), training)
    batch = pad(sequences, padding_value=junk, total_length=max(lengths) + added)
    with torch.set_grad_enabled(gradients):  # in eval without them, torch has a fast path
        together = model(*batch)
    expected = torch.stack([plain(model, one) for one in sequences])
    assert together.requires_grad == gradients
    torch.testing.assert_close(together, expected, rtol=1e-6, atol=1e-6)  # positions are float32


@pytest.mark.parametrize("name", MASKED)
@few
@given(lengths_lists(), st.integers(0, 4), st.booleans())
def test_together_equals_alone_for_the_masked_models(name, lengths, added, training):
    model, _, sequences = masked_case(name, lengths, sum(lengths), training)
    report = together_equals_alone(model, sequences, extra_padding=added, tolerance=1e-9)
    assert report, report
    assert report.gradients


@pytest.mark.parametrize("name", MASKED)
@few
@given(padded_lists(), st.sampled_from([torch.nan, torch.inf, 1e30]), st.booleans())
def test_nothing_leaks_into_the_masked_models(name, lengths, value, training):
    model, _, sequences = masked_case(name, lengths, 0, training)
    assert not leak_map(model, sequences, value=value, tolerance=1e-9).any()


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 1e30])
def test_no_gradient_of_the_masked_models_hears_of_the_padding(name, junk):
    model, plain, sequences = masked_case(name, [5, 1, 3], 0)
    padded, lengths = pad(sequences, padding_value=junk, total_length=7)
    padded.requires_grad_()
    model(padded, lengths).square().sum().backward()
    for row, one in zip(padded.grad, sequences, strict=True):
        one.requires_grad_()
        torch.testing.assert_close(
            row[: len(one)],
            torch.autograd.grad(plain(model, one).square().sum(), one)[0],
            rtol=1e-6,
            atol=1e-6,
        )
        assert (row[len(one) :] == 0).all()
    assert all(one.grad.isfinite().all() for one in model.parameters())


def test_hybrid_is_bidirectional_and_hands_its_heads_on():
    model = Hybrid(5, 6, 3, nhead=2)
    assert model.lstm.bidirectional and model.layer.self_attn.num_heads == 2
    assert (model.lstm.input_size, model.head.weight.shape) == (5, (3, 12))
    assert Hybrid(5, 6, 3).layer.self_attn.num_heads == 4


@few
@given(st.integers(1, 300), st.integers(1, 16))
def test_sinusoids_by_counting(num_steps, half):
    found = sinusoids(num_steps, 2 * half)
    assert found.dtype == torch.float32 and found.shape == (num_steps, 2 * half)
    step = num_steps - 1
    angles = [step / 10_000 ** (2 * pair / (2 * half)) for pair in range(half)]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    torch.testing.assert_close(found[step], torch.tensor(expected), rtol=0, atol=1e-4)
    close(sinusoids(num_steps + 7, 2 * half)[:num_steps], found)


@pytest.mark.parametrize("d_model", [1, 7])
def test_sinusoids_refuse_an_odd_width(d_model):
    refuses(ValueError, [f"d_model is {d_model}", "even"], sinusoids, 5, d_model)


def causal(q, k, v):
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def in_rows(model, sequences, rows, attend=None):
    """The logits of each sequence from rows that they share, and the loss over their targets."""
    filled = fill_rows(sequences, rows, 20)
    mask = document_mask(filled.document_id)

    def own(q, k, v):
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    logits = model(filled.content, filled.positions, attend or own)
    targets = next_step_targets(filled.content, filled.document_id)
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return [logits[filled.document_id == index] for index in range(len(sequences))], loss


def packed_rows(model, sequences):
    return in_rows(model, sequences, best_fit_decreasing([len(one) for one in sequences], 20))


def padded_rows(model, sequences):
    return in_rows(model, sequences, [[index] for index in range(len(sequences))])


def flat_run(model, sequences):
    lengths = [len(one) for one in sequences]

    def attend(*qkv):  # each (H, S, D / H)
        parts = zip(*(one.split(lengths, dim=1) for one in qkv), strict=True)
        return torch.cat([causal(*part) for part in parts], dim=1)

    positions = torch.cat([torch.arange(length) for length in lengths])
    logits = model(torch.cat(sequences), positions, attend).split(lengths)
    return logits, next_words(logits, sequences)


def each_alone(model, sequences):
    logits = [model(one[None], torch.arange(len(one))[None], causal)[0] for one in sequences]
    return logits, next_words(logits, sequences)


def next_words(logits, sequences):
    return sum(
        cross_entropy(steps[:-1], words[1:], reduction="sum")
        for steps, words in zip(logits, sequences, strict=True)
    )


def language_case(lengths, seed):
    torch.manual_seed(seed)
    model = CausalLM(11, d_model=8, nhead=2, num_layers=2, longest=20).double()
    return model, [torch.randint(0, 11, (length,)) for length in lengths]


@pytest.mark.parametrize("way", [packed_rows, padded_rows, flat_run])
@few
@given(lengths_lists(), st.integers(0, 1000))
def test_causal_lm_reads_each_sequence_as_if_alone(way, lengths, seed):
    model, sequences = language_case(lengths, seed)
    outcomes = []
    for run in (way, each_alone):
        logits, loss = run(model, sequences)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        outcomes.append((list(logits), loss, list(gradients)))
    torch.testing.assert_close(*outcomes, rtol=1e-10, atol=1e-10)
    assert any(one.any() for one in outcomes[0][2]) == (max(lengths) > 1)


def test_causal_lm_hears_of_neighbours_and_positions_if_its_caller_lets_it():
    model, sequences = language_case([5, 3], 0)
    alone, _ = each_alone(model, sequences)
    first, second = in_rows(model, sequences, [[0, 1]], attend=causal)[0]
    close(first, alone[0])
    assert (second - alone[1]).abs().max() > 1e-3
    later = model(sequences[1], torch.arange(5, 8), causal)
    assert (later - alone[1]).abs().max() > 1e-3


def test_causal_lm_hands_its_heads_to_attend():
    seen = []

    def attend(q, k, v):
        seen.append([tuple(one.shape) for one in (q, k, v)])
        return v

    model, words = CausalLM(11, d_model=8, nhead=2, num_layers=3, longest=7), torch.zeros(4, 7)
    assert model(words.long(), torch.arange(7), attend).shape == (4, 7, 11)
    assert seen == [[(4, 2, 7, 4)] * 3] * 3
    assert model.place.num_embeddings == 7
