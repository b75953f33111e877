"""The recipe of HEAR probes through its command line."""

import json
import shutil

import numpy as np
import pytest
from recipe_run import run_script


def probe(task_folder, pretrained, output, *more, fails=False):
    """Run the recipe; return what it prints."""
    command = [
        "train.py",
        "hparams/hear.yaml",
        f"--tasks_dir={task_folder.parent}",
        f"--pretrained={pretrained}",
        f"--output_folder={output}",
        *more,
    ]
    return run_script("HEAR/linear_probe", *command, code=int(fails))


def test_a_suite(task_folder, pretrained_folder, binaural_folder, tmp_path):
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
    assert f"{task_folder.name:<40} {percent}" in printed
    with np.load(output / "test.predictions.npz") as arrays:
        right = arrays["logits"].argmax(1) == arrays["targets"].argmax(1)
    assert right.mean() == pytest.approx(test["test_score"])

    assert (output / "test.confusion.png").stat().st_size > 5000
    scores = json.loads((output / "test.neighbour-scores.json").read_text())
    assert set(scores) == {"k=1", "k=5"}

    done = (output / "prediction-done.json").stat().st_mtime_ns
    probe(task_folder, pretrained_folder, tmp_path, "--neighbours=[1, 5]")
    assert (output / "prediction-done.json").stat().st_mtime_ns == done
    printed = probe(task_folder, binaural_folder, tmp_path, fails=True)
    assert "holds figures that were made with encoder_key=" in printed


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
    command = ["hear_prepare.py", f"--from_folder={sounds}"]
    command += [f"--output={tmp_path}", "--name=own"]
    printed = run_script("HEAR", *command)
    assert "own-v1-full: fold00 3, fold01 3, fold02 2" in printed
