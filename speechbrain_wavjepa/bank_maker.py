"""Make a bank of simulated rooms: parallel, resumable, the same every time.

A scene is a pure function of the seed, its room and its number in the room.
The rooms of the test part are not those of the training part.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import concurrent.futures
import functools
import itertools
import json
import multiprocessing
import os
from pathlib import Path
from typing import Optional, Union

import numpy as np
import pyroomacoustics
from tqdm import tqdm

from speechbrain_wavjepa import __version__
from speechbrain_wavjepa.data.shard_writer import write_shard
from speechbrain_wavjepa.heads import Head, MeasuredHead, SphericalHead
from speechbrain_wavjepa.room_simulation import (
    draw_places,
    draw_room,
    simulate,
)
from speechbrain_wavjepa.rooms import RECEIVERS, encode_responses
from speechbrain_wavjepa.utils.files import atomic_file

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
        Where to write train/, test/ and manifest.json.
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
        If a setting is out of its range, or the folder holds something else.

    Example
    -------
    >>> from speechbrain_wavjepa.rooms import BRIRBank
    >>> folder = getfixture("tmp_path")
    >>> make_bank(folder, num_rooms=2, scenes_per_room=1, workers=1)
    >>> len(BRIRBank(folder)), len(BRIRBank(folder, split="test"))
    (1, 1)
    """
    num_test = max(round(num_rooms * test_fraction), 1)
    if num_test >= num_rooms or scenes_per_room < 1 or scenes_per_shard < 1:
        raise ValueError(
            "A bank needs two rooms or more, one of them for testing, and "
            f"scenes in each, got num_rooms={num_rooms}, test_fraction="
            f"{test_fraction}, scenes_per_room={scenes_per_room}, "
            f"scenes_per_shard={scenes_per_shard}."
        )
    folder = Path(folder)
    make_head(hrtf, sample_rate)  # a bad file is refused before anything else
    claim_folder(
        folder,
        {
            "bank": "speechbrain_wavjepa.bank_maker",
            "num_rooms": num_rooms,
            "scenes_per_room": scenes_per_room,
            "test_rooms": num_test,
            "scenes_per_shard": scenes_per_shard,
            "sample_rate": sample_rate,
            "hrtf": None if hrtf is None else Path(hrtf).name,
            "seed": seed,
        },
        {
            "pyroomacoustics": pyroomacoustics.__version__,
            "numpy": np.__version__,
            "speechbrain_wavjepa": __version__,
        },
    )
    first_test = num_rooms - num_test
    jobs = []
    for split, rooms in (
        ("train", range(first_test)),
        ("test", range(first_test, num_rooms)),
    ):
        (folder / split).mkdir(exist_ok=True)
        scenes = [(r, k) for r in rooms for k in range(scenes_per_room)]
        for number, start in enumerate(range(0, len(scenes), scenes_per_shard)):
            path = folder / split / f"scenes-{number:06d}.tar"
            if not path.exists():
                jobs.append((path, scenes[start : start + scenes_per_shard]))
    _make_shards(jobs, sample_rate, hrtf, seed, workers, str(folder))


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


def _make_shards(jobs, sample_rate, hrtf, seed, workers, title) -> None:
    """Simulate all scenes in processes; write a shard when it is complete."""
    workers = workers or len(os.sched_getaffinity(0))
    run = functools.partial(
        make_scene, sample_rate=sample_rate, hrtf=hrtf, seed=seed
    )
    total = sum(len(scenes) for _, scenes in jobs)
    with tqdm(
        total=total, desc=f"rooms, {title}", unit=" scenes", disable=not jobs
    ) as progress:
        if workers == 1 or total < 2:
            _write_all(jobs, map, run, progress)
            return
        pool = concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn")
        )
        try:
            _write_all(jobs, pool.map, run, progress)
        finally:
            # after an error, as a full disk, no scene is waited for in vain
            pool.shutdown(cancel_futures=True)


def _write_all(jobs, map_function, run, progress) -> None:
    """Write shards from scenes that arrive in order."""
    numbers = [number for _, scenes in jobs for number in scenes]
    made = _count(map_function(run, numbers), progress)
    for path, scenes in jobs:
        write_shard(path, itertools.islice(made, len(scenes)), ".npy")


def _count(scenes, progress):
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
    pyroomacoustics.constants.set("num_threads", 1)
    return make_head(hrtf, sample_rate)


def claim_folder(folder: Path, settings: dict, versions: dict) -> None:
    """Write the manifest of a bank, or compare with the one that is there.

    Arguments
    ---------
    folder : Path
        The bank.
    settings : dict
        What the bank is a function of.
    versions : dict
        What it was made with; another version goes on with the bank.

    Raises
    ------
    ValueError
        If the folder holds something else.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> claim_folder(folder, {"seed": 1}, {})
    >>> claim_folder(folder, {"seed": 1}, {})
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    if manifest.exists():
        found = json.loads(manifest.read_text(encoding="utf-8"))
        found.pop("versions", None)
        if found == settings:
            return
    elif not any(folder.iterdir()):
        text = json.dumps({**settings, "versions": versions}, indent=1)
        with atomic_file(manifest) as aside:
            aside.write_text(text, encoding="utf-8")
        return
    raise ValueError(
        f"{folder} holds something else than this bank: delete it or choose "
        "another folder."
    )
