"""Simulated rooms: places, responses, and banks of them.

Image sources give the early reflections, ray tracing the late ones, both by
pyroomacoustics; every arrival passes the head's response for its direction.
A scene is a pure function of the seed, its room and its number in the room,
so a bank is the same every time, in any number of processes, and resumable.

Sources: J. B. Allen and D. A. Berkley, "Image method for efficiently
simulating small-room acoustics", JASA 65(4), 1979; R. Scheibler, E. Bezzam
and I. Dokmanic, "Pyroomacoustics" (https://arxiv.org/abs/1710.04196);
WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3, for the ranges.

Shapes: P noise positions, R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import itertools
import json
import logging
import math
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from tqdm import tqdm

from speechbrain_wavjepa import __version__
from speechbrain_wavjepa.augment.brir import RECEIVERS, encode_responses
from speechbrain_wavjepa.augment.hrtf import (
    SPEED_OF_SOUND,
    Ear,
    Head,
    MeasuredHead,
    SphericalHead,
    to_vector,
)
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import (
    atomic_file,
    claim,
    compare,
    hash_file,
    hold,
    read_note,
)
from speechbrain_wavjepa.utils.processes import count_cores, worker_map

logger = logging.getLogger(__name__)

SOURCE_DISTANCE = (1.5, 5.0)  # metres
T60 = (0.2, 0.5)  # seconds
NUM_DIFFUSE = (3, 5)  # noise positions
WALL_MARGIN = 0.4  # metres between any wall and a head or source
IMAGE_ORDER = 3
NUM_RAYS = 4000
SCATTERING = 0.3
T60_TOLERANCE = 0.1
CORRECTIONS = 4


class Room(NamedTuple):
    """A shoebox room: width, depth and height in metres, T60 in seconds."""

    size: np.ndarray
    t60: float


def draw_room(random: np.random.Generator) -> Room:
    """Draw the size and reverberation time of a room."""
    size = random.uniform((4.0, 4.0, 2.5), (10.0, 8.0, 4.0))
    return Room(size, random.uniform(*T60))


def draw_places(room: Room, random: np.random.Generator) -> dict:
    """Draw the places of head, source and noise: one, or as often several."""
    head = random.uniform(WALL_MARGIN, room.size - WALL_MARGIN)
    head[2] = random.uniform(1.0, min(1.8, room.size[2] - WALL_MARGIN))
    orientation = random.uniform(0.0, 360.0)
    is_diffuse = random.random() < 0.5
    count = random.integers(*NUM_DIFFUSE, endpoint=True) if is_diffuse else 1
    draw = functools.partial(_draw_place, room, head, orientation, random)
    source, *noises = (draw() for _ in range(1 + count))
    return {
        "head": head.tolist(),
        "head_orientation": orientation,
        "source": source,
        "noise": noises,
    }


def _draw_place(room, head, orientation, random) -> dict:
    """Draw a place in the room; azimuths to the left of the nose are > 0."""
    while True:
        azimuth = random.uniform(-180.0, 180.0)
        elevation = random.uniform(-90.0, 90.0)
        distance = random.uniform(*SOURCE_DISTANCE)
        position = head + distance * to_vector(
            np.radians(azimuth + orientation), np.radians(elevation)
        )
        inside = (position > WALL_MARGIN) & (position < room.size - WALL_MARGIN)
        if inside.all():
            return {
                "position": position.tolist(),
                "azimuth": azimuth,
                "elevation": elevation,
                "distance": distance,
            }


def simulate(
    room: Room, places: dict, head: Head, sample_rate: int, seed: int
) -> tuple[np.ndarray, float]:
    """Simulate a scene: responses [1 + P, 3, R], measured T60 in seconds.

    The receivers are the ears and an omnidirectional microphone in the
    head's place. The direct sound has the amplitude 1 / distance.
    """
    respond = functools.partial(_respond, room, places, sample_rate, seed)
    surface = 2 * (room.size * np.roll(room.size, 1)).sum()
    exponent = 24 * np.log(10) / SPEED_OF_SOUND * room.size.prod()
    absorption = 1 - np.exp(-exponent / (surface * room.t60))  # Eyring
    for _ in range(CORRECTIONS):  # until the T60 is near the one asked for
        probe = respond(absorption, None)
        measured = measure_t60(probe[0, -1], sample_rate)
        if abs(measured / room.t60 - 1) < T60_TOLERANCE:
            break
        # reverberation time goes with 1 / -log(1 - absorption)
        absorption = 1 - (1 - absorption) ** (measured / room.t60)
    responses = respond(absorption, head)
    measured = measure_t60(responses[0, 2], sample_rate)
    length = round(1.2 * room.t60 * sample_rate)
    return responses[:, :, :length].astype(np.float32), measured


def measure_t60(response: np.ndarray, sample_rate: int) -> float:
    """Measure the reverberation time from the decay from -5 to -25 dB."""
    module = require("pyroomacoustics.experimental.rt60", "scenes")
    return float(module.measure_rt60(response, sample_rate, decay_db=20))


def _respond(room, places, sample_rate, seed, absorption, head) -> np.ndarray:
    """Compute responses [1 + P, 3, R]; without a head, source to omni alone."""
    sources, leads = [places["source"]], [0]
    if head is not None:
        sources, leads = sources + places["noise"], [head.lead, head.lead, 0]
    pyroomacoustics = require("pyroomacoustics", "scenes")
    pyroomacoustics.constants.set("num_threads", 1)  # of each process
    pyroomacoustics.random.seed(seed)
    simulated = pyroomacoustics.ShoeBox(
        room.size,
        fs=sample_rate,
        materials=pyroomacoustics.Material(float(absorption), SCATTERING),
        max_order=IMAGE_ORDER,
        ray_tracing=True,
    )
    simulated.set_ray_tracing(n_rays=NUM_RAYS, energy_thres=1e-6)
    simulated.set_sound_speed(SPEED_OF_SOUND)
    for source in sources:
        simulated.add_source(source["position"])
    for ear in range(len(leads) - 1):
        directivity = Ear(head, ear, places["head_orientation"])
        simulated.add_microphone(places["head"], directivity=directivity)
    simulated.add_microphone(places["head"])
    simulated.compute_rir()
    # all responses come late by half the filter for fractional delays
    late = pyroomacoustics.constants.get("frac_delay_length") // 2
    length = max(len(rir) for rirs in simulated.rir for rir in rirs) - late
    responses = np.zeros((len(sources), len(leads), length))
    for receiver, (lead, rirs) in enumerate(zip(leads, simulated.rir)):
        for source, rir in enumerate(rirs):
            rir = rir[late + lead :]
            responses[source, receiver, : len(rir)] = rir
    return responses


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
        Where to write train/ and test/, whose rooms differ.
    num_rooms, scenes_per_room, scenes_per_shard : int
        Rooms of both parts, scenes in each room and in each shard.
    test_fraction : float
        Part of the rooms that is kept for testing.
    sample_rate : int
        Rate of the responses in Hz.
    hrtf : str, optional
        A SOFA file with a measured head; a rigid sphere by default.
    seed : int
        Another seed makes other rooms.
    workers : int, optional
        Processes (default: one for each core).

    Example
    -------
    >>> from speechbrain_wavjepa.augment import BRIRBank
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
            "A bank needs a room for training and one for testing, scenes, a "
            f"worker and a seed >= 0, got {num_rooms=}, {test_fraction=}, "
            f"{scenes_per_room=}, {workers=}, {seed=}."
        )
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
    scenes = list(itertools.product(range(num_rooms), range(scenes_per_room)))
    first_test = (num_rooms - num_test) * scenes_per_room
    shards = plan_shards(
        folder, scenes[:first_test], scenes[first_test:], scenes_per_shard
    )
    missing = [shard for shard in shards if not shard[0].exists()]
    if not missing:
        claim(folder, made_with)
        return  # other runs may read it at the same time
    pyroomacoustics = require("pyroomacoustics", "scenes")
    settings = {"sample_rate": sample_rate, "hrtf": hrtf, "seed": seed}
    run = functools.partial(make_scene, **settings)
    numbers = [number for _, scenes in missing for number in scenes]
    if min(workers, len(numbers)) == 1:
        workers = 0  # none besides this process
    with hold(folder):
        claim(folder, made_with)
        _note_versions(Path(folder), pyroomacoustics.__version__)
        with worker_map(workers) as map_function:
            found = map_function(run, numbers)
            made = iter(tqdm(found, "rooms", len(numbers), unit=" scenes"))
            for path, scenes in missing:
                path.parent.mkdir(exist_ok=True)
                write_shard(path, itertools.islice(made, len(scenes)), ".npy")


def check_settings(
    sample_rate: int, test_fraction: float, scenes_per_shard: int
) -> None:
    """Refuse settings that no bank can have, simulated or imported."""
    for name, value, low, high in (
        ("sample_rate", sample_rate, 1000, 768000),
        ("test_fraction", test_fraction, 0, 1),
        ("scenes_per_shard", scenes_per_shard, 1, math.inf),
    ):
        if not low <= value <= high:
            raise ValueError(
                f"{name} must lie between {low} and {high}, got {value}."
            )


def plan_shards(
    folder: Union[str, Path], train: list, test: list, scenes_per_shard: int
) -> list[tuple[Path, list]]:
    """List the shards of a bank, each with its scenes."""
    return [
        (
            Path(folder) / split / f"scenes-{number:06d}.tar",
            scenes[start : start + scenes_per_shard],
        )
        for split, scenes in (("train", train), ("test", test))
        for number, start in enumerate(range(0, len(scenes), scenes_per_shard))
    ]


def _note_versions(folder: Path, simulator: str) -> None:
    """Note what a bank was begun with; warn if another version resumes it."""
    path = folder / "versions.json"
    versions = {
        "pyroomacoustics": simulator,
        "numpy": np.__version__,
        "speechbrain_wavjepa": __version__,
    }
    if not path.exists():
        with atomic_file(path) as aside:
            aside.write_text(json.dumps(versions, indent=1), encoding="utf-8")
    elif different := compare(read_note(path), versions):
        logger.warning(
            f"{folder} was begun with {different}: later scenes may differ."
        )


def make_scene(
    number: tuple[int, int], sample_rate: int, hrtf: Optional[str], seed: int
) -> tuple[str, bytes, dict]:
    """Simulate scene (room, number in it): key, encoded responses, metadata."""
    name = f"room-{number[0]:04d}"
    room = draw_room(np.random.default_rng([seed, number[0]]))
    random = np.random.default_rng([seed, *number])
    places = draw_places(room, random)
    late_seed = int(random.integers(2**31))
    head = make_head(hrtf, sample_rate)
    responses, measured = simulate(room, places, head, sample_rate, late_seed)
    metadata = {
        "sample_rate": sample_rate,
        "receivers": list(RECEIVERS),
        "room": name,
        "room_size": room.size.tolist(),
        "t60": room.t60,
        "t60_measured": measured,
        **places,
    }
    return f"{name}-{number[1]:04d}", encode_responses(responses), metadata


@functools.cache  # once in each process
def make_head(hrtf: Optional[str], sample_rate: int) -> Head:
    """Make the sphere, or read a measured head from a SOFA file."""
    if hrtf is None:
        return SphericalHead(sample_rate)
    return MeasuredHead(hrtf, sample_rate)
