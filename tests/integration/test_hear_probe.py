"""The recipe of HEAR probes through its command line."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from pictures import is_drawn
from recipe_run import read_files, run_script

from speechbrain_wavjepa.utils.files import hold


def probe(task_folder, pretrained, output, *more, fails=False, alone=False):
    """Run the recipe; return what it prints."""
    command = [
        "evaluate.py",
        "hparams/hear.yaml",
        f"--tasks_dir={task_folder.parent}",
        f"--pretrained={pretrained}",
        f"--output_folder={output}",
        *more,
    ]
    return run_script(
        "HEAR/linear_probe", *command, code=int(fails), alone=alone
    )


def test_a_suite(task_folder, pretrained_folder, binaural_folder, tmp_path):
    (tmp_path / task_folder.name).mkdir()  # empty: nothing is done yet
    printed = probe(
        task_folder, pretrained_folder, tmp_path, "--neighbours=[1, 5]"
    )
    output = tmp_path / task_folder.name
    results = json.loads((output / "test.predicted-scores.json").read_text())
    test = results["test"]
    assert test["test_score"] == test["test_top1_acc"]
    assert {"test_loss", "test_mAP", "validation_score", "epoch"} < set(test)
    assert results["hparams"]["hidden_dim"] == 1024
    assert results["score_mode"] == "max"
    percent = f"{100 * test['test_score']:.1f}"
    assert f"{task_folder.name} {percent}" in printed
    with np.load(output / "test.predictions.npz") as arrays:
        right = arrays["logits"].argmax(1) == arrays["targets"].argmax(1)
    assert right.mean() == pytest.approx(test["test_score"])

    assert is_drawn(output / "test.confusion.png")
    scores = json.loads((output / "test.neighbour-scores.json").read_text())
    assert set(scores) == {"k=1", "k=5"}

    done = (output / "prediction-done.json").stat().st_mtime_ns
    probe(task_folder, pretrained_folder, tmp_path, "--neighbours=[1, 5]")
    assert (output / "prediction-done.json").stat().st_mtime_ns == done


def test_other_settings_and_models_are_refused_in_the_same_folder(
    task_folder, pretrained_folder, binaural_folder, tmp_path
):
    small = ("--num_points=1", "--neighbours=[]")
    probe(task_folder, pretrained_folder, tmp_path, *small, "--precision=bf16")
    path = tmp_path / task_folder.name / "test.predicted-scores.json"
    assert json.loads(path.read_text())["hparams"]["precision"] == "bf16"
    before = read_files(tmp_path)
    changes = ("--learning_rates=[0.1]", "--random_weights=True", "--seed=1")
    for pretrained, *more in (
        (pretrained_folder, *changes),
        (binaural_folder,),
    ):
        options = [*small, "--precision=bf16", *more]
        printed = probe(task_folder, pretrained, tmp_path, *options, fails=True)
        (line,) = printed.splitlines()
        assert "choose another output folder" in line
        for option in more or ["--encoder_key="]:
            name, value = option[2:].split("=")
            assert f"{name}={value}" in line
        assert read_files(tmp_path) == before
    with hold(tmp_path):
        options = [*small, "--precision=bf16"]
        printed = probe(
            task_folder,
            pretrained_folder,
            tmp_path,
            *options,
            fails=True,
            alone=True,
        )
        (line,) = printed.splitlines()
        assert f"is in use by process {os.getpid()} on" in line


def test_the_score_of_other_sounds_under_the_same_names(
    task_folder, pretrained_folder, tmp_path
):
    """Neither the score nor the embeddings of the first are shown again."""
    tasks = tmp_path / "tasks"
    copy = shutil.copytree(task_folder, tasks / task_folder.name)
    small = ["--num_points=1", "--neighbours=[]"]
    small.append(f"--embeddings_folder={tmp_path / 'embeddings'}")
    first, second = tmp_path / "first", tmp_path / "second"
    probe(copy, pretrained_folder, first, *small)
    before = read_files(first / copy.name)
    random = np.random.default_rng(0)
    for path in sorted((copy / "16000").rglob("*.wav")):
        soundfile.write(path, 0.1 * random.standard_normal(1600), 16000)
    printed = probe(copy, pretrained_folder, first, *small, fails=True)
    assert f"{first / copy.name} was made with clips=" in printed
    assert read_files(first / copy.name) == before
    probe(copy, pretrained_folder, second, *small)
    name = f"{copy.name}/test.predicted-scores.json"
    scores = [
        json.loads((folder / name).read_text())["test"]
        for folder in (first, second)
    ]
    assert scores[0]["test_loss"] != scores[1]["test_loss"]


def test_a_broken_task_does_not_end_a_suite(
    task_folder, pretrained_folder, tmp_path
):
    tasks = tmp_path / "tasks"
    for name in ("broken-v1", "whole-v1"):
        shutil.copytree(task_folder, tasks / name)
    (tasks / "broken-v1" / "valid.json").unlink()
    printed = probe(
        tasks / "whole-v1",
        pretrained_folder,
        tmp_path / "scores",
        "--num_points=1",
        "--neighbours=[1]",
        fails=True,
    )
    assert "broken-v1" in printed and "valid.json is missing" in printed
    assert "Not done: broken-v1" in printed
    assert (tmp_path / "scores" / "whole-v1" / "prediction-done.json").exists()


@pytest.mark.parametrize("task", ["nowhere-v1"])
def test_a_task_that_is_not_there(
    task_folder, pretrained_folder, tmp_path, task
):
    printed = probe(
        task_folder, pretrained_folder, tmp_path, f"--task={task}", fails=True
    )
    assert f"has no task '{task}'" in printed


def test_own_sounds_become_a_task(task_folder, tmp_path):
    sounds = tmp_path / "sounds"
    for number, clip in enumerate((task_folder / "16000" / "train").iterdir()):
        place = sounds / ("low" if int(clip.stem) % 2 == 0 else "high")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.wav").write_bytes(clip.read_bytes())
    command = ["hear_prepare.py", f"--output={tmp_path}"]
    printed = run_script(
        "HEAR", *command, f"--from_folder={sounds}", "--name=own"
    )
    assert "own-v1-full: fold00 3, fold01 3, fold02 2" in printed
    rows = [f"{path},{path.parent.name}" for path in sounds.glob("*/*.wav")]
    table = tmp_path / "TABLE.CSV"  # paths that need not lie below it
    table.write_text("\n".join(["file,label", *rows]))
    printed = run_script(
        "HEAR", *command, f"--from_folder={table}", "--name=table"
    )
    assert "table-v1-full: fold00 3, fold01 3, fold02 2" in printed
