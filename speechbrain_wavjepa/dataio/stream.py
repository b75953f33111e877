"""ClipStream: an endless, exactly resumable stream of clips out of shards.

The order of the clips is a pure function of the seed and the pass, so a
position is a handful of numbers. Shards are permuted in every pass and split
over processes and workers; each worker reads its shards in order and
shuffles blocks of still encoded clips. A position names the block by the
place where it began, and the clip by its rank within the block: to resume,
one block is read again, and what lies before it in its tar file passed over.
Of a recording longer than a clip, each pass takes another part; which one is
a function of its name, the seed and the pass.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026

The order of clips: a pure function of the seed, the pass and the split.

That is what makes a stream resumable: its position is a dictionary of a few
integers, and the same position gives the same next clip.

Authors
 * The speechbrain_wavjepa developers 2026

The position of a ClipStream in checkpoints.

Batches are decoded ahead of their use, so only the training loop knows which
batch was the last one used. It tells this object, which goes into
SpeechBrain's Checkpointer and puts the stream back to the next batch.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import collections
import functools
import itertools
import json
import logging
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional, Union

import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from speechbrain_wavjepa.dataio.clips import Clip, decode_clip
from speechbrain_wavjepa.dataio.members import Member, iterate_members
from speechbrain_wavjepa.dataio.shards import (
    Shard,
    check_shards,
    expand_shards,
    printable,
    shard_name,
)
from speechbrain_wavjepa.processing.audio import select_channels
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


@functools.partial(register_checkpoint_hooks, save_on_main_only=False)
class StreamState:
    """Remembers the last batch used of each worker, for an exact resume.

    It is made before the stream (in a yaml) and attached to it later. Every
    process must call the saver, since positions are gathered.

    Example
    -------
    >>> import numpy, soundfile
    >>> from torch.utils.data import DataLoader
    >>> from speechbrain_wavjepa.dataio import ClipCollator
    >>> from speechbrain_wavjepa.dataio import ClipStream
    >>> folder = getfixture("tmp_path")
    >>> for number in range(4):
    ...     clip = numpy.full(160, (number + 1) / 5)
    ...     soundfile.write(folder / f"{number}.flac", clip, 16000)
    >>> stream = ClipStream(str(folder))
    >>> loader = DataLoader(stream, 2, collate_fn=ClipCollator(None, 200))
    >>> state = StreamState()
    >>> state.attach(stream)
    >>> batches = iter(loader)
    >>> state.update(next(batches).position)
    >>> next(iter(loader)).keys == next(batches).keys
    True
    """

    def __init__(self):
        self.stream = None
        self.num_workers = None
        self.positions: dict[int, dict] = {}
        self.next_worker = 0
        self.num_bad_scenes = 0  # counted by the training loop

    def attach(self, stream, num_workers: Optional[int] = None) -> None:
        """Name the stream whose place is remembered and put back.

        Arguments
        ---------
        stream : ClipStream
            The stream of this process.
        num_workers : int, optional
            Workers of its DataLoader. If given, a checkpoint of another
            number is refused when it is loaded, not at the first batch.
        """
        self.stream = stream
        self.num_workers = None if num_workers is None else max(num_workers, 1)

    @property
    def num_seen(self) -> int:
        """Clips that this process has read so far, the bad ones included."""
        return sum(position["seen"] for position in self.positions.values())

    @property
    def num_bad(self) -> int:
        """Clips that this process has met and could not read."""
        return sum(position["bad"] for position in self.positions.values())

    def update(self, position: dict) -> None:
        """Take note of the position of a batch that was used."""
        worker = position["worker"]
        self.positions[worker] = position
        # a DataLoader asks its workers in turn
        self.next_worker = (worker + 1) % position["num_workers"]
        self.stream.load_positions(self.positions, self.next_worker)

    def state_dict(self) -> dict:
        """Give the state of this process, made of integers."""
        return {
            "identity": self.stream.identity,
            "next_worker": self.next_worker,
            "positions": [self.positions[w] for w in sorted(self.positions)],
            "bad_scenes": self.num_bad_scenes,
        }

    def load_state_dict(self, state: dict) -> None:
        """Put the stream to the batch after the last one used.

        Arguments
        ---------
        state : dict
            A state of the same process.

        Raises
        ------
        ValueError
            If shards, seed, shuffle_buffer, processes or workers changed.
        """
        for name, value in self.stream.identity.items():
            if state["identity"][name] != value:
                raise ValueError(
                    "The checkpoint's place in the data does not fit: it was "
                    f"saved with {name}={state['identity'][name]}, and this "
                    f"run has {name}={value}. Resume with the shards, seed "
                    "and shuffle_buffer of the checkpoint, or begin a new run "
                    "in another output_folder."
                )
        for position in state["positions"]:
            num_workers = self.num_workers or position["num_workers"]
            expected = first_position(
                self.stream.rank,
                self.stream.world_size,
                position["worker"],
                num_workers,
            )
            check_split(position, expected)
        self.positions = {p["worker"]: dict(p) for p in state["positions"]}
        self.next_worker = state["next_worker"]
        self.num_bad_scenes = state.get("bad_scenes", 0)  # of earlier versions
        self.stream.load_positions(self.positions, self.next_worker)

    @mark_as_saver
    def save(self, path: Path) -> None:
        """Gather the state of all processes; the main one writes it."""
        states = [self.state_dict()]
        if (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
        ):
            states = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, self.state_dict())
        if if_main_process():
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"processes": states}, file, indent=1)

    @mark_as_loader
    def load(self, path: Path, end_of_epoch: bool = True) -> None:
        """Take this process's state out of a checkpoint."""
        del end_of_epoch  # the stream knows no epochs
        with open(path, encoding="utf-8") as file:
            states = json.load(file)["processes"]
        world_size = self.stream.world_size
        if len(states) != world_size:
            raise ValueError(
                f"The checkpoint holds the data's positions of {len(states)} "
                f"processes, and this run has {world_size}. Resume with as "
                "many processes, or begin a new run in another output_folder."
            )
        self.load_state_dict(states[self.stream.rank])


# the whole data path is imported from here
logger = logging.getLogger(__name__)

MIN_CLIPS_TO_JUDGE = 100
NAMES_IN_ERROR = 5


class ClipStream(IterableDataset):
    """Decoded clips out of shards, endless, split and resumable.

    Arguments
    ---------
    shards : str or list
        What ``sources.expand_shards`` understands, or its result.
    sample_rate : int
        Rate of the clips in Hz.
    clip_seconds : float
        Length of a clip. Of longer ones, each pass takes another part.
    channels : int
        Channels of the clips.
    channel_policy : str
        How several channels become one: "first" or "mean".
    level_db : float
        Level of the clips in dB relative to full scale.
    shuffle_buffer : int
        Encoded clips that are shuffled together, and kept in memory.
    seed : int
        Seed of the order.
    max_bad_fraction : float
        Part of a worker's clips that may be unreadable before it stops.
    passes : int, optional
        Passes over the shards; endless by default.
    shuffle : bool
        False keeps the order of the shards and of the clips in them.
    rank : int, optional
        Number of this process (default: torch.distributed, or RANK).
    world_size : int, optional
        Number of processes (default: torch.distributed, or WORLD_SIZE).

    Raises
    ------
    ValueError
        If a setting is out of its range or no shard is found.

    Example
    -------
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "0.flac", numpy.ones(8000) / 2, 16000)
    >>> for clip in ClipStream(str(folder), passes=1):
    ...     print(clip.waveform.shape, clip.position["seen"])
    torch.Size([8000, 1]) 1
    """

    def __init__(
        self,
        shards: Union[str, list[Shard]],
        sample_rate: int = 16000,
        clip_seconds: float = 10.0,
        channels: int = 1,
        channel_policy: str = "first",
        level_db: float = -14.0,
        shuffle_buffer: int = 256,
        seed: int = 0,
        max_bad_fraction: float = 0.05,
        passes: Optional[int] = None,
        shuffle: bool = True,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
    ):
        for name, value, low, high in (
            ("sample_rate", sample_rate, 1, math.inf),
            ("clip_seconds", clip_seconds, 0.001, 3600),
            ("channels", channels, 1, math.inf),
            ("shuffle_buffer", shuffle_buffer, 1, math.inf),
            ("max_bad_fraction", max_bad_fraction, 0, 1),
        ):
            if not low <= value <= high:
                raise ValueError(
                    f"{name} must lie between {low} and {high}, got {value}."
                )
        select_channels(torch.zeros(1, 1), channels, channel_policy)
        is_spec = isinstance(shards, (str, os.PathLike))
        self.shards = expand_shards(shards) if is_spec else list(shards)
        check_shards(self.shards)
        self.decode_settings = {
            "sample_rate": sample_rate,
            "clip_samples": round(clip_seconds * sample_rate),
            "channels": channels,
            "channel_policy": channel_policy,
            "level_db": level_db,
        }
        self.block_size = shuffle_buffer if shuffle else 1
        self.seed = seed
        self.max_bad_fraction = max_bad_fraction
        self.passes = passes
        self.shuffle = shuffle
        self.rank, self.world_size = find_process(rank, world_size)
        self._positions: dict[int, dict] = {}
        self._first_worker = 0

    def check_split(
        self, num_workers: int = 0, world_size: Optional[int] = None
    ) -> None:
        """Stop before training if a worker would be left without a shard.

        Arguments
        ---------
        num_workers : int
            Workers of each process's DataLoader.
        world_size : int, optional
            Number of processes, if not that of this stream.

        Raises
        ------
        ValueError
            If there are fewer shards than workers in all processes.
        """
        processes = self.world_size if world_size is None else world_size
        workers = max(num_workers, 1)
        if len(self.shards) < processes * workers:
            raise ValueError(
                f"{len(self.shards)} shards cannot be split over {processes} "
                f"processes x {workers} workers = {processes * workers}: set "
                f"num_workers to {len(self.shards) // processes} at most, or "
                "make more, smaller shards (audioset_prepare.py "
                "--clips_per_shard)."
            )

    def load_positions(
        self, positions: dict[int, dict], first_worker: int = 0
    ) -> None:
        """Let iterations that begin from now on continue elsewhere.

        Arguments
        ---------
        positions : dict
            By worker, the position of the last clip that was used. A worker
            without one starts at the beginning.
        first_worker : int
            Worker that gives the first batch: the one after the worker of
            the last batch, since a DataLoader asks them in turn.
        """
        self._positions = {int(w): dict(p) for w, p in positions.items()}
        self._first_worker = first_worker

    @functools.cached_property
    def identity(self) -> dict:
        """What a position depends on besides the split; integers only."""
        names = "\n".join(map(_base_name, self.shards))
        return {
            "seed": self.seed,
            "block_size": self.block_size,
            "clip_samples": self.decode_settings["clip_samples"],
            "num_shards": len(self.shards),
            "shard_names_crc32": zlib.crc32(os.fsencode(names)),
        }

    def __iter__(self) -> Iterator[Clip]:
        """Stream this worker's clips from its loaded position on."""
        info = get_worker_info()
        num_workers = info.num_workers if info else 1
        self.check_split(num_workers)
        worker = self._first_worker + (info.id if info else 0)
        first = first_position(
            self.rank, self.world_size, worker % num_workers, num_workers
        )
        position = self._positions.get(first["worker"], first)
        check_split(position, first)
        return self._clips(position)

    def _clips(self, position: dict) -> Iterator[Clip]:
        """Decode the clips behind a position, leaving out the bad ones."""
        seen, bad = position["seen"], position["bad"]
        bad_keys = collections.deque(maxlen=NAMES_IN_ERROR)
        while self.passes is None or position["pass"] < self.passes:
            began = [position[name] for name in ("shard", "member", "offset")]
            seen_before, bad_before = seen, bad
            for shard, member, place in self._members(position):
                key = printable(f"{shard_name(shard)}::{member.name}")
                waveform, num_bad, reason = self._decode(shard, member, place)
                seen, bad = seen + max(num_bad, 1), bad + num_bad
                if reason:
                    logger.warning("Left out %s: %s", key, reason)
                    bad_keys.append(key)
                if seen >= MIN_CLIPS_TO_JUDGE:
                    self._judge(seen, bad, bad_keys)
                if waveform is not None:
                    yield Clip(
                        waveform, key, {**place, "seen": seen, "bad": bad}
                    )
            self._judge(seen, bad, bad_keys)
            if not any(began):  # a whole pass without a clip: a disk is gone
                self._judge(seen - seen_before, bad - bad_before, bad_keys, 1)
            position = {**position, "pass": position["pass"] + 1}
            position.update(shard=0, member=0, offset=0)

    def _members(self, position: dict) -> Iterator[tuple[Shard, Member, dict]]:
        """Read the rest of a pass in shuffled blocks: shard, clip, position."""
        seed = self.seed if self.shuffle else None
        shards = split_shards(self.shards, position, seed)
        members = _read_shards(shards, position["shard"], position["member"])
        while block := list(itertools.islice(members, self.block_size)):
            last_shard, last = block[-1]
            after = {"shard": last_shard, "member": last.index + 1, "offset": 0}
            order = shuffle_block(len(block), position, self.seed)
            for offset in range(position["offset"], len(block)):
                shard, member = block[order[offset]]
                block[order[offset]] = None  # frees its memory
                position = {**position, "offset": offset + 1}
                if offset + 1 == len(block):
                    position.update(after)
                yield shards[shard], member, position

    def _decode(
        self, shard: Shard, member: Member, position: dict
    ) -> tuple[Optional[Tensor], int, str]:
        """Decode a clip: waveform, or the number of bad clips and why."""
        if member.problem:
            return None, member.num_lost, member.problem
        name = f"{_base_name(shard)}::{member.name}"
        seed = stable_seed(self.seed, zlib.crc32(os.fsencode(name)))
        try:
            waveform = decode_clip(
                member.data,
                **self.decode_settings,
                start=member.start,
                stop=member.stop,
                draw=(seed, position["pass"]),
            )
        except (ValueError, OSError) as error:
            return None, 1, str(error)
        return waveform, 0, ""

    def _judge(
        self,
        seen: int,
        bad: int,
        bad_keys: Iterable[str],
        allowed: Optional[float] = None,
    ) -> None:
        """Stop if too many clips failed, or all of them."""
        allowed = self.max_bad_fraction if allowed is None else allowed
        if bad <= allowed * seen and (bad < seen or seen == 0):
            return
        raise ValueError(
            f"{bad} of {seen} clips could not be read ({bad / seen:.1%}), and "
            f"max_bad_fraction={self.max_bad_fraction} are allowed. The last: "
            f"{', '.join(bad_keys)}. Check the shards (audioset_prepare.py "
            "--check) or raise max_bad_fraction in the yaml."
        )


def _base_name(shard: Shard) -> str:
    """Name a shard, whatever folder it lies in."""
    return os.path.basename(shard_name(shard))


def _read_shards(
    shards: list[Shard], first_shard: int, first_member: int
) -> Iterator[tuple[int, Member]]:
    """Chain the members of shards, from a member of a shard on."""
    for index in range(first_shard, len(shards)):
        start = first_member if index == first_shard else 0
        for member in iterate_members(shards[index], start):
            yield index, member
