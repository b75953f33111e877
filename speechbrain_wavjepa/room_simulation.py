"""Simulate scenes: a listener, a source and noises in a reverberant room.

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

import numpy as np
import pyroomacoustics

from speechbrain_wavjepa.head_directivity import EarDirectivity
from speechbrain_wavjepa.heads import SPEED_OF_SOUND, Head
from speechbrain_wavjepa.reverberation import measure_t60

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
    >>> from speechbrain_wavjepa.heads import SphericalHead
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
