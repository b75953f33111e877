"""Fine-tuning through its command line, and what it leaves."""

import json

import pytest
import torch
from recipe_run import run_script
from speechbrain.inference.classifiers import EncoderClassifier

from speechbrain_wavjepa.pretrained import load_pretrained
from speechbrain_wavjepa.weights import read_weights


def fine_tune(task_folder, pretrained, output, *more, fails=False):
    """Run the recipe, for two epochs by default; return what it prints."""
    command = [
        "train.py",
        "hparams/fine_tune.yaml",
        f"--tasks_dir={task_folder.parent}",
        f"--task={task_folder.name}",
        f"--pretrained={pretrained}",
        f"--output_folder={output}",
        "--batch_size=4",
        *more,
    ]
    if not any(option.startswith("--number_of_epochs") for option in more):
        command.append("--number_of_epochs=2")
    return run_script("HEAR/fine_tuning", *command, code=int(fails))


@pytest.mark.parametrize("folder", ["pretrained_folder", "binaural_folder"])
def test_the_classifier_is_the_one_that_was_tested(
    task_folder, request, tmp_path, folder
):
    pretrained = request.getfixturevalue(folder)
    printed = fine_tune(task_folder, pretrained, tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    score = results["test"]["test_score"]
    assert f"top1_acc on test: {score:.3f}" in printed
    classifier = EncoderClassifier.from_hparams(
        source=str(tmp_path / "out" / "pretrained"),
        savedir=str(tmp_path / "cache"),
    )
    truth = json.loads((task_folder / "test.json").read_text())
    right = 0
    for name, (label,) in truth.items():
        path = task_folder / "16000" / "test" / name
        _, _, _, (found,) = classifier.classify_file(str(path))
        right += found == label
    assert right / len(truth) == pytest.approx(score)

    before = read_weights(pretrained / "wavjepa.ckpt")
    after = read_weights(tmp_path / "out" / "pretrained" / "wavjepa.ckpt")
    for key, weights in before.items():
        same = torch.equal(weights, after[key])
        assert same == key.startswith("frontend."), key
    assert load_pretrained(tmp_path / "out" / "pretrained")


def test_the_front_end_learns_when_it_is_let(
    task_folder, pretrained_folder, tmp_path
):
    options = ("--freeze_frontend=False", "--mixup_alpha=0")
    fine_tune(task_folder, pretrained_folder, tmp_path / "out", *options)
    before = read_weights(pretrained_folder / "wavjepa.ckpt")
    after = read_weights(tmp_path / "out" / "pretrained" / "wavjepa.ckpt")
    key = "frontend.stacks.0.layers.0.weight"
    assert not torch.equal(before[key], after[key])


def test_a_run_that_is_not_there(task_folder, pretrained_folder, tmp_path):
    printed = fine_tune(
        task_folder, pretrained_folder, tmp_path, "--run=1", fails=True
    )
    assert "has the runs 0 to 0, got run=1" in printed
