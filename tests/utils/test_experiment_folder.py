"""An experiment begins in a folder of its own, checked before it is written."""

import importlib.metadata
import logging
import os
import shutil
import socket
import subprocess
import sys

import pytest

from speechbrain_wavjepa.utils.experiment import (
    experiment,
    log_early,
    read_made_with,
)

YAML = """
lr: 0.1
workers: 2
output_folder: results
half: !ref <lr> / 2
optimizer: !name:torch.optim.SGD
  lr: !ref <lr>
logger: !new:logging.FileHandler
  filename: !ref <output_folder>/log.txt
loader: !new:collections.Counter
  workers: !ref <workers>
"""
WITHOUT = {"workers", "output_folder", "logger"}


@pytest.fixture
def hparams_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture(autouse=True)
def as_before():
    """Give logging and the excepthook back."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = list(root.handlers), root.level
    yield
    sys.excepthook = hook
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    for handler in set(handlers) - set(root.handlers):
        root.addHandler(handler)


def begin(hparams_file, overrides="", **options):
    """Begin an experiment beside its yaml."""
    made_with = read_made_with(hparams_file, overrides, WITHOUT, {})
    folder = hparams_file.parent / "run"
    return experiment(folder, hparams_file, overrides, made_with, **options)


def contents(folder):
    """Read every file."""
    return {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_what_is_left_out_is_left_out_wherever_it_is_used(hparams_file):
    def read(overrides):
        return read_made_with(hparams_file, overrides, WITHOUT, {"data": 1})

    first = read("")
    assert set(first) == {"lr", "half", "optimizer", "loader", "data"}
    assert read("workers: 9\noutput_folder: elsewhere") == first
    assert read("lr: 1e-1") == first
    assert read("lr: 0.2")["optimizer"] == [
        "!name:torch.optim.SGD",
        {"lr": 0.2},
    ]
    assert read("optimizer: {momentum: 0.9}") != first


def test_a_setting_is_named_and_not_all_that_is_built_of_it(hparams_file):
    with begin(hparams_file):
        pass
    before = contents(hparams_file.parent)
    message = r"run was made with half=0.05, lr=0.1, not half=0.1, lr=0.2: "
    with pytest.raises(ValueError, match=message):
        with begin(hparams_file, "lr: 0.2"):
            raise AssertionError("it began")
    with pytest.raises(ValueError, match="optimizer="):
        with begin(hparams_file, "optimizer: {momentum: 0.9}"):
            raise AssertionError("it began")
    assert contents(hparams_file.parent) == before


def test_a_dry_run_deletes_the_one_before_and_nothing_else(hparams_file):
    folder = hparams_file.parent / "run"
    with begin(hparams_file):
        pass
    note = folder / "made_with.json"  # a name that says dry_run is none
    note.write_text(note.read_text().replace("{", '{"data": "dry_run.tar",', 1))
    before = contents(folder)
    with pytest.raises(ValueError, match="was made with .*dry_run=None"):
        with begin(hparams_file, fresh=True):
            raise AssertionError("it began")
    assert contents(folder) == before
    shutil.rmtree(folder)
    with begin(hparams_file, fresh=True):
        (folder / "save").mkdir()
        (folder / "save" / "old").touch()
    with begin(hparams_file, "lr: 0.2", fresh=True):
        assert list((folder / "save").iterdir()) == []
        assert "lr: 0.2" in (folder / "hyperparams.yaml").read_text()
    (folder / "made_with.json").unlink()
    (folder / "thesis.txt").touch()
    with pytest.raises(ValueError, match="something else"):
        with begin(hparams_file, fresh=True):
            raise AssertionError("it began")
    assert (folder / "thesis.txt").exists()


def test_it_describes_the_interpreter_that_runs(hparams_file, monkeypatch):
    """SpeechBrain's own description asks the first pip on the path."""
    monkeypatch.setenv("PATH", "")
    with begin(hparams_file):
        text = (hparams_file.parent / "run" / "env.log").read_text()
    assert f"Interpreter: {sys.executable}" in text
    for name in ("torch", "speechbrain", "numpy"):
        assert f"\n{name}=={importlib.metadata.version(name)}\n" in text


def test_what_was_logged_early_is_in_the_log(hparams_file):
    log_early()
    logging.getLogger("clips").info("hours of sound: %d", 3)
    for _ in range(2):
        with begin(hparams_file):
            pass
    text = (hparams_file.parent / "run" / "log.txt").read_text()
    assert text.count("hours of sound: 3") == 1


MACHINE = """
import sys, torch
from speechbrain_wavjepa.utils.experiment import experiment, run_script
rank, meet, yaml, folder = sys.argv[1:]
torch.distributed.init_process_group(
    "gloo", init_method=meet, rank=int(rank), world_size=2
)
def main():
    with experiment(folder, yaml, "", {}):
        print("it began")
sys.exit(run_script(main))
"""


def test_machines_that_do_not_share_the_folder_are_refused(
    hparams_file, tmp_path
):
    machines = []
    for rank in "01":
        folder = tmp_path / rank
        folder.mkdir()
        machines.append(
            subprocess.Popen(
                [sys.executable, "-c", MACHINE, rank,
                 f"file://{tmp_path / 'meet'}", hparams_file, folder],
                env={**os.environ, "RANK": rank},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )  # fmt: skip
    main, other = (m.communicate(timeout=120)[0] for m in machines)
    # gloo's threads may abort the one that ends last
    assert all(machine.returncode for machine in machines)
    message = f"0 on {socket.gethostname()} is another folder than that of the"
    assert message in main and "a disk that all machines share" in main
    assert "it began" not in main + other
    assert not list((tmp_path / "0").glob("made_with.json"))
