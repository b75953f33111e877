"""scenes_prepare.py as a user runs it."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from other_processes import find_children, is_alive, wait_until
from recipe_run import run_script
from tiny_run import ENVIRONMENT, RECIPE, make_command, write_corpus

from speechbrain_wavjepa.augment import BRIRBank


def prepare(*arguments, code=0, path=()):
    """Run the script; return what it prints."""
    return run_script(
        "AudioSet/WavJEPA",
        "scenes_prepare.py",
        *arguments,
        code=code,
        path=path,
    )


def test_make_a_bank_then_bring_it_to_another_rate(tmp_path):
    made, moved = tmp_path / "made", tmp_path / "moved"
    options = ["--num_rooms", 2, "--scenes_per_room", 2, "--num_workers", 1]
    printed = prepare("--output", made, *options)
    assert "2 scenes for training and 2 for testing" in printed
    printed = prepare(
        "--from_bank", made, "--output", moved, "--sample_rate", 8000
    )
    assert "2 scenes for training and 2 for testing" in printed
    rooms = [
        BRIRBank(moved, 8000, split)[0].metadata["room"]
        for split in ("train", "test")
    ]
    assert rooms == ["room-0000", "room-0001"]
    scene = BRIRBank(moved, 8000)[0]
    assert scene.metadata["sample_rate"] == 8000
    assert scene.metadata["receivers"] == ["left", "right", "omni"]
    # the same settings again: nothing to do
    prepare("--output", made, *options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--num_rooms", 1], "num_rooms=1"),
        (["--hrtf", "nowhere.sofa"], "nowhere.sofa is not there"),
        (["--from_bank", "nowhere"], "nowhere holds no bank"),
        (["--scenes_per_shard", 0], "scenes_per_shard must lie between"),
        (["--num_workers", 0], "workers=0"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(options, message, tmp_path):
    printed = prepare("--output", tmp_path / "bank", *options, code=1)
    assert printed.startswith("error: ") and message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    "options",
    [["--from_bank", "nowhere", "--hrtf", "a.sofa"], ["--bank_rate", 16000]],
    ids=str,
)
def test_an_option_that_would_be_ignored_is_refused(options, tmp_path):
    printed = prepare("--output", tmp_path / "bank", *options, code=2)
    assert f"error: {options[-2]} means nothing" in printed


@pytest.fixture
def without_extras(tmp_path):
    """A folder for Python's path where the extras are not installed."""
    (tmp_path / "path").mkdir()
    names = ("pyroomacoustics", "h5py", "matplotlib", "tensorboard")
    (tmp_path / "path" / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({names}))\n"
    )
    return tmp_path / "path"


def test_missing_extras_are_one_line(without_extras, tmp_path):
    assert "--from_bank" in prepare("--help", path=[without_extras])
    printed = prepare(
        "--output", tmp_path / "bank", code=1, path=[without_extras]
    )
    assert printed.startswith("error: This needs the package pyroomacoustics")
    assert "pip install -e '.[scenes]'" in printed
    assert not (tmp_path / "bank").exists()
    # a bank from elsewhere needs no simulation
    np.save(tmp_path / "0.npy", np.ones((3, 2, 640)))
    options = ["--output", tmp_path / "to", "--bank_rate", 16000]
    prepare("--from_bank", tmp_path, *options, path=[without_extras], code=1)
    (tmp_path / "from").mkdir()
    (tmp_path / "0.npy").rename(tmp_path / "from" / "0.npy")
    options = ["--from_bank", tmp_path / "from", *options]
    assert "1 scenes" in prepare(*options, path=[without_extras])


def test_the_naturalistic_recipe_names_the_extra_too(without_extras, tmp_path):
    """Its yaml names what simulates rooms, and is read all the same."""
    _, *command = make_command(
        tmp_path / "shards",
        tmp_path / "run",
        yaml="wavjepa_nat_mini.yaml",
        synthetic_rooms_folder=tmp_path / "rooms",
    )
    write_corpus(tmp_path / "shards")
    printed = run_script(
        "AudioSet/WavJEPA", *command, code=1, path=[without_extras]
    )
    last_line = printed.rstrip().split("\n")[-1]
    assert "This needs the package pyroomacoustics" in last_line
    assert not (tmp_path / "rooms").exists()


def start_and_end(command, bank, number):
    """Let a process make some shards and send it a signal.

    Returns its exit code and what it printed.
    """
    before = len(list(bank.glob("train/*.tar")))
    with subprocess.Popen(
        command, cwd=RECIPE, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: len(list(bank.glob("train/*.tar"))) > before)
        children = find_children(process.pid)
        assert len(children) >= 2
        process.send_signal(number)
        printed = process.stderr.read()
        process.wait()
    wait_until(lambda: not any(map(is_alive, children)))
    return process.returncode, printed


def test_killed_and_stopped_it_leaves_no_process_and_goes_on(tmp_path):
    bank = tmp_path / "bank"
    command = [sys.executable, "scenes_prepare.py", "--output", str(bank)]
    command += ["--num_rooms=2", "--scenes_per_room=30", "--num_workers=2"]
    command += ["--scenes_per_shard=1"]
    code, _ = start_and_end(command, bank, signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, printed = start_and_end(command, bank, signal.SIGTERM)
    assert code > 128
    last_line = printed.rstrip().split("\n")[-1]
    assert "start the same command again to resume" in last_line
    assert "Traceback" not in printed
    # what is finished is whole, and nothing else looks as if it were
    found = {path.suffix for path in bank.rglob("*") if path.is_file()}
    assert found == {".json", ".tar"}
    scenes = BRIRBank(bank)
    assert len(scenes) == len(list(bank.glob("train/*.tar"))) >= 2
    assert all(len(scenes[index].responses) for index in range(len(scenes)))
    assert "in use" not in prepare("--output", bank, "--seed", 1, code=1)
