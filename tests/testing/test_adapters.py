"""Other people's batches: each adapter cuts the output, and widens what has to grow together."""

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.batches.masks import lengths_to_keep_mask, masked_mean
from course_utils.batches.padding import pad
from course_utils.testing import (
    assert_batch_invariant,
    batch_invariance,
    hugging_face,
    packed_batch,
    padded_batch,
)
from tests.testing.test_invariance import SAMPLES, Mean, fails, of, right_mean

TEXTS = [torch.tensor(one) for one in ([3, 1, 2, 7], [5, 8], [4, 4, 1, 2, 6, 3], [2])]
PADDING, CONTENT = "more padding", "other content in the padding"


def tokenized(texts, left=False):
    longest = max(map(len, texts))
    sides = [(longest - len(t), 0) if left else (0, longest - len(t)) for t in texts]
    ids = torch.stack([F.pad(t, side) for t, side in zip(texts, sides, strict=True)])
    mask = torch.stack([F.pad(torch.ones_like(t), s) for t, s in zip(texts, sides, strict=True)])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


class Tagger(nn.Module):
    """A logit for each token, from its own and the mean of all that the mask lets it see."""

    def __init__(self, masked=True, wrap=lambda logits: {"logits": logits}):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)
        self.masked, self.wrap = masked, wrap

    def forward(self, input_ids, attention_mask, token_type_ids):
        assert input_ids.shape == attention_mask.shape == token_type_ids.shape
        steps = self.embed(input_ids)
        keep = attention_mask.bool() if self.masked else torch.ones_like(attention_mask).bool()
        return self.wrap(self.head(steps + masked_mean(steps, keep)[:, None]))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    "wrap", [lambda x: {"logits": x}, lambda x: SimpleNamespace(logits=x), lambda x: x]
)
def test_hugging_face_cuts_by_the_mask_and_widens_ids_and_mask_alike(left, wrap):
    def collate(texts):
        return tokenized(texts, left)

    report = batch_invariance(Tagger(wrap=wrap), TEXTS, collate, adapter=hugging_face())
    assert report and of(report, PADDING).state == "same"
    # On the left the id of padding may tell where a text begins: it stays.
    assert of(report, CONTENT).state == ("not asked" if left else "same")
    wrong = batch_invariance(Tagger(masked=False), TEXTS, collate, adapter=hugging_face())
    assert {"alone", PADDING} <= set(fails(wrong))


def test_hugging_face_says_what_it_needs():
    equal = [text[:2] for text in TEXTS[:3]]
    report = batch_invariance(Tagger(), equal, tokenized, adapter=hugging_face())
    assert of(report, PADDING).why.startswith("the batch has no padding to see the id of")
    assert batch_invariance(Tagger(), equal, tokenized, adapter=hugging_face(pad_id=0))
    with pytest.raises(TypeError, match="model gave logits, but not hidden: name the output"):
        batch_invariance(Tagger(), TEXTS, tokenized, adapter=hugging_face("hidden"))


def test_hugging_face_takes_other_outputs_and_lengths():
    class Halved(nn.Module):
        """Speech: one step for two, by a convolution that does not cross the border."""

        def forward(self, input_values, attention_mask):
            kept = input_values * attention_mask
            return {"pooled": kept.sum(1, keepdim=True), "steps": kept.unflatten(1, (-1, 2))}

    def collate(sounds):
        padded = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        mask = lengths_to_keep_mask(torch.tensor([len(one) for one in sounds])).long()
        even = padded.shape[1] % 2
        return {"input_values": F.pad(padded, (0, even)), "attention_mask": F.pad(mask, (0, even))}

    sounds = [torch.randn(n) for n in (6, 2, 4, 8)]
    steps = hugging_face("steps", output_lengths=lambda lengths: lengths // 2)
    # Odd columns would not halve: steps are added two at a time.
    two = lambda batch, n, value: steps.more_padding(batch, 2 * n, value)  # noqa: E731
    for adapter in (steps, hugging_face("pooled", per_step=False)):
        report = batch_invariance(
            lambda **batch: Halved()(**batch), sounds, collate, adapter=adapter, more_padding=two
        )
        assert report and of(report, CONTENT, "evaluation").state == "same"


def test_hugging_face_widens_embeddings_and_cuts_only_what_has_their_length():
    class Embedded(nn.Module):
        def __init__(self, latents):
            super().__init__()
            self.head, self.latents = nn.Linear(4, 9), latents

        def forward(self, inputs_embeds, attention_mask, position_ids):
            assert inputs_embeds.shape[:2] == attention_mask.shape == position_ids.shape
            pooled = masked_mean(self.head(inputs_embeds), attention_mask.bool())
            return pooled.repeat(1, self.latents).unflatten(1, (self.latents, 9))

    def collate(samples):
        padded, lengths = pad(samples)
        mask = lengths_to_keep_mask(lengths).long()
        positions = torch.arange(mask.shape[1]).expand_as(mask)
        return {"inputs_embeds": padded, "attention_mask": mask, "position_ids": positions}

    for latents in (2, 40):  # fewer and more than any batch has steps: not cut
        report = batch_invariance(Embedded(latents), SAMPLES, collate, adapter=hugging_face())
        assert report and of(report, CONTENT).state == of(report, PADDING).state == "same"
    only = hugging_face(widened=["inputs_embeds", "attention_mask", "position_ids"])
    assert batch_invariance(Embedded(2), SAMPLES, collate, adapter=only)
    report = batch_invariance(
        Embedded(2), SAMPLES, collate, adapter=hugging_face(widened=["attention_mask"])
    )
    assert of(report, PADDING).state == "raises"


def test_waveforms_without_features_are_widened():
    sounds = [torch.randn(n) for n in (6, 2, 4, 8)]
    report = batch_invariance(
        lambda x, n: masked_mean(x[..., None], lengths_to_keep_mask(n, x.shape[1])), sounds, pad
    )
    assert report and of(report, PADDING, "evaluation").state == "same"


def relative(samples):
    padded, lengths = pad(samples)
    return padded, lengths / padded.shape[1]


class Relative(Mean):
    def __init__(self, cut=torch.round):
        super().__init__()
        self.cut = cut

    def forward(self, padded, shares):
        return super().forward(padded, self.cut(shares * padded.shape[1]).long().clamp(min=1))


def test_relative_lengths_are_scaled_and_their_truncation_is_found():
    samples = [torch.randn(n, 4) for n in (22, 13, 9, 5)]
    adapter = padded_batch(relative=True)
    report = batch_invariance(Relative(), samples, relative, adapter=adapter)
    assert report and of(report, PADDING).state == "same"
    # 13 / 22 of float32, times 22, is a little less than 13.
    assert int(torch.tensor(13) / 22 * 22) == 12
    wrong = batch_invariance(Relative(torch.floor), samples, relative, adapter=adapter)
    assert 1 in of(wrong, "alone").wrong


def channels_first(samples):
    padded, lengths = pad(samples)
    return padded.mT, lengths


def left(samples):
    longest = max(map(len, samples))
    padded = torch.stack([F.pad(one, (0, 0, longest - len(one), 0)) for one in samples])
    return padded, torch.tensor([len(one) for one in samples])


def ids(samples):
    padded = nn.utils.rnn.pad_sequence(TEXTS[: len(samples)], batch_first=True)
    return padded, torch.tensor([len(one) for one in TEXTS[: len(samples)]])


class Convolution(nn.Module):
    """Channels first, a step for a step; without cleaning it would see the padding's bias."""

    def __init__(self, clean=True):
        super().__init__()
        self.first, self.second = (nn.Conv1d(4, 4, 3, padding=1) for _ in range(2))
        self.clean = clean

    def forward(self, padded, lengths):
        keep = lengths_to_keep_mask(lengths, padded.shape[2])[:, None] if self.clean else True
        return self.second(self.first(padded * keep) * keep)


def test_channels_first():
    adapter = padded_batch(time=2, per_step=True)
    assert batch_invariance(Convolution(), SAMPLES, channels_first, adapter=adapter)
    report = batch_invariance(Convolution(clean=False), SAMPLES, channels_first, adapter=adapter)
    assert {"alone", PADDING, CONTENT} <= set(fails(report))


class LastSteps(nn.Module):
    def forward(self, padded, lengths):
        return padded.cumsum(1) if self.training else padded


def test_left_padding():
    adapter = padded_batch(left=True, per_step=True)
    report = batch_invariance(LastSteps(), SAMPLES, left, adapter=adapter)
    # A sum from the left meets other content, but not more zeros.
    assert fails(report) == [CONTENT] and fails(report, "evaluation") == []
    assert of(report, PADDING).state == "same"


def test_ids_and_parts_that_grow_along():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 3)

        def forward(self, ids, keep_mask):
            return masked_mean(self.embed(ids), keep_mask)

    def collate(texts):
        padded = nn.utils.rnn.pad_sequence(texts, batch_first=True)
        return [padded, padded != 0]

    adapter = padded_batch(lengths=None, also=[1], pad_id=0)
    report = batch_invariance(Bag(), TEXTS, collate, adapter=adapter)
    assert report and of(report, CONTENT).state == "same"

    class Counted(Bag):
        def forward(self, ids, keep_mask):  # trusts the id in place of the mask
            return masked_mean(self.embed(ids), ids != 0)

    report = batch_invariance(Counted(), TEXTS, collate, adapter=adapter)
    assert fails(report) == [CONTENT]


def test_dictionaries_with_keys_of_ones_own():
    def collate(samples):
        padded, lengths = pad(samples)
        return {"sound": padded, "n": lengths, "keep": lengths_to_keep_mask(lengths)}

    class Model(Mean):
        def forward(self, sound, n, keep):
            assert keep.shape == sound.shape[:2]
            return super().forward(sound, n)

    adapter = padded_batch(padded="sound", lengths="n", also=["keep"])
    report = batch_invariance(Model(), SAMPLES, collate, adapter=adapter)
    assert report and of(report, CONTENT).state == "same"


def test_packed_batches():
    def collate(samples):
        return nn.utils.rnn.pack_sequence(samples, enforce_sorted=False)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 3)

        def forward(self, packed):
            return self.lstm(packed)[1][0][-1]

    report = batch_invariance(Last(), SAMPLES, collate, adapter=packed_batch())
    assert report and of(report, PADDING).why == "a PackedSequence has no padding"


# --- for people's own CI ----------------------------------------------------------------------


def test_assert_passes_fails_and_allows():
    norm = nn.BatchNorm1d(4)
    model = lambda x, n: right_mean(norm(x.mT).mT, n)  # noqa: E731
    assert assert_batch_invariant(Mean(), SAMPLES, pad)
    with pytest.raises(AssertionError) as error:
        assert_batch_invariant(model, SAMPLES, pad)
    assert "the batch CHANGES the answer" in str(error.value) and "alone" in str(error.value)
    report = assert_batch_invariant(model, SAMPLES, pad, allow=["training"])
    assert report and "allowed: training" in str(report) and report.verdict.startswith("equal")
    rules = [f"training: {name}" for name in fails(batch_invariance(model, SAMPLES, pad))]
    assert assert_batch_invariant(model, SAMPLES, pad, allow=rules)
    with pytest.raises(AssertionError):
        assert_batch_invariant(model, SAMPLES, pad, allow=rules[1:])
    for rule in ("trainin", "training: alon", "somewhere: alone", ""):
        with pytest.raises(ValueError, match="allow holds"):
            assert_batch_invariant(model, SAMPLES, pad, allow=[rule])


def test_pytest_prints_the_whole_report(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import torch
            from course_utils.testing import assert_batch_invariant

            def collate(samples):
                lengths = torch.tensor([len(one) for one in samples])
                return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True), lengths

            def test_mine():
                samples = [torch.ones(n, 2) for n in (5, 3, 7, 1)]
                assert_batch_invariant(lambda x, n: x.mean(1), samples, collate)
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line.removeprefix("E").strip() for line in done.stdout.splitlines()]
    assert done.returncode == 1
    text = done.stdout
    assert any(one.startswith("other content in the padding not asked") for one in lines), text
    assert any(one.startswith("alone (evaluation, inference): samples 3") for one in lines), text
    assert (
        lines.count("training: model is a function in which no module was called: it has no mode")
        == 1
    )
    assert "def assert_batch_invariant" not in text  # nor a page of the oracle's own code


def test_paths_are_chosen_by_name():
    report = batch_invariance(Mean(), SAMPLES, pad, paths=["inference"])
    assert {one.path for one in report.questions} == {"inference"}
    for wrong in (["train"], []):
        with pytest.raises(ValueError, match="training, evaluation, inference"):
            batch_invariance(Mean(), SAMPLES, pad, paths=wrong)


def test_it_needs_torch_alone_and_comes_quickly():
    program = """
        import sys, time, torch
        before, start = set(sys.modules), time.process_time()
        import course_utils.testing
        spent = time.process_time() - start
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - set(sys.stdlib_module_names)), spent < 0.1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["['course_utils']", "True"], done
