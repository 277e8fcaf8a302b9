"""Several ranks: their loss, how long they wait, and small process groups to try it with.

(Chapter 09.)
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from course_utils.batches.checks import check_lengths, check_whole
from course_utils.batches.sampling import BucketBatchSampler, TokenBudgetBatchSampler


def loss_of_rank(
    loss_sum: Tensor, count: int | Tensor, all_reduce: Callable[[Tensor], object], ranks: int
) -> Tensor:
    """Return the loss whose gradients, averaged over the ranks, are those of one process.

    The mean over the steps of all ranks is the sum of their losses / the sum of their counts.
    DistributedDataParallel and fully_shard divide the summed gradients by the number of ranks, so
    each rank multiplies by that number.

    Args:
        loss_sum: scalar, the summed loss of this rank's real steps; where it has none, a 0 with a
            graph.
        count: this rank's real steps; with accumulation, of all micro-batches together.
        all_reduce: sums a tensor over the ranks, in place, as `torch.distributed.all_reduce`. A
            rank with no real step calls it too, because the others wait for it.
        ranks: their number.
    Returns:
        the scalar to call `backward` on; 0 where no rank has a real step.

    >>> def with_the_other(count): count += 3
    >>> loss_of_rank(torch.tensor(10.0), 2, with_the_other, ranks=2).item()
    4.0
    """
    total = torch.as_tensor(count).clone()
    all_reduce(total)
    return loss_sum * ranks / total.clamp(min=1)


class Workload(NamedTuple):
    """What each rank does in each step.

    Attributes:
        padded: (steps, ranks) int64, the padded steps that each rank runs: its work.
        tokens: (steps, ranks) int64, how many of them are real.
    """

    padded: Tensor
    tokens: Tensor


def idle_share(work: Tensor) -> float:
    """Say what share of their time the ranks wait, if all wait for the slowest in each step.

    Args:
        work: (steps, ranks) numbers, the time that each rank works in a step.
    Returns:
        0 to 1.

    >>> round(idle_share(torch.tensor([[1.0, 3.0]])), 3)
    0.333
    """
    longest = work.amax(dim=1).sum() * work.shape[1]
    return 1 - work.sum().item() / longest.item()


def useful_share(workload: Workload) -> float:
    """Say what share of the ranks' time goes into real steps: neither padding nor waiting.

    Args:
        workload: of `workload_of_ranks`.
    Returns:
        0 to 1.
    """
    longest = workload.padded.amax(dim=1).sum() * workload.padded.shape[1]
    return workload.tokens.sum().item() / longest.item()


POLICIES = (
    "random",
    "own buckets",
    "shared buckets",
    "shared budget",
    "flat, to a budget",
)


def _filled(lengths: Tensor, most: int) -> Tensor:
    """Real steps of flat batches, each filled in the given order up to `most`."""
    sums, now = [], 0
    for length in lengths.tolist():
        if now and now + length > most:
            sums.append(now)
            now = 0
        now += length
    return torch.tensor([*sums, now])


def workload_of_ranks(
    lengths: Tensor,
    policy: str,
    ranks: int,
    *,
    batch_size: int = 32,
    max_tokens: int = 2048,
    pool_batches: int = 8,
    seed: int = 0,
) -> Workload:
    """Say what each rank would run in each step of an epoch.

    Args:
        lengths: (N,) integers, steps of each sequence.
        policy: one of `POLICIES`. "random" and the buckets have `batch_size` sequences per batch;
            each rank cuts its "own buckets" for itself, and "shared" ones are dealt out by cost;
            "flat" batches have no padding, and are filled up to `max_tokens`.
        ranks: their number.
        batch_size: sequences per batch.
        max_tokens: the budget, in steps.
        pool_batches: batches that are sorted together.
        seed: of the shuffling.
    Returns:
        Workload; batches that are left over when the ranks have equally many are left out.
    Raises:
        ValueError: `policy` is unknown, or there are too few sequences for so many ranks.
    """
    check_lengths(lengths)
    check_whole("ranks", ranks, 1)
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}: give one of {', '.join(POLICIES)}.")
    if policy.startswith("flat"):
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
        sums = _filled(lengths[order], max(max_tokens, int(lengths.max())))
        batches = [(padded, padded) for padded in sums.tolist()]
    else:
        options = {"seed": seed, "drop_last": True}
        options["num_replicas"] = ranks if policy.startswith("shared") else 1
        if policy == "shared budget":
            make, size = TokenBudgetBatchSampler, max(max_tokens, int(lengths.max()))
        else:
            make, size = BucketBatchSampler, batch_size
        options["pool_batches"] = 1 if policy == "random" else pool_batches
        parts = [
            lengths[batch] for step in make(lengths, size, **options).steps() for batch in step
        ]
        batches = [(len(part) * int(part.max()), int(part.sum())) for part in parts]
    steps = len(batches) // ranks
    if not steps:
        raise ValueError(
            f"{len(lengths)} sequences make {len(batches)} batches, fewer than ranks = {ranks}: "
            "give more sequences, or smaller batches."
        )
    both = torch.tensor(batches[: steps * ranks]).view(steps, ranks, 2)
    return Workload(both[..., 0], both[..., 1])


def run_ranks(
    work: Callable[[int, dist.ProcessGroup], object], ranks: int, *, seconds: float = 20
) -> list:
    """Run a function as several ranks of a process group, each in a thread of this process.

    Args:
        work: `work(rank, group)`; `group.allreduce([tensor]).wait()` sums a tensor over the ranks.
        ranks: their number.
        seconds: the time after which a rank that waits for another one gives up.
    Returns:
        what each rank returned, or the exception that ended it.

    >>> def count(rank, group):
    ...     total = torch.tensor(rank)
    ...     group.allreduce([total]).wait()
    ...     return total.item()
    >>> run_ranks(count, 3)
    [3, 3, 3]
    """
    store, results, groups = dist.HashStore(), [None] * ranks, [None] * ranks

    def run(rank: int) -> None:
        try:
            limit = timedelta(seconds=seconds)
            # Kept until all ranks have ended, or the others would see a broken connection.
            groups[rank] = dist.ProcessGroupGloo(store, rank, ranks, limit)
            results[rank] = work(rank, groups[rank])
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _end(pid: int) -> None:
    """End a process and all that it has started, in sessions of their own too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def torchrun(file: str | Path, ranks: int, *arguments: str, seconds: float = 120) -> Iterator[str]:
    """Start a file in several processes with torchrun, on this machine alone, and end them all.

    Args:
        file: a script that calls `torch.distributed.init_process_group("gloo")`.
        ranks: processes.
        arguments: of the script.
        seconds: the time after which all of them are ended.
    Yields:
        the lines that they print, as they come.
    Raises:
        RuntimeError: a process failed, with what was printed last.
        TimeoutError: they were not done in time.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "course_utils.ranks", str(file), *arguments]
    # Gloo finds its address by the machine's name, which may not resolve, so use the loopback.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if sys.platform == "darwin":
        environment["GLOO_SOCKET_IFNAME"] = "lo0"
    # Kept apart, because gloo's warnings are not what the ranks print.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        late = threading.Event()

        def end() -> None:
            late.set()
            _end(process.pid)

        timer = threading.Timer(seconds, end)
        timer.start()
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                yield said[-1]
            process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                _end(process.pid)
                process.wait()
            process.stdout.close()
        if late.is_set():
            raise TimeoutError(f"{file} with {ranks} ranks was not done in {seconds:.0f} s: ended.")
        if process.returncode:
            errors.seek(0)
            said += errors.read().splitlines()
            raise RuntimeError(f"{file} with {ranks} ranks failed:\n" + "\n".join(said[-80:]))


def work_and_wait(
    padded: Sequence[int], group: dist.ProcessGroup | None = None, *, seconds: float = 2.0
) -> tuple[float, float]:
    """Work through the batches of this rank and wait for the others after each, in real time.

    The work is a sleep as long as a device would need. Otherwise, ranks on one machine would take
    the processor from each other, and the slowness measured would be that of the machine.

    Args:
        padded: (steps,) padded steps of this rank's batches.
        group: the process group; the default one where None.
        seconds: about how long the steps take together, if each were of the mean size.
    Returns:
        seconds of work, and seconds of waiting.
    """
    work = wait = 0.0
    padded = torch.as_tensor(padded).double()
    mean = padded.sum()
    dist.all_reduce(mean, group=group)
    pace = seconds / (mean.item() / dist.get_world_size(group))
    for steps in padded.tolist():
        start = time.perf_counter()
        time.sleep(steps * pace)
        done = time.perf_counter()
        dist.all_reduce(torch.zeros(1), group=group)  # as for the gradients
        work, wait = work + done - start, wait + time.perf_counter() - done
    return work, wait


def _run_and_leave(file: str, *arguments: str) -> None:
    """Run a file as Python does, and leave the process at once when it has come to its end.

    DistributedDataParallel keeps gloo's threads, `destroy_process_group` or not. Python's own end
    may come upon one of them that frees a tensor, and the process aborts with all its work done.
    On a busy machine, this was seen once in some hundred starts.
    """
    sys.argv = [file, *arguments]
    sys.path.insert(0, str(Path(file).resolve().parent))
    runpy.run_path(file, run_name="__main__")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    _run_and_leave(*sys.argv[1:])
