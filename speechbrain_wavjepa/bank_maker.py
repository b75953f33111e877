"""Make a bank of simulated rooms: parallel, resumable, the same every time.

A scene is a pure function of the seed, its room and its number in the room.
The rooms of the test part are not those of the training part.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import itertools
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import numpy as np
from tqdm import tqdm

from speechbrain_wavjepa import __version__
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.heads import Head, MeasuredHead, SphericalHead
from speechbrain_wavjepa.rooms import RECEIVERS, encode_responses
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import (
    atomic_file,
    claim,
    compare,
    hash_file,
    hold,
)
from speechbrain_wavjepa.utils.processes import count_cores, worker_map

logger = logging.getLogger(__name__)

# A scene: number of its room, number within the room.
SceneNumber = tuple[int, int]


def make_bank(
    folder: Union[str, Path],
    num_rooms: int = 85,
    scenes_per_room: int = 100,
    test_fraction: float = 15 / 85,
    scenes_per_shard: int = 100,
    sample_rate: int = 16000,
    hrtf: Optional[str] = None,
    seed: int = 0,
    workers: Optional[int] = None,
) -> None:
    """Make a bank; whole shards that are there are kept.

    Arguments
    ---------
    folder : str or Path
        Where to write train/ and test/.
    num_rooms : int
        Rooms of both parts.
    scenes_per_room : int
        Scenes in each room.
    test_fraction : float
        Part of the rooms that is kept for testing.
    scenes_per_shard : int
        Scenes of a shard.
    sample_rate : int
        Rate of the responses in Hz.
    hrtf : str, optional
        A SOFA file with a measured head; a rigid sphere by default.
    seed : int
        Another seed makes other rooms.
    workers : int, optional
        Processes (default: one for each core).

    Raises
    ------
    ValueError
        If a setting is out of its range, or the folder holds something else
        or is in use.

    Example
    -------
    >>> from speechbrain_wavjepa.rooms import BRIRBank
    >>> folder = getfixture("tmp_path")
    >>> make_bank(folder, num_rooms=2, scenes_per_room=1, workers=1)
    >>> len(BRIRBank(folder)), len(BRIRBank(folder, split="test"))
    (1, 1)
    """
    check_settings(sample_rate, test_fraction, scenes_per_shard)
    num_test = max(round(num_rooms * test_fraction), 1)
    workers = count_cores() if workers is None else workers
    if num_test >= num_rooms or min(scenes_per_room, workers) < 1 or seed < 0:
        raise ValueError(
            "A bank needs two rooms or more, one of them for testing, scenes "
            f"in each, a worker and a seed of 0 or more, got {num_rooms=}, "
            f"{test_fraction=}, {scenes_per_room=}, {workers=}, {seed=}."
        )
    folder = Path(folder)
    make_head(hrtf, sample_rate)  # a bad file is refused before anything else
    made_with = {
        "bank": "simulated",
        "num_rooms": num_rooms,
        "scenes_per_room": scenes_per_room,
        "test_rooms": num_test,
        "scenes_per_shard": scenes_per_shard,
        "sample_rate": sample_rate,
        "hrtf": None if hrtf is None else hash_file(hrtf)[:16],
        "seed": seed,
    }
    first_test = num_rooms - num_test
    shards = []
    for split, rooms in (
        ("train", range(first_test)),
        ("test", range(first_test, num_rooms)),
    ):
        scenes = [(r, k) for r in rooms for k in range(scenes_per_room)]
        for number, start in enumerate(range(0, len(scenes), scenes_per_shard)):
            path = folder / split / f"scenes-{number:06d}.tar"
            shards.append((path, scenes[start : start + scenes_per_shard]))
    if all(path.exists() for path, _ in shards):
        claim(folder, made_with)
        return  # other runs may read it at the same time
    pyroomacoustics = require("pyroomacoustics", "scenes")
    with hold(folder):
        claim(folder, made_with)
        _write_versions(folder, pyroomacoustics.__version__)
        missing = [shard for shard in shards if not shard[0].exists()]
        for path, _ in missing:
            path.parent.mkdir(exist_ok=True)
        _make_shards(missing, sample_rate, hrtf, seed, workers)


def check_settings(
    sample_rate: int, test_fraction: float, scenes_per_shard: int
) -> None:
    """Refuse settings that no bank can have.

    Arguments
    ---------
    sample_rate : int
        Rate of the responses in Hz.
    test_fraction : float
        Part of the rooms that is kept for testing.
    scenes_per_shard : int
        Scenes of a shard.

    Raises
    ------
    ValueError
        If one is out of its range.

    Example
    -------
    >>> check_settings(16000, 0.2, 100)
    """
    for name, value, low, high in (
        ("sample_rate", sample_rate, 1000, 768000),
        ("test_fraction", test_fraction, 0, 1),
        ("scenes_per_shard", scenes_per_shard, 1, math.inf),
    ):
        if not low <= value <= high:
            raise ValueError(
                f"{name} must lie between {low} and {high}, got {value}."
            )


def _write_versions(folder: Path, simulator: str) -> None:
    """Note what a bank was begun with; tell if another version goes on."""
    path = folder / "versions.json"
    versions = {
        "pyroomacoustics": simulator,
        "numpy": np.__version__,
        "speechbrain_wavjepa": __version__,
    }
    if not path.exists():
        with atomic_file(path) as aside:
            aside.write_text(json.dumps(versions, indent=1), encoding="utf-8")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if different := compare(before, versions):
        logger.warning(
            f"{folder} was begun with {different}: the scenes from now on may "
            "differ from what that version would have made."
        )


def make_head(hrtf: Optional[str], sample_rate: int) -> Head:
    """Make the sphere, or read a measured head.

    Arguments
    ---------
    hrtf : str or None
        A SOFA file.
    sample_rate : int
        Rate of its responses in Hz.

    Returns
    -------
    Head
        The head.

    Example
    -------
    >>> make_head(None, 16000).radius
    0.0875
    """
    if hrtf is None:
        return SphericalHead(sample_rate)
    return MeasuredHead(hrtf, sample_rate)


def _make_shards(shards, sample_rate, hrtf, seed, workers) -> None:
    """Simulate all scenes in processes; write a shard when it is complete."""
    run = functools.partial(
        make_scene, sample_rate=sample_rate, hrtf=hrtf, seed=seed
    )
    numbers = [number for _, scenes in shards for number in scenes]
    if workers == 1 or len(numbers) == 1:
        workers = 0  # none besides this process
    bar = tqdm(total=len(numbers), desc="rooms", unit=" scenes")
    with worker_map(workers) as map_function, bar:
        made = _count(map_function(run, numbers), bar)
        for path, scenes in shards:
            write_shard(path, itertools.islice(made, len(scenes)), ".npy")


def _count(scenes: Iterator, progress: tqdm) -> Iterator:
    """Pass scenes on and move the progress bar."""
    for scene in scenes:
        progress.update()
        yield scene


def make_scene(
    number: SceneNumber, sample_rate: int, hrtf: Optional[str], seed: int
) -> tuple[str, bytes, dict]:
    """Simulate one scene: key, encoded responses, what is known about it.

    Arguments
    ---------
    number : (int, int)
        The room, and the scene in it.
    sample_rate : int
        Rate of the responses in Hz.
    hrtf : str or None
        A SOFA file, or None for a sphere.
    seed : int
        Seed of the bank.

    Returns
    -------
    (str, bytes, dict)
        What a shard holds of it.

    Example
    -------
    >>> key, data, about = make_scene((0, 1), 16000, None, seed=0)
    >>> key, about["room"], about["receivers"]
    ('room-0000-0001', 'room-0000', ['left', 'right', 'omni'])
    """
    # late: they need pyroomacoustics, which other recipes do without
    from speechbrain_wavjepa.room_simulation import (
        draw_places,
        draw_room,
        simulate,
    )

    room_number, scene = number
    head = _cached_head(hrtf, sample_rate)
    room = draw_room(
        f"room-{room_number:04d}", np.random.default_rng([seed, room_number])
    )
    random = np.random.default_rng([seed, room_number, scene])
    places = draw_places(room, random)
    responses, measured = simulate(
        room, places, head, sample_rate, int(random.integers(2**31))
    )
    about = {
        "sample_rate": sample_rate,
        "receivers": list(RECEIVERS),
        "room": room.name,
        "room_size": [float(length) for length in room.size],
        "t60": room.t60,
        "t60_measured": measured,
        **places,
    }
    return f"{room.name}-{scene:04d}", encode_responses(responses), about


@functools.cache
def _cached_head(hrtf: Optional[str], sample_rate: int) -> Head:
    """Make a head once in each process, which computes in one thread."""
    require("pyroomacoustics", "scenes").constants.set("num_threads", 1)
    return make_head(hrtf, sample_rate)
