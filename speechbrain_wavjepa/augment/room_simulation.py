"""Make a bank of simulated rooms: parallel, resumable, the same every time.

A scene is a pure function of the seed, its room and its number in the room.
The rooms of the test part are not those of the training part.

Authors
 * The speechbrain_wavjepa developers 2026

The reverberation time of a room, from its response.

Source: M. R. Schroeder, "New method of measuring reverberation time", JASA
37, 1965.

Shapes: R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026

Simulate scenes: a listener, a source and noises in a reverberant room.

Image sources give the early reflections, ray tracing the late ones, both by
pyroomacoustics; every arrival passes the head's response for its direction.
The walls' absorption is corrected until the reverberation time is near the
one that was asked for.

Sources: J. B. Allen and D. A. Berkley, "Image method for efficiently
simulating small-room acoustics", JASA 65(4), 1979; R. Scheibler, E. Bezzam
and I. Dokmanic, "Pyroomacoustics" (https://arxiv.org/abs/1710.04196);
WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3, for the ranges.

Shapes: P noise positions, R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
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
from speechbrain_wavjepa.augment.brir import RECEIVERS, encode_responses
from speechbrain_wavjepa.augment.hrtf import (
    SPEED_OF_SOUND,
    Head,
    MeasuredHead,
    SphericalHead,
)
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import (
    atomic_file,
    claim,
    compare,
    hash_file,
    hold,
)
from speechbrain_wavjepa.utils.processes import count_cores, worker_map


def measure_t60(response: np.ndarray, sample_rate: int) -> float:
    """Measure the reverberation time from the decay from -5 to -25 dB.

    Arguments
    ---------
    response : [R]
        A room's response.
    sample_rate : int
        Its rate in Hz.

    Returns
    -------
    float
        Seconds until 60 dB below, by a line through Schroeder's integral.

    Example
    -------
    >>> decay = 10 ** (-3 * np.arange(16000) / 16000 / 0.4)
    >>> noise = np.random.default_rng(0).standard_normal(16000)
    >>> bool(abs(measure_t60(noise * decay, 16000) - 0.4) < 0.02)
    True
    """
    energy = np.cumsum(np.asarray(response, dtype=np.float64)[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    start, stop = (int(np.argmax(level < limit)) for limit in (-5.0, -25.0))
    assert 0 < start < stop
    time = np.arange(start, stop) / sample_rate
    slope = np.polyfit(time, level[start:stop], 1)[0]
    return float(-60.0 / slope)


SOURCE_DISTANCE = (1.5, 5.0)  # metres
T60 = (0.2, 0.5)  # seconds
DIFFUSE_POSITIONS = (3, 5)
WALL_MARGIN = 0.4  # metres between any wall and a head or source
IMAGE_ORDER = 3
NUM_RAYS = 4000
SCATTERING = 0.3
T60_TOLERANCE = 0.1
CORRECTIONS = 4


@dataclasses.dataclass
class Room:
    """A shoebox room of one reverberation time.

    Arguments
    ---------
    name : str
        Its name in the bank.
    size : [3]
        Width, depth and height in metres.
    t60 : float
        Seconds until the sound has fallen by 60 dB.

    Example
    -------
    >>> Room("room-0", np.array([6.0, 4.0, 3.0]), 0.3).t60
    0.3
    """

    name: str
    size: np.ndarray
    t60: float


def draw_room(name: str, random: np.random.Generator) -> Room:
    """Draw the size and reverberation time of a room.

    Arguments
    ---------
    name : str
        Its name in the bank.
    random : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Room
        The room.

    Example
    -------
    >>> room = draw_room("room-0", np.random.default_rng(0))
    >>> bool(0.2 <= room.t60 <= 0.5)
    True
    """
    size = random.uniform((4.0, 4.0, 2.5), (10.0, 8.0, 4.0))
    return Room(name, size, random.uniform(*T60))


def draw_places(room: Room, random: np.random.Generator) -> dict:
    """Draw where the head, the source and the noises of a scene are.

    The noise comes from one place, or from three to five, alike often.

    Arguments
    ---------
    room : Room
        The room.
    random : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict
        "head" and "head_orientation" (degrees), "source" and "noise" with
        "position", "azimuth" (left of the nose is positive), "elevation"
        and "distance".

    Example
    -------
    >>> random = np.random.default_rng(0)
    >>> places = draw_places(draw_room("room-0", random), random)
    >>> bool(1.5 <= places["source"]["distance"] <= 5.0)
    True
    """
    head = random.uniform(WALL_MARGIN, room.size - WALL_MARGIN)
    head[2] = random.uniform(1.0, min(1.8, room.size[2] - WALL_MARGIN))
    orientation = random.uniform(0.0, 360.0)
    num_noises = 1
    if random.random() < 0.5:
        low, high = DIFFUSE_POSITIONS
        num_noises = int(random.integers(low, high + 1))
    source, *noises = (
        _draw_place(room, head, orientation, random)
        for _ in range(1 + num_noises)
    )
    return {
        "head": [float(value) for value in head],
        "head_orientation": float(orientation),
        "source": source,
        "noise": noises,
    }


def _draw_place(
    room: Room,
    head: np.ndarray,
    orientation: float,
    random: np.random.Generator,
) -> dict:
    """Draw a direction and a distance that lie within the room."""
    low, high = SOURCE_DISTANCE
    while True:
        azimuth = random.uniform(-180.0, 180.0)
        elevation = random.uniform(-90.0, 90.0)
        distance = random.uniform(low, high)
        flat = np.radians(azimuth + orientation)
        steep = np.radians(elevation)
        position = head + distance * np.array(
            [
                np.cos(steep) * np.cos(flat),
                np.cos(steep) * np.sin(flat),
                np.sin(steep),
            ]
        )
        inside = (position > WALL_MARGIN) & (position < room.size - WALL_MARGIN)
        if inside.all():
            return {
                "position": [float(value) for value in position],
                "azimuth": float(azimuth),
                "elevation": float(elevation),
                "distance": float(distance),
            }


def simulate(
    room: Room, places: dict, head: Head, sample_rate: int, seed: int
) -> tuple[np.ndarray, float]:
    """Simulate the responses of a scene.

    Arguments
    ---------
    room : Room
        The room.
    places : dict
        What ``draw_places`` gives.
    head : Head
        The listener's head, at the sample rate.
    sample_rate : int
        Rate in Hz.
    seed : int
        Seed of the late reflections.

    Returns
    -------
    responses : [1 + P, 3, R]
        Of the source and each noise, at the left ear, the right ear, and an
        omnidirectional microphone in the head's place. The direct sound has
        the amplitude 1 / distance.
    t60 : float
        Reverberation time, measured with the omnidirectional microphone.

    Example
    -------
    >>> from speechbrain_wavjepa.augment.hrtf import SphericalHead
    >>> random = np.random.default_rng(0)
    >>> room = draw_room("room-0", random)
    >>> places = draw_places(room, random)
    >>> head = SphericalHead(16000)
    >>> responses, t60 = simulate(room, places, head, 16000, seed=0)
    >>> responses.shape[:2] == (1 + len(places["noise"]), 3)
    True
    """
    sources = [places["source"], *places["noise"]]
    absorption = _eyring_absorption(room)
    # a probe of the source alone finds the absorption
    for _ in range(CORRECTIONS):
        (probe,) = _respond(
            room, places, sources[:1], absorption, None, sample_rate, seed
        )
        measured = measure_t60(probe[2], sample_rate)
        if abs(measured / room.t60 - 1) < T60_TOLERANCE:
            break
        # reverberation time goes with 1 / -log(1 - absorption)
        absorption = 1 - (1 - absorption) ** (measured / room.t60)
    responses = _respond(
        room, places, sources, absorption, head, sample_rate, seed
    )
    length = max(response.shape[1] for response in responses)
    length = min(length, round(1.2 * room.t60 * sample_rate))
    stacked = np.zeros((len(responses), 3, length), dtype=np.float32)
    for row, response in zip(stacked, responses):
        row[:, : response.shape[1]] = response[:, :length]
    return stacked, measure_t60(responses[0][2], sample_rate)


def _eyring_absorption(room: Room) -> float:
    """Find the absorption that gives the reverberation time, after Eyring."""
    width, depth, height = room.size
    surface = 2 * (width * depth + width * height + depth * height)
    volume = width * depth * height
    constant = 24 * np.log(10) / SPEED_OF_SOUND
    return 1 - np.exp(-constant * volume / (surface * room.t60))


def _respond(
    room, places, sources, absorption, head, sample_rate, seed
) -> list[np.ndarray]:
    """Compute the responses [3, R] to each source at the receivers."""
    pyroomacoustics = require("pyroomacoustics", "scenes")
    # late, since it needs pyroomacoustics
    from speechbrain_wavjepa.augment.directivity import EarDirectivity

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
    leads = [0]
    if head is not None:
        leads = [head.lead, head.lead, 0]
        for ear in (0, 1):
            simulated.add_microphone(
                places["head"],
                directivity=EarDirectivity(
                    head, ear, places["head_orientation"]
                ),
            )
    simulated.add_microphone(places["head"])
    simulated.compute_rir()
    # all responses come late by half the filter for fractional delays
    late = pyroomacoustics.constants.get("frac_delay_length") // 2
    responses = []
    for source in range(len(sources)):
        receivers = [
            simulated.rir[receiver][source][late + lead :]
            for receiver, lead in enumerate(leads)
        ]
        length = max(len(receiver) for receiver in receivers)
        padded = np.zeros((3, length))
        for row, receiver in zip(padded[3 - len(receivers) :], receivers):
            row[: len(receiver)] = receiver
        responses.append(padded)
    return responses


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
