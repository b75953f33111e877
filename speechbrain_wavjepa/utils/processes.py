"""Processes that work for this one, and signals that ask it to end.

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
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

PATIENCE = 5.0  # seconds that workers get to end what they do
# What clusters send before they kill; Windows has one of them.
END_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGUSR1")
    if hasattr(signal, name)
]
DEAD_LOADER_WORKER = re.compile(
    r"DataLoader worker \(pid.*?\) (is killed by signal: [^.]+|exited"
    r" unexpectedly( with exit code \d+)?)"
)


class SignalExit(SystemExit):
    """Ends the process because a signal asked for it.

    Arguments
    ---------
    number : int
        The signal; the exit code is 128 more, as in a shell.

    Example
    -------
    >>> SignalExit(signal.SIGTERM).code
    143
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def on_end_signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle SIGTERM and SIGUSR1, which clusters send before they kill.

    Arguments
    ---------
    handler : callable
        As ``signal.signal`` takes it.

    Example
    -------
    >>> received = []
    >>> with on_end_signals(lambda number, frame: received.append(number)):
    ...     os.kill(os.getpid(), signal.SIGTERM)
    >>> received == [signal.SIGTERM]
    True
    """
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
    """End at once: a handler for ``on_end_signals``.

    Clusters repeat their signals; the next ones do not disturb the end.
    """
    for other in END_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SignalExit(number)


def largest(number: int, device: str) -> int:
    """Give the largest number of all processes of a distributed run.

    Arguments
    ---------
    number : int
        That of this process.
    device : str
        Where the processes' backend works.

    Returns
    -------
    int
        The same on all processes.

    Example
    -------
    >>> largest(15, "cpu")
    15
    """
    import torch  # takes seconds, and the tools that use no GPU do without

    if not (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    ):
        return number
    value = torch.tensor(number, device=device)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return int(value)


def count_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        Those it is bound to; on macOS and Windows, those of the machine.

    Example
    -------
    >>> count_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this worker end when its parent does, whatever ends the parent.

    An initializer of worker processes. Without it, a parent that is killed
    leaves them waiting for ever.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class LoaderWorkers:
    """Lets the workers of a DataLoader end with this process, not before it.

    Terminals and clusters send their signals to all processes of a run. It
    is this one that answers them, and needs its workers to take one more
    step. Pass an object of this class as ``worker_init_fn``.

    Example
    -------
    >>> from torch.utils.data import DataLoader
    >>> workers = LoaderWorkers()
    >>> loader = DataLoader([1], num_workers=1, worker_init_fn=workers)
    >>> [int(batch) for batch in loader]
    [1]
    """

    def __init__(self):
        self._may_end = multiprocessing.RawValue("b", False)
        # called before Python ends its children, since registered after that
        atexit.register(self._let_end)

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

    def _let_end(self) -> None:
        """Let the workers end from now on when they are asked to."""
        self._may_end.value = True


def _leave_out_lost(hook: Callable, kind: type, *error: object) -> None:
    """Report errors of a worker, but not that its parent has hung up.

    The thread that hands tensors over would print a traceback of that
    whenever the parent ends in the middle of it.
    """
    if not issubclass(kind, ConnectionError):
        hook(kind, *error)


@contextlib.contextmanager
def explain_dead_workers(advice: str) -> Iterator[None]:
    """Say why a DataLoader's worker ended before its time.

    PyTorch raises this error wherever the program happens to be.

    Arguments
    ---------
    advice : str
        What to lower.

    Raises
    ------
    ChildProcessError
        With the worker's process number, the likely cause and the advice.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        found = DEAD_LOADER_WORKER.search(str(error))
        if found is None or isinstance(error, ChildProcessError):
            raise
        shared = "shared memory" in str(error)
        raise ChildProcessError(
            f"{found[0]}. Most likely the {'shared ' * shared}memory was full: "
            f"{advice}"
        ) from error


def shorten_worker_error(text: str) -> str:
    """Give the message of an error in a DataLoader's worker.

    Arguments
    ---------
    text : str
        A message, which PyTorch may have put below the worker's traceback.

    Returns
    -------
    str
        What was raised there; any other text as it is.

    Example
    -------
    >>> shorten_worker_error("no worker's")
    "no worker's"
    """
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
    """Give a ``map`` that works in other processes.

    The processes end with this one. After an error or Ctrl-C they begin
    nothing new, and are ended if what they do takes longer than seconds.

    Arguments
    ---------
    num_workers : int
        Processes; 0 works in this one.
    initializer : callable, optional
        Called once in each process.

    Yields
    ------
    callable
        Maps a function over items; results come in their order. Items are
        asked for at once, results as they are needed.

    Raises
    ------
    ValueError
        If the number is negative.
    ChildProcessError
        If a process was killed.

    Example
    -------
    >>> with worker_map(0) as map_function:
    ...     list(map_function(abs, [-1]))
    [1]
    """
    if num_workers < 0:
        raise ValueError(
            f"The number of workers must be 0 or more, got {num_workers}."
        )
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
        ender = threading.Timer(PATIENCE, _terminate, [workers])
        ender.daemon = True
        ender.start()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _terminate(workers: Iterable) -> None:
    """End processes; those that have ended already are left alone."""
    for worker in workers:
        worker.terminate()


def _begin_worker(initializer: Optional[Callable[[], None]]) -> None:
    """Begin a worker process."""
    end_with_parent()
    if initializer is not None:
        initializer()


def _map(pool, function: Callable, items: Iterable) -> Iterator:
    """Start the workers deaf to Ctrl-C: it is their parent that answers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return pool.map(function, items)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(function, items)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
