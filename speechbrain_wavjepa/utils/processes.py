"""Processes that work for this one, and signals that ask it to end.

Workers end with their parent, whatever ends it, and leave signals to it. What
kills a worker is told in one line, with the likely cause.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import atexit
import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional

PATIENCE = 5.0  # seconds that workers get to end what they do
# what clusters send before they kill
END_SIGNALS = [signal.SIGTERM, signal.SIGUSR1]
DEAD_LOADER_WORKER = re.compile(
    r"DataLoader worker \(pid.*?\) (is killed by signal: [^.]+|exited"
    r" unexpectedly( with exit code \d+)?)"
)


class SignalExit(SystemExit):
    """Ends the process as a signal asked, with 128 + its number."""


@contextlib.contextmanager
def on_end_signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle SIGTERM and SIGUSR1 meanwhile, as ``signal.signal`` does."""
    before = [(number, signal.getsignal(number)) for number in END_SIGNALS]
    try:
        for number in END_SIGNALS:
            signal.signal(number, handler)
        yield
    finally:
        for number, handler_before in before:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler_before or signal.SIG_DFL)


def exit_by_signal(number: int, frame: object = None) -> None:
    """End at once: a handler for ``on_end_signals``."""
    for other in END_SIGNALS:  # clusters repeat them: the end is not disturbed
        signal.signal(other, signal.SIG_IGN)
    raise SignalExit(128 + number)


def largest(number: int, device: str) -> int:
    """Give the largest number of all processes of a distributed run."""
    import torch  # takes seconds, and the tools that use no GPU do without

    if not (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    ):
        return number
    value = torch.tensor(number, device=device)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return int(value)


def gather(value: Any) -> list[Any]:
    """Give the values of all processes of a distributed run, by rank."""
    import torch

    if not (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    ):
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def name_machines(is_meant: bool) -> str:
    """Name the machines of those processes that are meant; "" if none is."""
    names = gather(socket.gethostname() if is_meant else "")
    return ", ".join(sorted({*names} - {""}))


def find_rank(
    rank: Optional[int] = None, world_size: Optional[int] = None
) -> tuple[int, int]:
    """Give this process's rank and their number, as told or as launched.

    That is torchrun's or, in a job step of SLURM, srun's. A job array is no
    launcher: its jobs may as well embed with other models.
    """
    pairs = [
        {"--rank": rank, "--world_size": world_size},
        {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")},
    ]
    # a batch script has a SLURM_PROCID as well, though it is run once
    if number := os.environ.get("SLURM_STEP_NUM_TASKS"):
        procid = os.environ.get("SLURM_PROCID")
        pairs.append({"SLURM_PROCID": procid, "SLURM_STEP_NUM_TASKS": number})
    for pair in pairs:
        missing = [name for name, value in pair.items() if value is None]
        if len(missing) == 1:
            names = " and ".join(pair)
            raise ValueError(f"{missing[0]} is missing: give {names}, or none.")
        if not missing:
            rank, world_size = map(int, pair.values())
            return rank, world_size
    return 0, 1


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this worker end when its parent does, whatever ends the parent."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class LoaderWorkers:
    """Lets the workers of a DataLoader end with this process, not before it.

    Pass one as ``worker_init_fn``. Terminals and clusters send their signals to
    all processes of a run; this one answers, and needs one more step of them.
    """

    def __init__(self):
        self._may_end = multiprocessing.RawValue("b", False)
        # called before Python ends its children, since registered after that
        atexit.register(setattr, self._may_end, "value", True)

    def __call__(self, worker: int) -> None:
        """Prepare a worker."""
        end_with_parent()
        for number in [signal.SIGINT, *END_SIGNALS]:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminate)
        sys.excepthook = functools.partial(_leave_out_lost, sys.excepthook)

    def _terminate(self, number: int, frame: object) -> None:
        """Answer SIGTERM, which is also how a DataLoader ends a worker."""
        if self._may_end.value:
            os._exit(0)


def _leave_out_lost(hook: Callable, kind: type, *error: object) -> None:
    """Report errors of a worker, but not that its parent has hung up."""
    # the thread that hands tensors over meets that when the parent ends
    if not issubclass(kind, ConnectionError):
        hook(kind, *error)


@contextlib.contextmanager
def explain_dead_workers(advice: str) -> Iterator[None]:
    """Say why a DataLoader's worker ended too early, and what to lower."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        found = DEAD_LOADER_WORKER.search(str(error))
        if found is None or isinstance(error, ChildProcessError):
            raise
        full = "shared memory" if "shared memory" in str(error) else "memory"
        raise ChildProcessError(
            f"{found[0]}. Most likely the {full} was full: {advice}"
        ) from error


@contextlib.contextmanager
def explain_lost_process(advice: str) -> Iterator[None]:
    """Say that another process of a distributed run has ended."""
    try:
        yield
    except RuntimeError as error:
        from torch import distributed

        is_lost = "gloo" in str(error)
        if distributed.is_available():  # NCCL's errors have a type
            is_lost |= isinstance(error, distributed.DistError)
        if not is_lost:
            raise
        reason = str(error).partition("\n")[0]
        raise ConnectionError(
            "Lost another process of this run, which was killed or has printed "
            f"an error of its own ({reason}): {advice}."
        ) from error


def shorten_worker_error(text: str) -> str:
    """Give what was raised in a DataLoader's worker; other text as it is."""
    if "in DataLoader worker process" not in text:
        return text
    lines = text.splitlines()
    frames = [n for n, line in enumerate(lines) if line.startswith("  ")]
    message = "\n".join(lines[max(frames, default=-1) + 1 :])
    return message.partition(": ")[2] or text


@contextlib.contextmanager
def worker_map(
    num_workers: int, initializer: Optional[Callable[[], None]] = None
) -> Iterator[Callable[[Callable, Iterable], Iterator]]:
    """Give a ``map`` over processes; with 0 of them, Python's own.

    Items are asked for at once, results as needed. After an error or Ctrl-C
    the processes begin nothing new, and are ended if they take long.
    """
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 or more, got {num_workers}.")
    if num_workers == 0:
        yield map
        return
    others = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # also where fork is the default: threads do not survive a fork
        multiprocessing.get_context("spawn"),
        _begin_worker,
        (initializer,),
    )
    try:
        yield functools.partial(_map, pool)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ChildProcessError(
            "A worker process was killed, most likely because the memory was "
            "full: lower --num_workers and start the same command again."
        ) from error
    except BaseException:
        # one that is ended while it gives back a result would block us, so
        # only what takes long is
        workers = set(multiprocessing.active_children()) - others
        ender = threading.Timer(
            PATIENCE, lambda: [worker.terminate() for worker in workers]
        )
        ender.daemon = True
        ender.start()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(initializer: Optional[Callable[[], None]]) -> None:
    """Begin a worker process."""
    end_with_parent()
    if initializer is not None:
        initializer()


def _map(pool, function: Callable, items: Iterable) -> Iterator:
    """Start the workers deaf to Ctrl-C: it is their parent that answers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(function, items)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
