"""Processes that work for this one: how many, and how they end.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

PATIENCE = 5.0  # seconds that workers get to end what they do


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
