"""Making banks: the same bytes every time, resumable, split by room."""

import hashlib
import json
import shutil

import pytest
from other_processes import hold_elsewhere

from speechbrain_wavjepa.augment import room_simulation as bank_maker
from speechbrain_wavjepa.augment.brir import BRIRBank
from speechbrain_wavjepa.augment.hrtf import SphericalHead
from speechbrain_wavjepa.augment.room_simulation import make_bank

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
    monkeypatch.setattr(
        bank_maker, "make_scene", lambda number, **_: (str(number), b"", {})
    )
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

    monkeypatch.setattr(bank_maker, "write_shard", write_shard)
    with pytest.raises(OSError, match="No space left"):
        make_bank(tmp_path, num_rooms=10, scenes_per_room=20, workers=1)
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_folder_that_is_removed_meanwhile_is_named(monkeypatch, tmp_path):
    def make_scene(number, **_):
        shutil.rmtree(tmp_path / "bank", ignore_errors=True)
        return str(number), b"", {}

    monkeypatch.setattr(bank_maker, "make_scene", make_scene)
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
        bank_maker, "make_head", lambda hrtf, rate: SphericalHead(rate)
    )
    monkeypatch.setattr(
        bank_maker, "make_scene", lambda number, **_: (str(number), b"", {})
    )
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
