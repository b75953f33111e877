"""The position of a ClipStream in checkpoints.

Batches are decoded ahead of their use, so only the training loop knows which
batch was the last one used. It tells this object, which goes into
SpeechBrain's Checkpointer and puts the stream back to the next batch.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import json
from pathlib import Path
from typing import Optional

import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process

from speechbrain_wavjepa.data.stream_order import check_split, first_position


@functools.partial(register_checkpoint_hooks, save_on_main_only=False)
class StreamState:
    """Remembers the last batch used of each worker, for an exact resume.

    It is made before the stream (in a yaml) and attached to it later. Every
    process must call the saver, since positions are gathered.

    Example
    -------
    >>> import numpy, soundfile
    >>> from torch.utils.data import DataLoader
    >>> from speechbrain_wavjepa.data.batches import ClipCollator
    >>> from speechbrain_wavjepa.shards import ClipStream
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
