"""Checkpoints survive kills, full disks and damage."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from speechbrain_wavjepa.checkpoints import AtomicCheckpointer, find_damage

# Saves without end; the same number goes into two files of every checkpoint.
SAVER = """
import sys, torch
from speechbrain_wavjepa.checkpoints import AtomicCheckpointer
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


@pytest.mark.parametrize("name", ["a.ckpt", "b.ckpt", "CKPT.yaml"])
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


def test_only_damaged_checkpoints_stop_the_run(tmp_path):
    _, checkpointer, saved = save_two(tmp_path)
    for checkpoint in saved:
        (checkpoint.path / "a.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="All 2 checkpoints"):
        checkpointer.recover_if_possible()


def test_another_architecture_is_explained(tmp_path):
    save_two(tmp_path)
    _, other = make(tmp_path, size=5)
    with pytest.raises(ValueError, match="does not fit.*output_folder"):
        other.recover_if_possible()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    models, checkpointer, saved = save_two(tmp_path)

    def no_space(obj, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(checkpointer.custom_save_hooks, "b", no_space)
    with pytest.raises(OSError, match="MiB free.*untouched"):
        checkpointer.save_checkpoint()
    assert [path.name for path in tmp_path.iterdir()].count(".unfinished") == 0
    assert checkpointer.recover_if_possible().path == saved[1].path


def test_speechbrains_own_checkpoint_is_loaded(tmp_path, caplog):
    _, checkpointer, saved = save_two(tmp_path)
    (saved[1].path / "checksums.json").unlink()
    assert checkpointer.recover_if_possible().path == saved[1].path
    assert "not verified" in caplog.text


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
