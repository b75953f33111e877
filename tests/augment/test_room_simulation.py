"""Simulated rooms: reverberation, direct sound, sides; banks of them."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from other_processes import hold_elsewhere

from speechbrain_wavjepa.augment import BRIRBank, make_bank, room_simulation
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


SMALL = {
    "num_rooms": 3,
    "scenes_per_room": 2,
    "test_fraction": 0.34,
    "scenes_per_shard": 3,
}


def digests(folder):
    """Hash every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_nothing(number, **_):
    """A scene that takes no time."""
    return str(number), b"", {}


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank of four training scenes and two test scenes."""
    folder = tmp_path_factory.mktemp("bank")
    make_bank(folder, **SMALL, workers=1)
    return folder


def test_rooms_of_the_parts_differ(bank):
    rooms = {
        split: {
            scene.metadata["room"]
            for scene in map(
                BRIRBank(bank, split=split).__getitem__,
                range(len(BRIRBank(bank, split=split))),
            )
        }
        for split in ("train", "test")
    }
    assert rooms == {"train": {"room-0000", "room-0001"}, "test": {"room-0002"}}


def test_every_scene_tells_what_it_is(bank):
    scene = BRIRBank(bank)[0]
    assert {
        "sample_rate",
        "receivers",
        "room",
        "room_size",
        "t60",
        "t60_measured",
        "head",
        "head_orientation",
        "source",
        "noise",
    } == set(scene.metadata)
    assert len(scene.responses) == 1 + len(scene.metadata["noise"])
    made_with = json.loads((bank / "made_with.json").read_text())
    assert made_with["seed"] == 0
    assert set(json.loads((bank / "versions.json").read_text())) == {
        "pyroomacoustics",
        "numpy",
        "speechbrain_wavjepa",
    }


def test_a_stopped_run_goes_on_in_several_processes(bank, tmp_path):
    make_bank(tmp_path, **SMALL, workers=1)
    (tmp_path / "train" / "scenes-000001.tar").unlink()
    (tmp_path / "test" / "scenes-000000.tar").unlink()
    kept = tmp_path / "train" / "scenes-000000.tar"
    before = kept.stat().st_mtime_ns
    make_bank(tmp_path, **SMALL, workers=2)
    assert kept.stat().st_mtime_ns == before
    assert digests(tmp_path) == digests(bank)


def test_another_version_that_goes_on_with_a_bank_is_told(
    monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(room_simulation, "make_scene", make_nothing)
    make_bank(tmp_path, **SMALL, workers=1)
    note = tmp_path / "versions.json"
    versions = json.loads(note.read_text())
    begun_with = json.dumps({**versions, "numpy": "1.0.0"})
    for text, told in ((json.dumps(versions), False), (begun_with, True)):
        note.write_text(text)
        (tmp_path / "test" / "scenes-000000.tar").unlink()
        make_bank(tmp_path, **SMALL, workers=1)
        difference = f"numpy=1.0.0, not numpy={versions['numpy']}"
        assert (difference in caplog.text) == told
        assert note.read_text() == text


def test_a_full_disk_leaves_no_half_shard(monkeypatch, tmp_path):
    def write_shard(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(room_simulation, "write_shard", write_shard)
    with pytest.raises(OSError, match="No space left"):
        make_bank(tmp_path, num_rooms=10, scenes_per_room=20, workers=1)
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_folder_that_is_removed_meanwhile_is_named(monkeypatch, tmp_path):
    def make_scene(number, **_):
        shutil.rmtree(tmp_path / "bank", ignore_errors=True)
        return str(number), b"", {}

    monkeypatch.setattr(room_simulation, "make_scene", make_scene)
    with pytest.raises(OSError, match=str(tmp_path / "bank")):
        make_bank(tmp_path / "bank", **SMALL, workers=1)
    assert not (tmp_path / "bank").exists()


def test_a_bank_in_the_making_is_refused_and_a_whole_one_is_read(
    bank, tmp_path
):
    with hold_elsewhere(tmp_path / "bank"):
        with pytest.raises(ValueError, match="in use"):
            make_bank(tmp_path / "bank", **SMALL)
    assert not (tmp_path / "bank").exists()
    with hold_elsewhere(bank):
        make_bank(bank, **SMALL)  # nothing to write: many runs may begin


def test_a_head_is_known_by_its_content(monkeypatch, tmp_path):
    """Another head under the same name makes another bank."""
    monkeypatch.setattr(
        room_simulation, "make_head", lambda hrtf, rate: SphericalHead(rate)
    )
    monkeypatch.setattr(room_simulation, "make_scene", make_nothing)
    head = tmp_path / "head.sofa"
    head.write_text("one")
    folder = tmp_path / "bank"
    make_bank(folder, **SMALL, hrtf=str(head), workers=1)
    before = digests(folder)
    (tmp_path / "elsewhere").mkdir()
    moved = head.rename(tmp_path / "elsewhere" / "head.sofa")
    make_bank(folder, **SMALL, hrtf=str(moved), workers=1)
    head.write_text("two")
    with pytest.raises(ValueError, match="made with hrtf=.*, not hrtf="):
        make_bank(folder, **SMALL, hrtf=str(head), workers=1)
    assert digests(folder) == before


def test_another_bank_in_the_folder_is_not_touched(bank):
    before = digests(bank)
    with pytest.raises(ValueError, match="made with scenes_per_room=2"):
        make_bank(bank, **{**SMALL, "scenes_per_room": 3})
    assert digests(bank) == before


@pytest.mark.parametrize(
    "change",
    [
        {"num_rooms": 1},
        {"scenes_per_room": 0},
        {"test_fraction": 1.0},
        {"test_fraction": 7},
        {"scenes_per_shard": 0},
        {"sample_rate": 0},
        {"workers": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_impossible_settings_are_named(change, tmp_path):
    (name,) = change
    with pytest.raises(ValueError, match=name):
        make_bank(tmp_path / "bank", **{**SMALL, **change})
    assert not (tmp_path / "bank").exists()


def test_a_missing_head_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="nowhere.sofa"):
        make_bank(tmp_path / "bank", **SMALL, hrtf="nowhere.sofa")
    assert not (tmp_path / "bank").exists()
