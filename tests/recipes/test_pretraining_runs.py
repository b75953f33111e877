"""How long a run is, what it belongs to, and pictures that fail."""

import json
import logging
import shutil
import threading
from types import SimpleNamespace

import pytest
import survey
from results import picture
from speechbrain.utils.epoch_loop import EpochCounter
from survey import describe_shards
from train import WavJEPABrain, check_settings, split_effective_batch

from speechbrain_wavjepa.utils import StepLog


def make_run(optimizer_step=0, step=0):
    """What a Brain that shall take ten steps knows."""
    return SimpleNamespace(
        hparams=SimpleNamespace(total_steps=10),
        optimizer_step=optimizer_step,
        step=step,
        nonfinite_count=0,
    )


def nominal_epochs(run, take):
    """Run nominal epochs; ``take`` says what happens in each."""
    epochs = []
    for epoch in WavJEPABrain.nominal_epochs(run, EpochCounter(1000)):
        epochs.append(epoch)
        take(run)
        run.step = 0
    return epochs


def take_three(run):
    run.optimizer_step = min(run.optimizer_step + 3, 10)


def test_steps_end_a_run():
    assert nominal_epochs(make_run(), take_three) == [1, 2, 3, 4]
    assert nominal_epochs(make_run(optimizer_step=9), take_three) == [1]


def test_a_finished_run_has_no_epoch_more():
    assert nominal_epochs(make_run(optimizer_step=10), take_three) == []


def test_a_validation_that_was_interrupted_is_made_up_for():
    run = make_run(optimizer_step=10, step=4)
    assert nominal_epochs(run, take_three) == [1]


def test_a_run_that_takes_no_step_any_more_ends():
    def skip_all(run):
        run.nonfinite_count = 2

    with pytest.raises(ValueError, match="No step of nominal epoch 1"):
        nominal_epochs(make_run(), skip_all)


def test_a_picture_that_fails_stops_nothing(tmp_path, caplog):
    with caplog.at_level(logging.ERROR), picture(tmp_path / "a.png"):
        raise KeyError("source")
    assert "a.png could not be drawn" in caplog.text
    assert "KeyError: 'source'" in caplog.text


@pytest.fixture
def shards(tmp_path):
    """Three files of one size."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.tar").write_bytes(bytes(100000))
    return folder


def describe(folder):
    return describe_shards(map(str, sorted(folder.glob("*.tar"))))


def test_shards_are_known_by_name_size_and_beginning(shards, tmp_path):
    first = describe(shards)
    assert first.startswith("3 files, 0.tar to 2.tar, 300,000 bytes, ")
    shutil.copytree(shards, tmp_path / "moved")
    assert describe(tmp_path / "moved") == first
    (shards / "1.tar").write_bytes(b"1" + bytes(99999))
    second = describe(shards)
    (shards / "1.tar").write_bytes(bytes(100001))
    third = describe(shards)
    (shards / "1.tar").rename(shards / "1a.tar")
    assert len({first, second, third, describe(shards)}) == 4


@pytest.mark.parametrize("max_hashed", [10**9, 1000])
@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_shards_are_known_by_their_content(
    shards, monkeypatch, max_hashed, place
):
    monkeypatch.setattr(survey, "MAX_HASHED", max_hashed)
    first = describe(shards)
    with open(shards / "1.tar", "r+b") as file:
        file.seek(place)
        file.write(b"1")
    assert describe(shards) != first


def test_shards_of_a_manifest_are_known_by_its_hashes(shards):
    def write(sha256):
        entry = {"clips": 1, "bytes": 100000, "sha256": sha256}
        manifest = {"shards": {f"{n}.tar": entry for n in range(3)}}
        (shards / "manifest.json").write_text(json.dumps(manifest))
        return describe(shards)

    assert write("aa") == write("aa") != write("ab")


def test_urls_are_known_by_their_names():
    urls = [f"https://example.org/{number}.tar" for number in range(3)]
    assert describe_shards(urls) == describe_shards(urls)
    assert describe_shards(urls) != describe_shards(urls[:2])


def test_parts_of_a_file_are_told_apart(shards):
    path = str(shards / "0.tar")
    assert describe_shards([(path, 0, 5)]) != describe_shards([(path, 5, 9)])


def test_close_ends_what_tensorboard_has_started(tmp_path):
    before = set(threading.enumerate())
    log = StepLog(tmp_path / "steps.jsonl", tmp_path / "tensorboard")
    log.append(1, loss=0.5)
    started = set(threading.enumerate()) - before
    assert started
    log.close()
    assert not any(thread.is_alive() for thread in started)
    log.append(2, loss=0.4)  # a run that goes on has another file
    log.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert [line["step"] for line in log.read()] == [1, 2]


@pytest.mark.parametrize("save_folder", ["b/save", "a", "a/../b/save"])
def test_checkpoints_belong_to_their_output_folder(save_folder):
    settings = {
        "output_folder": "a",
        "precision": "fp32",
    }
    check_settings({**settings, "save_folder": "a/save"})
    with pytest.raises(ValueError, match="must lie in output_folder=a"):
        check_settings({**settings, "save_folder": save_folder})


def split(monkeypatch, processes, effective_batch, batch_size):
    """Clips of a batch and batches of a step, with 8 windows to a clip."""
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    hparams = {
        "effective_batch": effective_batch,
        "batch_size": batch_size,
        "windows_per_clip": 8,
        "train_dataloader_opts": {},
    }
    split_effective_batch(hparams)
    derived = hparams["train_dataloader_opts"]["batch_size"]
    return derived, hparams["grad_accumulation_factor"]


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        (32, {1: (32, 1), 2: (16, 1), 4: (8, 1)}),
        (16, {1: (16, 2), 2: (16, 1), 4: (8, 1)}),
        (4, {1: (4, 8), 2: (4, 4), 4: (4, 2)}),
    ],
)
def test_a_step_has_as_many_windows_on_any_number_of_processes(
    monkeypatch, batch_size, expected
):
    for processes, derived in expected.items():
        assert split(monkeypatch, processes, 256, batch_size) == derived
        assert processes * derived[0] * derived[1] * 8 == 256


@pytest.mark.parametrize(
    ("processes", "effective_batch", "batch_size", "message"),
    [
        (3, 256, 32, "over 3 process.* multiple of 3 x windows_per_clip = 24"),
        (1, 100, 4, "effective_batch=100 windows cannot be split"),
        (2, 8, 4, "effective_batch=8 windows cannot be split over 2"),
        (2, 256, 6, "batch_size=6 does not divide the 16 .* such as 4"),
        (1, 256, 0, "batch_size must be 1, 2, 3 or more, got 0"),
        (1, "256", 8, "effective_batch must be 1, 2, 3 or more, got 256"),
    ],
)
def test_what_does_not_divide_is_refused(
    monkeypatch, processes, effective_batch, batch_size, message
):
    with pytest.raises(ValueError, match=message):
        split(monkeypatch, processes, effective_batch, batch_size)
