"""The order of clips: a pure function of the seed, the pass and the split.

That is what makes a stream resumable: its position is a dictionary of a few
integers, and the same position gives the same next clip.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import os
from typing import Optional

import torch

from speechbrain_wavjepa.utils.seed import stable_seed

SHARDS, BLOCK = 0, 1  # kinds of draws, so that no two share a seed
SPLIT = ("rank", "world_size", "worker", "num_workers")


def find_process(
    rank: Optional[int] = None, world_size: Optional[int] = None
) -> tuple[int, int]:
    """Fill in what is not given from torch.distributed or torchrun.

    Arguments
    ---------
    rank : int, optional
        Number of this process.
    world_size : int, optional
        Number of processes.

    Returns
    -------
    tuple of int
        Both numbers.

    Raises
    ------
    ValueError
        If the number of this process is none of the processes'.

    Example
    -------
    >>> find_process(1, 2)
    (1, 2)
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found_rank = torch.distributed.get_rank()
        found_size = torch.distributed.get_world_size()
    else:  # what torchrun sets
        found_rank = int(os.environ.get("RANK", 0))
        found_size = int(os.environ.get("WORLD_SIZE", 1))
    rank = found_rank if rank is None else rank
    world_size = found_size if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank={rank} must lie below world_size={world_size}: give both "
            "or neither."
        )
    return rank, world_size


def first_position(
    rank: int = 0, world_size: int = 1, worker: int = 0, num_workers: int = 1
) -> dict:
    """Make the position before the first clip of a worker.

    Arguments
    ---------
    rank : int
        Number of the process.
    world_size : int
        Number of processes.
    worker : int
        Number of the worker in its process.
    num_workers : int
        Workers of each process.

    Returns
    -------
    dict
        The split; the pass; shard (of this worker's) and member at which the
        current block began and the offset in its shuffled order; clips seen
        and clips bad so far.

    Example
    -------
    >>> first_position(worker=2, num_workers=3)["worker"]
    2
    """
    return {
        "rank": rank,
        "world_size": world_size,
        "worker": worker,
        "num_workers": num_workers,
        "pass": 0,
        "shard": 0,
        "member": 0,
        "offset": 0,
        "seen": 0,
        "bad": 0,
    }


def check_split(position: dict, expected: dict) -> None:
    """Refuse to resume a position in another split of the shards.

    Arguments
    ---------
    position : dict
        The position to resume.
    expected : dict
        A position of the run that resumes it.

    Raises
    ------
    ValueError
        If the processes or workers are not the same.

    Example
    -------
    >>> check_split(first_position(num_workers=2), first_position())
    Traceback (most recent call last):
        ...
    ValueError: The data's position was saved with num_workers=2, and this ...
    """
    for name in SPLIT:
        if position[name] != expected[name]:
            raise ValueError(
                f"The data's position was saved with {name}={position[name]}, "
                f"and this run has {name}={expected[name]}: the shards would "
                "be split otherwise and clips be seen twice. Resume with the "
                "processes and num_workers of the checkpoint, or begin a new "
                "run in another output_folder."
            )


def split_shards(
    shards: list[str], position: dict, seed: Optional[int]
) -> list[str]:
    """Permute the shards of a pass and give a worker its part.

    Arguments
    ---------
    shards : list of str
        All shards.
    position : dict
        A position; its pass and its split count.
    seed : int, optional
        Seed of the stream; None keeps the order of the list.

    Returns
    -------
    list of str
        The worker's shards; those of all workers and processes are disjoint
        and together complete.

    Example
    -------
    >>> sorted(split_shards(["a", "b", "c"], first_position(), seed=0))
    ['a', 'b', 'c']
    """
    order = list(range(len(shards)))
    if seed is not None:
        order = _permutation(len(shards), SHARDS, seed, position["pass"])
    first = position["rank"] * position["num_workers"] + position["worker"]
    step = position["world_size"] * position["num_workers"]
    return [shards[index] for index in order[first::step]]


def shuffle_block(size: int, position: dict, seed: int) -> list[int]:
    """Permute the clips of a block.

    Arguments
    ---------
    size : int
        Clips of the block.
    position : dict
        A position in the block; where the block began and the split count.
    seed : int
        Seed of the stream.

    Returns
    -------
    list of int
        The permutation.

    Example
    -------
    >>> sorted(shuffle_block(4, first_position(), seed=0))
    [0, 1, 2, 3]
    """
    began = [position[name] for name in ("pass", "shard", "member")]
    split = [position[name] for name in SPLIT]
    return _permutation(size, BLOCK, seed, *began, *split)


def _permutation(size: int, *seeds: int) -> list[int]:
    generator = torch.Generator().manual_seed(stable_seed(*seeds))
    return torch.randperm(size, generator=generator).tolist()
