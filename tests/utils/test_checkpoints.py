"""Checkpoints survive kills, full disks and damage."""

import errno
import inspect
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_wavjepa.utils import AtomicCheckpointer
from speechbrain_wavjepa.utils.checkpoints import CHECKSUM_FILE, find_damage

# Saves without end; the same number goes into two files of every checkpoint.
SAVER = """
import sys, torch
from speechbrain_wavjepa.utils.checkpoints import AtomicCheckpointer
first, second = torch.nn.Linear(200, 200), torch.nn.Linear(200, 200)
checkpointer = AtomicCheckpointer(
    sys.argv[1], {"first": first, "second": second}
)
checkpointer.recover_if_possible()
count = int(first.bias[0])
print("ready", flush=True)
while True:
    count += 1
    for model in (first, second):
        torch.nn.init.constant_(model.bias, count)
    checkpointer.save_and_keep_only(meta={"count": count}, num_to_keep=2)
"""


def make(folder, size=3):
    """Make a checkpointer of two models."""
    models = {name: torch.nn.Linear(size, size) for name in ("a", "b")}
    return models, AtomicCheckpointer(folder, models)


def fill(models, value):
    """Set all biases to a value."""
    for model in models.values():
        torch.nn.init.constant_(model.bias, value)


def save_two(folder):
    """Save a checkpoint of ones, then one of twos."""
    models, checkpointer = make(folder)
    saved = []
    for value in (1, 2):
        fill(models, value)
        saved.append(checkpointer.save_checkpoint(meta={"value": value}))
    fill(models, 0)
    return models, checkpointer, saved


def test_round_trip(tmp_path):
    models, checkpointer, saved = save_two(tmp_path)
    assert all(find_damage(checkpoint.path) is None for checkpoint in saved)
    loaded = checkpointer.recover_if_possible()
    assert loaded.meta["value"] == 2
    assert torch.all(models["a"].bias == 2) and torch.all(models["b"].bias == 2)
    checkpointer.save_and_keep_only(num_to_keep=2)
    assert len(checkpointer.list_checkpoints()) == 2
    assert not saved[0].path.exists()


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    assert make(tmp_path)[1].recover_if_possible() is None


@pytest.mark.parametrize(
    "name", ["a.ckpt", "b.ckpt", "CKPT.yaml", "checksums.json"]
)
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path, caplog, name, damage
):
    models, checkpointer, saved = save_two(tmp_path)
    path = saved[1].path / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        if damage == "flipped":
            content[len(content) // 2] ^= 0xFF
        length = {"empty": 0, "cut": len(content) // 2}.get(damage)
        path.write_bytes(content[:length])
    loaded = checkpointer.recover_if_possible()
    assert loaded.path == saved[0].path
    assert torch.all(models["a"].bias == 1)
    # without its CKPT.yaml a folder is no checkpoint to SpeechBrain
    if (name, damage) != ("CKPT.yaml", "missing"):
        assert str(saved[1].path) in caplog.text
        assert name in caplog.text


def test_every_flipped_bit_is_found(tmp_path):
    checkpoint = save_two(tmp_path)[2][1]
    chance = random.Random(0)
    for path in sorted(checkpoint.path.iterdir()):
        whole = path.read_bytes()
        for place in chance.sample(range(len(whole)), 60):
            content = bytearray(whole)
            content[place] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
            assert find_damage(checkpoint.path), (path.name, place)
        path.write_bytes(whole)
    assert find_damage(checkpoint.path) is None


def test_checksums_of_files_elsewhere_are_damage(tmp_path):
    """A stranger's checkpoint does not choose which files are read."""
    _, _, (checkpoint, _) = save_two(tmp_path)
    path = checkpoint.path / CHECKSUM_FILE
    seal = json.loads(path.read_bytes())
    path.write_text(json.dumps({**seal, "/dev/zero": {}}))
    assert find_damage(checkpoint.path) == f"{CHECKSUM_FILE} is damaged"


def test_only_damaged_checkpoints_stop_the_run(tmp_path):
    _, checkpointer, saved = save_two(tmp_path)
    for checkpoint in saved:
        (checkpoint.path / "a.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="All 2 checkpoints"):
        checkpointer.recover_if_possible()


def test_another_architecture_is_explained(tmp_path):
    saved = save_two(tmp_path)[2]
    _, other = make(tmp_path, size=5)
    with pytest.raises(ValueError) as error:
        other.recover_if_possible()
    for part in ("does not fit", "weight", "[3, 3]", "[5, 5]", "output_folder"):
        assert part in str(error.value)
    assert str(saved[1].path) in str(error.value)


def test_a_recoverable_that_was_not_saved_is_named(tmp_path):
    models, _, _ = save_two(tmp_path)
    models["c"] = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="(?s)output_folder.*path for c"):
        AtomicCheckpointer(tmp_path, models).recover_if_possible()


def test_a_name_that_is_taken_is_refused(tmp_path):
    models, checkpointer = make(tmp_path)
    fill(models, 1)
    checkpointer.save_checkpoint(name="best")
    fill(models, 2)
    with pytest.raises(OSError, match="CKPT.best exists, choose another"):
        checkpointer.save_checkpoint(name="best")
    checkpointer.recover_if_possible()
    assert torch.all(models["a"].bias == 1)


def test_what_cannot_be_saved_is_named(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"number": 3})
    with pytest.raises(ValueError, match="'number': None"):
        checkpointer.save_checkpoint()
    assert not list(tmp_path.iterdir())


def test_no_list_grows_from_save_to_save(tmp_path):
    _, checkpointer = make(tmp_path)
    mine = []
    checkpointer.save_and_keep_only(importance_keys=mine)
    checkpointer.save_and_keep_only()
    signature = inspect.signature(Checkpointer.save_and_keep_only)
    assert mine == signature.parameters["importance_keys"].default == []
    assert len(checkpointer.list_checkpoints()) == 1


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    models, checkpointer, saved = save_two(tmp_path)

    def no_space(obj, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(checkpointer.custom_save_hooks, "b", no_space)
    with pytest.raises(OSError, match="No space left.*untouched"):
        checkpointer.save_checkpoint()
    assert [path.name for path in tmp_path.iterdir()].count(".unfinished") == 0
    assert checkpointer.recover_if_possible().path == saved[1].path


def test_a_removed_folder_is_made_again(tmp_path, caplog):
    models, checkpointer = make(tmp_path / "run" / "save")
    checkpointer.save_checkpoint()
    shutil.rmtree(tmp_path / "run" / "save")
    fill(models, 2)
    checkpointer.save_checkpoint()
    assert f"{tmp_path / 'run' / 'save'} was removed" in caplog.text
    fill(models, 0)
    checkpointer.recover_if_possible()
    assert torch.all(models["a"].bias == 2)


def test_a_removed_output_folder_is_told_with_its_path(tmp_path):
    _, checkpointer = make(tmp_path / "run" / "save")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OSError, match=f"No such file.*{tmp_path}/run/save"):
        checkpointer.save_checkpoint()
    assert not (tmp_path / "run").exists()


def test_a_read_only_disk_is_told_with_its_path(tmp_path, monkeypatch):
    _, checkpointer, saved = save_two(tmp_path)

    def read_only(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OSError, match=f"Read-only file system: '{tmp_path}"):
        checkpointer.save_checkpoint()
    assert find_damage(saved[1].path) is None


def save_plain(folder):
    """Save with SpeechBrain's own Checkpointer, ones and then twos."""
    models, checkpointer = make(folder)
    plain = Checkpointer(folder, models)
    saved = []
    for value in (1, 2):
        fill(models, value)
        saved.append(plain.save_checkpoint())
    return models, checkpointer, saved


def test_speechbrains_own_checkpoint_is_loaded(tmp_path, caplog):
    models, checkpointer, saved = save_plain(tmp_path)
    fill(models, 0)
    assert checkpointer.recover_if_possible().path == saved[1].path
    assert torch.all(models["b"].bias == 2)
    assert "not verified" in caplog.text


def test_a_damaged_time_does_not_decide_the_order(tmp_path):
    _, checkpointer, saved = save_plain(tmp_path)
    path = saved[1].path / "CKPT.yaml"
    path.write_text(path.read_text().replace("unixtime: ", "unixtime: q"))
    assert checkpointer.recover_if_possible().path == saved[0].path


def test_kills_at_random_points_never_leave_a_broken_checkpoint(tmp_path):
    chance = random.Random(0)
    counts = []
    for _ in range(15):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout.readline() == b"ready\n", process.stderr.read()
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        models = {
            name: torch.nn.Linear(200, 200) for name in ("first", "second")
        }
        loaded = AtomicCheckpointer(tmp_path, models).recover_if_possible()
        if loaded is None:
            counts.append(0)
            continue
        checksums = json.loads((loaded.path / "checksums.json").read_text())
        assert set(checksums) == {"CKPT.yaml", "first.ckpt", "second.ckpt"}
        for model in models.values():
            assert torch.all(model.bias == loaded.meta["count"])
        counts.append(loaded.meta["count"])
    assert counts == sorted(counts)
    assert counts[-1] > 10
