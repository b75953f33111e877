"""Making banks: the same bytes every time, resumable, split by room."""

import concurrent.futures
import hashlib
import json
import time

import pytest

from speechbrain_wavjepa import bank_maker
from speechbrain_wavjepa.bank_maker import make_bank
from speechbrain_wavjepa.rooms import BRIRBank

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


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank of four training scenes and two test scenes."""
    folder = tmp_path_factory.mktemp("bank")
    make_bank(folder, **SMALL, workers=1)
    return folder


def test_rooms_of_the_parts_differ(bank):
    rooms = {
        split: {
            scene.about["room"]
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
    } == set(scene.about)
    assert len(scene.responses) == 1 + len(scene.about["noise"])
    manifest = json.loads((bank / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert set(manifest["versions"]) == {
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


def test_a_full_disk_stops_the_simulation(monkeypatch, tmp_path):
    made = []

    def make_scene(number, **_):
        time.sleep(0.01)
        made.append(number)

    def write_shard(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(bank_maker, "make_scene", make_scene)
    monkeypatch.setattr(bank_maker, "write_shard", write_shard)
    monkeypatch.setattr(
        concurrent.futures,
        "ProcessPoolExecutor",
        lambda workers, _: concurrent.futures.ThreadPoolExecutor(workers),
    )
    with pytest.raises(OSError, match="No space left"):
        make_bank(tmp_path, num_rooms=10, scenes_per_room=20, workers=2)
    assert len(made) < 20  # of 200


def test_another_bank_in_the_folder_is_not_touched(bank):
    before = digests(bank)
    with pytest.raises(ValueError, match="something else than this bank"):
        make_bank(bank, **{**SMALL, "scenes_per_room": 3})
    assert digests(bank) == before


@pytest.mark.parametrize(
    "change",
    [{"num_rooms": 1}, {"scenes_per_room": 0}, {"test_fraction": 1.0}],
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
