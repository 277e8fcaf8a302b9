"""A stream in batches of like length: every sample once, within the budget, with workers too."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from course_utils.batches.sampling import BucketBatchSampler
from course_utils.batches.streams import StreamBatches
from course_utils.data import python_docs_paragraphs
from tests.ragged import (
    calm,  # noqa: F401
    few,
    refuses,
)

DOCS = python_docs_paragraphs()
NUMBERED = list(enumerate(len(words) for words in DOCS))  # samples (number, steps)


def steps_of(sample):
    return sample[1]


def fill(batches):
    batches = [[steps_of(sample) for sample in batch] for batch in batches]
    return sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


def once(batches, samples):
    return sorted(itertools.chain(*batches)) == sorted(samples)


@few
@given(
    st.lists(st.integers(1, 30), max_size=60),
    st.integers(30, 90),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_sample_once_within_the_budget_on_any_number_of_ranks(
    lengths, budget, buffer_size, count, shuffle
):
    samples, batches = list(enumerate(lengths)), []
    for rank in range(count):
        options = {"buffer_size": buffer_size, "shuffle": shuffle, "length": steps_of}
        batches += StreamBatches(samples, budget, num_replicas=count, rank=rank, **options)
    assert once(batches, samples)
    for batch in batches:
        assert 1 <= len(batch) <= budget // max(map(steps_of, batch))


def test_it_reads_no_further_than_its_buffer():
    read = []

    class Endless:
        def __iter__(self):
            for number in itertools.count():
                read.append(number)
                yield number, 1 + number % 7

    stream = StreamBatches(Endless(), 70, buffer_size=50, length=steps_of)
    given = sum(map(len, itertools.islice(stream, 20)))
    assert len(read) <= given + 50


def test_a_larger_buffer_is_fuller_in_fewer_batches():
    epochs = [
        list(StreamBatches(NUMBERED, 2048, buffer_size=size, length=steps_of))
        for size in (100, 400, 1600)
    ]
    assert [fill(batches) for batches in epochs] == sorted(fill(batches) for batches in epochs)
    assert [len(batches) for batches in epochs] == sorted(map(len, epochs), reverse=True)
    random = BucketBatchSampler([n for _, n in NUMBERED], 32, pool_batches=1)
    assert fill(epochs[-1]) > 3 * fill([[NUMBERED[i] for i in batch] for batch in random])
    alone = list(StreamBatches(NUMBERED, 2048, buffer_size=1, length=steps_of))
    assert len(alone) == len(DOCS), "with no buffer, each sample is a batch"


def test_the_same_seed_and_epoch_give_the_same_batches_and_another_epoch_others():
    def epoch(number, seed=0):
        stream = StreamBatches(NUMBERED[:300], 500, buffer_size=90, length=steps_of, seed=seed)
        stream.set_epoch(number)
        return list(stream)

    assert epoch(0) == epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=9)


def test_several_workers_give_every_sample_once():
    stream = StreamBatches(NUMBERED[:400], 500, buffer_size=60, length=steps_of)
    loader = DataLoader(stream, batch_size=None, collate_fn=list, num_workers=2)
    assert once(list(loader), NUMBERED[:400])


def test_it_goes_on_where_it_stopped():
    options = {"buffer_size": 60, "length": steps_of}
    whole = list(StreamBatches(NUMBERED[:400], 500, **options))
    first = StreamBatches(NUMBERED[:400], 500, **options)
    begun = list(itertools.islice(first, 4))
    again = StreamBatches(NUMBERED[:400], 500, **options)
    again.load_state_dict(first.state_dict())
    assert begun + list(again) == whole == list(again)
    other = StreamBatches(NUMBERED[:400], 500, num_replicas=2, **options)
    refuses(ValueError, ["0 of 1", "0 of 2"], lambda: other.load_state_dict(first.state_dict()))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_it_and_the_samplers(workers):
    loaders = pytest.importorskip("torchdata.stateful_dataloader")
    sequences = [torch.full((n,), float(i)) for i, n in NUMBERED[:300]]

    def of_stream():
        stream = StreamBatches(NUMBERED[:300], 500, buffer_size=60, length=steps_of)
        return loaders.StatefulDataLoader(
            stream, batch_size=None, collate_fn=list, num_workers=workers
        )

    def of_sampler():
        sampler = BucketBatchSampler([len(one) for one in sequences], 8, num_replicas=2, rank=1)
        options = {"batch_sampler": sampler, "num_workers": workers}
        return loaders.StatefulDataLoader(
            sequences, collate_fn=lambda batch: [one[0].item() for one in batch], **options
        )

    for make in (of_stream, of_sampler):
        whole, first, again = list(make()), make(), make()
        begun = list(itertools.islice(first, 4))
        again.load_state_dict(first.state_dict())
        assert begun + list(again) == whole


@pytest.mark.parametrize(
    ("error", "words", "make"),
    [
        (TypeError, ["stream is a list_iterator"], lambda: StreamBatches(iter([1]), 8)),
        (ValueError, ["max_tokens is 0"], lambda: StreamBatches([], 0)),
        (ValueError, ["buffer_size is 0"], lambda: StreamBatches([], 1, buffer_size=0)),
        (ValueError, ["rank is 2"], lambda: StreamBatches([], 1, num_replicas=2, rank=2)),
        (ValueError, ["epoch is -1"], lambda: StreamBatches([], 1).set_epoch(-1)),
        (ValueError, ["sample 1", "9 steps"], lambda: list(StreamBatches(["a", "b" * 9], 8))),
        (ValueError, ["0 steps"], lambda: list(StreamBatches([""], 8))),
    ],
)
def test_bad_arguments_are_refused(error, words, make):
    refuses(error, words, make)
