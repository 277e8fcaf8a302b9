"""The loss of ranks is that of one process; waiting is counted; nothing hangs, nothing is left."""

import time

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.sampling import BucketBatchSampler
from course_utils.data import python_docs_paragraphs
from course_utils.ranks import (
    POLICIES,
    idle_share,
    loss_of_rank,
    run_ranks,
    torchrun,
    useful_share,
    work_and_wait,
    workload_of_ranks,
)
from tests.ragged import (
    calm,  # noqa: F401
    few,
    refuses,
)

LENGTHS = torch.randint(1, 60, (2000,), generator=torch.Generator().manual_seed(0))


def gradients(counts_by_rank, loss_of):
    """Of one process, and averaged over real ranks that add up their micro-batches."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    batches = [
        [(torch.randn(n, 4).double(), torch.randint(0, 3, (n,))) for n in counts]
        for counts in counts_by_rank
    ]
    ranks, total = len(counts_by_rank), sum(map(sum, counts_by_rank))

    def loss_sum(batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    whole = sum(loss_sum(batch) for own in batches for batch in own) / max(total, 1)
    (truth,) = torch.autograd.grad(whole, [model.weight])

    def work(rank, group):
        def all_reduce(tensor):
            group.allreduce([tensor]).wait()

        summed = torch.zeros_like(truth)
        for batch in batches[rank]:
            loss = loss_of(loss_sum(batch), sum(counts_by_rank[rank]), all_reduce, ranks)
            summed += torch.autograd.grad(loss, [model.weight])[0]
        all_reduce(summed)
        return summed / ranks

    return truth, run_ranks(work, ranks)


@few
@given(
    st.integers(1, 3).flatmap(
        lambda micro: st.lists(
            st.lists(st.integers(0, 30), min_size=micro, max_size=micro), min_size=1, max_size=4
        )
    )
)
def test_the_ranks_have_the_gradient_of_one_process(counts_by_rank):
    """With accumulation, with empty micro-batches and ranks, and where nobody has anything."""
    truth, found = gradients(counts_by_rank, loss_of_rank)
    for one in found:
        assert torch.allclose(one, truth, rtol=0, atol=1e-12)


def test_a_mean_on_each_rank_does_not():
    truth, found = gradients([[70], [3]], lambda summed, count, *_: summed / count)
    assert (found[0] - truth).norm() > 0.1 * truth.norm()


def test_a_rank_that_waits_in_vain_gives_up():
    def work(rank, group):
        for _ in range(3 - rank):
            group.allreduce([torch.ones(2)]).wait()
        return "done"

    start = time.monotonic()
    gave_up, done = run_ranks(work, 2, seconds=1)
    assert done == "done" and isinstance(gave_up, RuntimeError)
    assert time.monotonic() - start < 20


def test_idle_and_useful_shares_by_hand():
    assert idle_share(torch.tensor([[2, 2], [1, 3]])) == 1 - 8 / 10
    work = workload_of_ranks(torch.tensor([4] * 8), "random", 2, batch_size=2)
    assert idle_share(work.padded) == 0 and useful_share(work) == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_a_workload_holds_each_sequence_at_most_once(policy, ranks):
    work = workload_of_ranks(LENGTHS, policy, ranks, batch_size=8, max_tokens=400)
    assert work.padded.shape == work.tokens.shape and work.padded.shape[1] == ranks
    assert (work.tokens <= work.padded).all() and work.tokens.sum() <= LENGTHS.sum()
    assert work.tokens.sum() > 0.7 * LENGTHS.sum()
    if "budget" in policy:
        assert work.padded.max() <= 400


def test_sharing_waits_less_than_own_buckets_and_a_budget_less_still():
    docs = torch.tensor([len(words) for words in python_docs_paragraphs()])
    idle = {policy: idle_share(workload_of_ranks(docs, policy, 4).padded) for policy in POLICIES}
    assert idle["shared budget"] < idle["shared buckets"] < idle["own buckets"]


def test_a_workload_is_what_the_samplers_give():
    work = workload_of_ranks(LENGTHS, "shared buckets", 4)
    for rank in range(4):
        sampler = BucketBatchSampler(LENGTHS, 32, num_replicas=4, rank=rank, drop_last=True)
        costs = [len(batch) * int(LENGTHS[batch].max()) for batch in sampler]
        assert work.padded[:, rank].tolist() == costs


@pytest.mark.parametrize(
    ("words", "make"),
    [
        (["policy is 'best'", "random"], lambda: workload_of_ranks(LENGTHS, "best", 2)),
        (["ranks is 0"], lambda: workload_of_ranks(LENGTHS, "random", 0)),
        (["fewer than ranks = 900"], lambda: workload_of_ranks(LENGTHS, "random", 900)),
    ],
)
def test_bad_arguments_are_refused(words, make):
    refuses(ValueError, words, make)


# --- real processes ---

SCRIPT = """
import torch, torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from course_utils.ranks import loss_of_rank, work_and_wait
dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
counts = [7, 1, 0, 12]
data = [(torch.randn(n, 8).double(), torch.randint(0, 5, (n,))) for n in counts]
def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 5)).double()
def summed(model, i):
    return F.cross_entropy(model(data[i][0]), data[i][1], reduction="sum")
alone = model()
(sum(summed(alone, i) for i in range(4)) / sum(counts)).backward()
mine = [rank, rank + 2]
own = sum(counts[i] for i in mine)
for name in ("ddp", "fsdp"):
    new = DistributedDataParallel(model()) if name == "ddp" else fully_shard(model())
    for i in mine:
        last = i == mine[-1]
        if name == "fsdp":
            new.set_requires_gradient_sync(last)
        else:
            new.require_backward_grad_sync = last
        loss_of_rank(summed(new, i), own, dist.all_reduce, ranks).backward()
    grads = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
             for p in new.parameters()]
    off = max((a - b.grad).abs().max().item() for a, b in zip(grads, alone.parameters()))
    if rank == 0:
        print(name, off < 1e-12, flush=True)
work, wait = work_and_wait([1, 3] if rank else [3, 1], seconds=0.4)
if rank == 0:
    print("waited", 0.1 < wait, flush=True)
dist.destroy_process_group()
"""


def test_real_processes_have_the_gradient_of_one_sharded_or_not_and_wait(tmp_path):
    file = tmp_path / "ranks.py"
    file.write_text(SCRIPT)
    said = list(torchrun(file, 2, seconds=200))
    assert [line for line in said if line.split()[0] in ("ddp", "fsdp", "waited")] == [
        "ddp True",
        "fsdp True",
        "waited True",
    ]


def test_processes_that_fail_or_take_too_long_are_ended_and_told(tmp_path):
    file = tmp_path / "ranks.py"
    file.write_text("raise SystemExit('on purpose')")
    with pytest.raises(RuntimeError, match="on purpose"):
        list(torchrun(file, 1))
    file.write_text("import time; time.sleep(600)")
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="1 ranks was not done in 2 s"):
        list(torchrun(file, 1, seconds=2))
    assert time.monotonic() - start < 60


def test_a_file_is_run_as_python_does_and_left_at_its_end(tmp_path):
    (tmp_path / "beside.py").write_text("number = 7")
    file = tmp_path / "ranks.py"
    file.write_text(
        "import atexit, os, sys\nfrom beside import number\n"
        "atexit.register(os.abort)  # as one of gloo's threads may do then\n"
        "print(__name__, number, sys.argv[1:])\n"
    )
    assert list(torchrun(file, 1, "a")) == ["__main__ 7 ['a']"]


def test_work_and_wait_needs_a_group():
    with pytest.raises((RuntimeError, ValueError)):
        work_and_wait([1])
