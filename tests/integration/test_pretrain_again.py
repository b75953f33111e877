"""A finished run, started again: as it was, with other settings, dry."""

import json
import shutil

import pytest
import torch
from tiny_run import (
    change,
    make_command,
    newest_checkpoint,
    read_files,
    read_log,
    run,
    write_corpus,
)

SHORT = {"total_steps": 12, "steps_per_epoch": 8, "warmup_steps": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, beside its shards."""
    folder = tmp_path_factory.mktemp("finished")
    write_corpus(folder / "shards")
    run(make_command(folder / "shards", folder / "run", **SHORT))
    return folder / "run"


def make_again(finished, *more, **settings):
    """Build the command of the finished run with other settings."""
    shards = finished.parent / "shards"
    options = {**SHORT, "output_folder": finished, **settings}
    return make_command(shards, options.pop("output_folder"), *more, **options)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": 0.01}, "made with lr=0.001, not lr=0.01: go back to"),
        ({"precision": "bf16"}, "precision=fp32, not precision=bf16"),
        ({"snr": None, "num_workers": 2}, "num_workers=1, not num_workers=2"),
        ({"shards": "other"}, "train_data=3 files, shard-000000.tar to"),
    ],
    ids=["setting", "run option", "workers", "data"],
)
def test_other_settings_or_data_are_refused_and_write_nothing(
    finished, tmp_path, settings, message
):
    if "shards" in settings:
        shutil.copytree(finished.parent / "shards", tmp_path / "shards")
        with open(tmp_path / "shards" / "shard-000001.tar", "ab") as shard:
            shard.write(bytes(1024))
        settings = {"train_shards": tmp_path / "shards"}
    before = read_files(finished)
    printed = run(make_again(finished, **settings), fails=True)
    assert message in printed.strip().split("\n")[-1]
    assert read_files(finished) == before


def test_a_dry_run_has_a_folder_of_its_own(finished):
    before = read_files(finished)
    task = {"probe_task": "nowhere"}  # nothing is measured
    printed = run(make_again(finished, "--debug", "--debug_batches=3", **task))
    assert read_files(finished) == before
    debug = finished.with_name("run_debug")
    assert str(debug / "pretrained") in printed
    assert (debug / "pretrained" / "hyperparams.yaml").exists()
    assert not (debug / "learning_table.json").exists()
    (debug / "old.txt").touch()
    # another one, afresh
    run(make_again(finished, "--debug", lr=0.01, output_folder=f"{finished}/"))
    assert not (debug / "old.txt").exists()
    last = [line for line in read_log(debug) if "valid_loss" in line][-1]
    assert last["step"] == 4
    assert read_files(finished) == before


def test_it_trains_nothing_and_measures_what_is_asked(finished, task_folder):
    checkpoint = newest_checkpoint(finished)
    assert not (finished / "learning_table.json").exists()  # no labels
    card = (finished / "pretrained" / "README.md").read_text()
    assert "# WavJEPA, pretrained on shards\n" in card
    assert "linear probe" not in card
    before = read_files(finished)
    asked = make_again(finished, probe_task=task_folder, log_interval_steps=3)

    # a table that fails does not lose the model, and is not hidden
    (finished / "pretrained" / "README.md").write_text("")
    broken = (
        "def broken(*_): raise ValueError('no table')\n"
        "train.write_results.__globals__['learning_table'] = broken"
    )
    script = finished.parent / "broken.py"
    printed = run(change(asked, script, broken), fails=True)
    assert printed.strip().endswith("error: no table")
    assert "All 12 steps were taken before" in printed
    assert (finished / "pretrained" / "README.md").read_text() == card

    printed = run(asked)
    measured_on = (
        f"the task {task_folder.name}: 24 clips, each of 3 folds held out once"
    )
    assert f"Measured on {measured_on}." in printed
    report = json.loads((finished / "learning_table.json").read_text())
    assert report["measured_on"] == measured_on
    assert set(report["accuracy"]) == {"clean"}
    card = (finished / "pretrained" / "README.md").read_text()
    assert f"| linear probes measured on | {measured_on} |" in card
    assert "| linear probe, clean, pretrained encoder | " in card
    after = read_files(finished)
    kept = [name for name in before if name.startswith("save/")]
    for name in [*kept, "steps.jsonl", "train_log.txt", "made_with.json"]:
        assert after[name] == before[name], name
    assert newest_checkpoint(finished) == checkpoint
    weights = torch.load(
        finished / "pretrained" / "wavjepa.ckpt", weights_only=True
    )
    trained = torch.load(checkpoint / "wavjepa.ckpt", weights_only=True)
    assert all(torch.equal(weights[key], trained[key]) for key in weights)
    run(make_again(finished))  # asks for no table, and keeps the one there is
    assert (finished / "pretrained" / "README.md").read_text() == card


def test_it_records_its_environment(finished):
    recorded = (finished / "env.log").read_text()
    assert f"torch=={torch.__version__.split('+')[0]}" in recorded
    assert (finished / "train.py").exists()
    assert not (finished / "experiment.py").exists()
    settings = (finished / "hyperparams.yaml").read_text()
    assert "\nckpt_interval_steps: 10 " in settings  # a run option
    assert "Run option precision from" in (finished / "log.txt").read_text()
