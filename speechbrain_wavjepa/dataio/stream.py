"""ClipStream: an endless, exactly resumable stream of clips out of shards.

The order is a pure function of the seed and the pass, so a position is a
handful of numbers. Shards are permuted in every pass and split over processes
and workers; each worker reads its shards in order and shuffles blocks of
still encoded clips. A position names the block by where it began, and the
clip by its rank within it: to resume, one block is read again.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import collections
import itertools
import json
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from speechbrain.utils import checkpoints, distributed
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from speechbrain_wavjepa.dataio.clips import decode_clip
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

logger = logging.getLogger(__name__)

SHARDS, BLOCK = 0, 1  # kinds of draws, so that no two share a seed
MIN_CLIPS_TO_JUDGE = 100
NAMES_IN_ERROR = 5


def _check_same(saved: dict[str, int], now: dict[str, int]) -> None:
    """Refuse a checkpoint of other data or another split."""
    for name, value in now.items():
        if saved[name] != value:
            raise ValueError(
                f"The data's position was saved with {name}={saved[name]}, and "
                f"this run has {name}={value}. Resume with the shards, seed, "
                "shuffle_buffer, processes and num_workers of the checkpoint, "
                "or begin a new run in another output_folder."
            )


@dataclass(frozen=True)
class StreamPosition:
    """Where a worker's stream stands; by default before its first clip."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1
    passes: int = 0  # passes over the shards that are behind it
    shard: int = 0  # of this worker's, at which the current block began
    member: int = 0  # of that shard
    offset: int = 0  # in the shuffled order of the block
    seen: int = 0  # clips so far, the bad ones included
    bad: int = 0


class Clip(NamedTuple):
    """A decoded clip [T, C], "shard::member", and the position behind it."""

    waveform: Tensor
    key: str
    position: StreamPosition


class ClipStream(IterableDataset):
    """Decoded clips out of shards, endless, split and resumable.

    Arguments
    ---------
    shards : str or list
        What ``expand_shards`` understands, or its result.
    sample_rate, channels : int
        Rate in Hz and channels of the clips.
    clip_seconds : float
        Length of a clip. Of longer ones, each pass takes another part.
    channel_policy : str
        How several channels become one: "first" or "mean".
    level_db : float
        Level of the clips in dB relative to full scale.
    shuffle_buffer, seed : int
        Encoded clips shuffled together, in memory; seed of the order.
    max_bad_fraction : float
        Part of a worker's clips that may be unreadable before it stops.
    passes : int, optional
        Passes over the shards; endless by default.
    shuffle : bool
        False keeps the order of the shards and of the clips in them.
    rank, world_size : int, optional
        This process and their number (default: torch.distributed, torchrun).
    wanted : callable, optional
        Says whether the clip at a place, counted from 0, is decoded; the
        others are left out (default: all are).

    Example
    -------
    >>> from speechbrain_wavjepa.dataio import SyntheticCorpus
    >>> SyntheticCorpus(4).write_shards(getfixture("tmp_path"))
    >>> [len(c.waveform) for c in ClipStream(getfixture("tmp_path"), passes=1)]
    [32160, 32160, 32160, 32160]
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
        wanted: Optional[Callable[[int], bool]] = None,
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
        self.seed, self.passes, self.shuffle = seed, passes, shuffle
        self.max_bad_fraction, self.wanted = max_bad_fraction, wanted
        found = os.environ.get("RANK", 0), os.environ.get("WORLD_SIZE", 1)
        if distributed.is_distributed_initialized():
            group = torch.distributed  # without it, what torchrun sets
            found = group.get_rank(), group.get_world_size()
        self.rank = rank = int(found[0] if rank is None else rank)
        world_size = int(found[1] if world_size is None else world_size)
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank=} must lie below {world_size=}.")
        self.world_size = world_size
        # iterations that begin from now on resume behind these, by worker
        self.positions: dict[int, StreamPosition] = {}

    def check_split(self, num_workers: int = 0) -> None:
        """Stop before training if a worker would be left without a shard."""
        processes, workers = self.world_size, max(num_workers, 1)
        if len(self.shards) < processes * workers:
            raise ValueError(
                f"{len(self.shards)} shards cannot be split over {processes} "
                f"processes x {workers} workers = {processes * workers}: lower "
                "num_workers, or audioset_prepare.py's --clips_per_shard."
            )

    def advance(self, position: StreamPosition) -> None:
        """Let later iterations resume behind a clip or batch that was used."""
        self.positions.pop(position.worker, None)
        self.positions[position.worker] = position  # the last one used

    @cached_property
    def identity(self) -> dict[str, int]:
        """What a position depends on besides the split."""
        names = "\n".join(map(_base_name, self.shards))
        return {
            "seed": self.seed,
            "block_size": self.block_size,
            "clip_samples": self.decode_settings["clip_samples"],
            "num_shards": len(self.shards),
            "shard_names_crc32": zlib.crc32(os.fsencode(names)),
        }

    def __iter__(self) -> Iterator[Clip]:
        """Stream this worker's clips from its position on."""
        info = get_worker_info()
        num_workers = info.num_workers if info else 1
        self.check_split(num_workers)
        # a DataLoader asks its workers in turn
        last = next(reversed(self.positions.values()), None)
        worker = (info.id if info else 0) + (last.worker + 1 if last else 0)
        worker %= num_workers
        split = {"rank": self.rank, "world_size": self.world_size}
        split["num_workers"] = num_workers
        fresh = StreamPosition(worker=worker, **split)
        position = self.positions.get(worker, fresh)
        _check_same(asdict(position), split)
        return self._clips(position)

    def _clips(self, position: StreamPosition) -> Iterator[Clip]:
        """Decode the clips behind a position, leaving out the bad ones."""
        bad_keys = collections.deque(maxlen=NAMES_IN_ERROR)
        while self.passes is None or position.passes < self.passes:
            first = position
            for shard, member, place in self._members(position):
                if not (member.problem or self._is_wanted(position.seen)):
                    seen, bad = position.seen + 1, position.bad
                    position = replace(place, seen=seen, bad=bad)
                    continue
                key = printable(f"{shard_name(shard)}::{member.name}")
                num_bad = 0
                try:
                    waveform = self._decode(shard, member, place.passes)
                except (ValueError, OSError) as error:
                    logger.warning("Left out %s: %s", key, error)
                    bad_keys.append(key)
                    num_bad = member.num_lost if member.problem else 1
                seen = position.seen + max(num_bad, 1)
                bad = position.bad + num_bad
                position = replace(place, seen=seen, bad=bad)
                if seen >= MIN_CLIPS_TO_JUDGE:
                    self._judge(seen, bad, bad_keys, self.max_bad_fraction)
                if not (num_bad or member.problem):
                    yield Clip(waveform, key, position)
            seen, bad = position.seen, position.bad
            self._judge(seen, bad, bad_keys, self.max_bad_fraction)
            if first.shard == first.member == first.offset == 0:
                # a whole pass without a clip: a disk is gone
                self._judge(seen - first.seen, bad - first.bad, bad_keys, 1)
            position = replace(position, passes=position.passes + 1)
            position = replace(position, shard=0, member=0, offset=0)

    def _members(self, position: StreamPosition) -> Iterator[tuple]:
        """Read the rest of a pass in shuffled blocks: shard, clip, position."""
        rank, world_size, worker, num_workers = split = astuple(position)[:4]
        order = range(len(self.shards))
        if self.shuffle:
            order = _permute(len(order), SHARDS, self.seed, position.passes)
        order = order[rank * num_workers + worker :: world_size * num_workers]
        shards = [self.shards[index] for index in order]
        starts = itertools.chain([position.member], itertools.repeat(0))
        members = (
            (number, member)
            for number, start in zip(range(position.shard, len(shards)), starts)
            for member in iterate_members(shards[number], start)
        )
        while block := list(itertools.islice(members, self.block_size)):
            last_shard, last = block[-1]
            began = position.passes, position.shard, position.member
            order = _permute(len(block), BLOCK, self.seed, *began, *split)
            after = {"shard": last_shard, "member": last.index + 1, "offset": 0}
            for offset in range(position.offset, len(block)):
                shard, member = block[order[offset]]
                block[order[offset]] = None  # frees its memory
                is_last = offset + 1 == len(block)
                behind = after if is_last else {"offset": offset + 1}
                position = replace(position, **behind)
                yield shards[shard], member, position

    def _decode(self, shard: Shard, member: Member, passes: int) -> Tensor:
        """Decode a clip; ValueError or OSError say why it cannot be."""
        if member.problem:
            raise ValueError(member.problem)
        name = f"{_base_name(shard)}::{member.name}"
        draw = stable_seed(self.seed, zlib.crc32(os.fsencode(name))), passes
        part = {"start": member.start, "stop": member.stop, "draw": draw}
        return decode_clip(member.data, **self.decode_settings, **part)

    def _is_wanted(self, place: int) -> bool:
        """Say whether the clip at a place is decoded."""
        return self.wanted is None or self.wanted(place)

    def _judge(self, seen: int, bad: int, bad_keys, allowed: float) -> None:
        """Stop if too many clips failed, or all of them."""
        if bad <= allowed * seen and (bad < seen or seen == 0):
            return
        raise ValueError(
            f"{bad} of {seen} clips could not be read ({bad / seen:.1%}), and "
            f"max_bad_fraction={self.max_bad_fraction} are allowed: check the "
            "shards (audioset_prepare.py --check) or raise it. The last: "
            f"{', '.join(bad_keys)}."
        )


def _permute(size: int, *seeds: int) -> list[int]:
    """Permute range(size); always alike for the same integers."""
    generator = torch.Generator().manual_seed(stable_seed(*seeds))
    return torch.randperm(size, generator=generator).tolist()


def _base_name(shard: Shard) -> str:
    """Name a shard, whatever folder it lies in."""
    return os.path.basename(shard_name(shard))


@partial(checkpoints.register_checkpoint_hooks, save_on_main_only=False)
class StreamState:
    """The position of a ClipStream in checkpoints, for an exact resume.

    Batches are decoded ahead of their use, so only the training loop knows
    which batch was the last one used, and tells it by ``update``. Every
    process must call the saver, since positions are gathered.

    Example
    -------
    >>> from speechbrain_wavjepa.dataio import SyntheticCorpus
    >>> SyntheticCorpus(4).write_shards(getfixture("tmp_path"))
    >>> state, stream = StreamState(), ClipStream(getfixture("tmp_path"))
    >>> state.attach(stream)
    >>> clips = iter(stream)
    >>> state.update(next(clips).position)
    >>> next(iter(stream)).key == next(clips).key
    True
    """

    def __init__(self):
        self.stream: Optional[ClipStream] = None
        self.num_workers: Optional[int] = None
        self.num_bad_scenes = 0  # counted by the training loop

    def attach(self, stream: ClipStream, num_workers: Optional[int] = None):
        """Name the stream, and its workers to be checked when loading."""
        self.stream = stream
        self.num_workers = None if num_workers is None else max(num_workers, 1)

    @property
    def num_bad(self) -> int:
        """Clips that this process has met and could not read."""
        return sum(p.bad for p in self.stream.positions.values())

    def update(self, position: StreamPosition) -> None:
        """Take note of the position of a batch that was used."""
        self.stream.advance(position)

    @checkpoints.mark_as_saver
    def save(self, path: Path) -> None:
        """Gather the state of all processes; the main one writes it."""
        positions = [*map(asdict, self.stream.positions.values())]
        state = {"identity": self.stream.identity, "positions": positions}
        state["bad_scenes"] = self.num_bad_scenes
        states = [state]
        if distributed.is_distributed_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, state)
        if distributed.if_main_process():
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"processes": states}, file, indent=1)

    @checkpoints.mark_as_loader
    def load(self, path: Path, end_of_epoch: bool = True) -> None:
        """Put the stream behind the last batch used, if nothing changed."""
        del end_of_epoch  # the stream knows no epochs
        states = json.loads(Path(path).read_text("utf-8"))["processes"]
        split = {"rank": self.stream.rank, "world_size": self.stream.world_size}
        if self.num_workers:
            split["num_workers"] = self.num_workers
        _check_same({**split, "world_size": len(states)}, split)
        state = states[self.stream.rank]
        _check_same(state["identity"], self.stream.identity)
        self.stream.positions = {}
        for saved in state["positions"]:
            _check_same(saved, split)
            self.stream.advance(StreamPosition(**saved))
        self.num_bad_scenes = state["bad_scenes"]
