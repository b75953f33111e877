"""Simulated rooms: reverberation, direct sound and sides."""

import numpy as np
import pytest

from speechbrain_wavjepa.augment.hrtf import SPEED_OF_SOUND, SphericalHead
from speechbrain_wavjepa.augment.room_simulation import (
    Room,
    draw_places,
    draw_room,
    measure_t60,
    simulate,
)

RATE = 16000


def put(room, azimuth, distance, orientation=0.0):
    """Put a head in the middle and a source and a noise around it."""
    head = np.array([room.size[0] / 2, room.size[1] / 2, 1.4])
    flat = np.radians(azimuth + orientation)
    position = head + distance * np.array([np.cos(flat), np.sin(flat), 0.0])
    place = {
        "position": list(position),
        "azimuth": azimuth,
        "elevation": 0.0,
        "distance": distance,
    }
    return {
        "head": list(head),
        "head_orientation": orientation,
        "source": place,
        "noise": [place],
    }


@pytest.mark.parametrize("seed", range(6))
def test_reverberation_time_is_the_one_asked_for(seed):
    random = np.random.default_rng(seed)
    room = draw_room(random)
    places = draw_places(room, random)
    places["noise"] = places["noise"][:1]
    responses, measured = simulate(
        room, places, SphericalHead(RATE), RATE, seed
    )
    assert measured == pytest.approx(room.t60, rel=0.2)
    # at an ear the direct sound is louder or quieter, and so the decay
    # from -5 dB on begins elsewhere
    for ear in responses[0, :2]:
        assert measure_t60(ear, RATE) == pytest.approx(room.t60, rel=0.35)


@pytest.mark.parametrize("distance", [1.5, 2.2, 2.9])
@pytest.mark.parametrize("azimuth", [0.0, 70.0, -160.0])
def test_direct_sound_comes_after_distance_over_speed(distance, azimuth):
    room = Room(np.array([7.0, 7.0, 3.0]), 0.3)
    places = put(room, azimuth, distance, orientation=130.0)
    responses, _ = simulate(room, places, SphericalHead(RATE), RATE, 0)
    expected = distance / SPEED_OF_SOUND * RATE
    direct = responses[0][:, : int(expected) + 30]
    peaks = np.abs(direct).argmax(axis=1)
    assert abs(peaks[2] - expected) <= 1
    # the ears: earlier and later by the delays of the head
    sight = np.radians(azimuth)
    delays = SphericalHead(RATE).delay(
        np.array([[np.cos(sight), np.sin(sight), 0.0]])
    )[0]
    near = int(np.argmin(delays))
    assert abs(peaks[near] - expected - delays[near] * RATE) <= 1
    amplitude = np.abs(direct[2]).max()
    assert 0.6 / distance < amplitude < 1.4 / distance


@pytest.mark.parametrize("orientation", [0.0, 90.0, 217.0])
def test_the_ear_on_the_side_of_the_source_is_louder(orientation):
    room = Room(np.array([7.0, 6.0, 3.0]), 0.25)
    for azimuth in (45.0, 90.0, 140.0):
        levels = []
        for side in (azimuth, -azimuth):
            places = put(room, side, 1.6, orientation)
            responses, _ = simulate(room, places, SphericalHead(RATE), RATE, 0)
            energy = (responses[0, :2].astype(np.float64) ** 2).sum(axis=1)
            levels.append(10 * np.log10(energy[0] / energy[1]))
        assert levels[0] > 1.5
        assert levels[1] < -1.5


def test_places_lie_in_the_room_and_in_the_asked_ranges():
    random = np.random.default_rng(0)
    num_noises, azimuths = set(), []
    for _ in range(200):
        room = draw_room(random)
        places = draw_places(room, random)
        num_noises.add(len(places["noise"]))
        assert 0 <= places["head_orientation"] < 360
        head = np.array(places["head"])
        for place in [places["source"], *places["noise"]]:
            position = np.array(place["position"])
            assert np.all(position > 0) and np.all(position < room.size)
            distance = np.linalg.norm(position - head)
            assert distance == pytest.approx(place["distance"])
            assert 1.5 <= distance <= 5.0
            steep = np.degrees(np.arcsin((position - head)[2] / distance))
            assert steep == pytest.approx(place["elevation"])
            flat = np.degrees(np.arctan2(*(position - head)[[1, 0]]))
            turned = flat - places["head_orientation"] - place["azimuth"]
            assert np.cos(np.radians(turned)) == pytest.approx(1.0)
            azimuths.append(place["azimuth"])
    assert num_noises == {1, 3, 4, 5}
    assert min(azimuths) < -170 and max(azimuths) > 170


def test_same_seed_same_responses():
    random = np.random.default_rng(3)
    room = draw_room(random)
    places = draw_places(room, random)
    head = SphericalHead(RATE)
    first, second, other = (
        simulate(room, places, head, RATE, seed)[0] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape != other.shape or np.abs(first - other).max() > 1e-4
