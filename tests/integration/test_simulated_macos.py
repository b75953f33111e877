"""What macOS does otherwise, simulated: no bound cores, spawned workers.

The bank that the run hears is a folder of .npy arrays and nothing else.
"""

import json

import numpy as np
import pytest
from pictures import is_drawn
from recipe_run import run_script
from tiny_run import make_command, write_corpus

FOLDER = "AudioSet/WavJEPA"
MACOS = """
import multiprocessing
import os

multiprocessing.set_start_method("spawn")
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
"""


@pytest.fixture
def macos(tmp_path):
    """A folder for Python's path that makes every process act as there."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(MACOS)
    return [tmp_path / "path"]


def test_rooms_are_simulated_by_spawned_workers(macos, tmp_path):
    printed = run_script(
        FOLDER,
        "scenes_prepare.py",
        "--output",
        tmp_path / "bank",
        "--num_rooms=2",
        "--scenes_per_room=1",
        path=macos,
    )
    assert "1 scenes for training and 1 for testing" in printed


def test_a_run_on_a_bank_of_plain_arrays_ends_with_a_model(macos, tmp_path):
    (tmp_path / "arrays").mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        responses = random.standard_normal((3, 2, 400))
        np.save(tmp_path / "arrays" / f"{number}.npy", responses)
    run_script(
        FOLDER,
        "scenes_prepare.py",
        "--from_bank",
        tmp_path / "arrays",
        "--bank_rate=16000",
        "--output",
        tmp_path / "bank",
        path=macos,
    )
    write_corpus(tmp_path / "shards")
    run = tmp_path / "run"
    _, *command = make_command(
        tmp_path / "shards",
        run,
        yaml="wavjepa_nat_mini.yaml",
        brir_folder=tmp_path / "bank",
        steps_per_epoch=10,
        total_steps=10,
        num_workers=1,
    )
    run_script(FOLDER, *command, path=macos)
    steps = [
        json.loads(line)["step"]
        for line in (run / "steps.jsonl").read_text().splitlines()
    ]
    assert max(steps) == 10
    assert is_drawn(run / "scene.png")
    assert (run / "pretrained").is_dir()
