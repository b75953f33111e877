"""Fine-tuning through its command line, and what it leaves."""

import json
import shutil
import signal
import time

import pytest
import torch
from recipe_run import read_files, run_script, start_script
from speechbrain.inference.classifiers import EncoderClassifier

from speechbrain_wavjepa.inference import load_pretrained
from speechbrain_wavjepa.inference.pretrained import read_weights


def command(task_folder, pretrained, output, *more):
    """List what runs the recipe, for two epochs by default."""
    options = {"--batch_size": 4, "--number_of_epochs": 2}
    options |= dict(option.split("=") for option in more)
    return [
        "train.py",
        "hparams/fine_tune.yaml",
        f"--tasks_dir={task_folder.parent}",
        f"--task={task_folder.name}",
        f"--pretrained={pretrained}",
        f"--output_folder={output}",
        *(f"{name}={value}" for name, value in options.items()),
    ]


def fine_tune(*arguments, fails=False):
    """Run the recipe; return what it prints."""
    words = command(*arguments)
    return run_script("HEAR/fine_tuning", *words, code=int(fails))


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


def test_another_start_in_the_same_folder_is_refused(
    task_folder, pretrained_folder, binaural_folder, tmp_path
):
    """Its figures are not shown again, and its files stay as they are."""
    output, tasks = tmp_path / "out", tmp_path / "tasks"
    fine_tune(task_folder, pretrained_folder, output)
    results = json.loads((output / "results.json").read_text())
    assert results["made_with"]["lr"] == 0.0003
    assert len(results["made_with"]["encoder_key"]) == 64
    before = read_files(output)
    other_task = shutil.copytree(task_folder, tasks / task_folder.name)
    (other_task / "labelvocabulary.csv").write_text("idx,label\n0,low\n1,high")
    others = {
        "--lr": "0.01",
        "--random_weights": "True",
        "--precision": "bf16",
        "--number_of_epochs": "3",
    }
    options = [f"{name}={value}" for name, value in others.items()]
    for task, pretrained, *more in (
        (task_folder, pretrained_folder, *options),
        (other_task, binaural_folder),
    ):
        printed = fine_tune(task, pretrained, output, *more, fails=True)
        *_, line = printed.splitlines()
        assert line.startswith(f"error: {output} was made with")
        assert "choose another output folder" in line
        for option in more or ["--encoder_key=", "--labels="]:
            assert f"{option[2:]}" in line.split(", not ")[1]
        assert read_files(output) == before
    run = command(task_folder, pretrained_folder, output, "--lr=0.01")
    debug = tmp_path / "out_debug"
    run_script("HEAR/fine_tuning", *run, "--debug")
    assert (debug / "results.json").exists()
    (debug / "old.txt").touch()
    # another one, afresh
    run = command(task_folder, pretrained_folder, f"{output}/", "--lr=0.02")
    run_script("HEAR/fine_tuning", *run, "--debug")
    assert not (debug / "old.txt").exists()
    assert read_files(output) == before


def test_ctrl_c_and_the_same_command_again(
    task_folder, pretrained_folder, tmp_path
):
    """It ends as if nothing had happened."""
    folders = tmp_path / "straight", tmp_path / "stopped"
    options = (task_folder, pretrained_folder)
    fine_tune(*options, folders[0], "--number_of_epochs=12")
    again = command(*options, folders[1], "--number_of_epochs=12")
    log = folders[1] / "train_log.txt"
    with start_script("HEAR/fine_tuning", *again) as process:
        while process.poll() is None:
            if log.exists() and log.read_text().count("epoch") >= 2:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    last = printed.splitlines()[-1]
    assert last == "Interrupted: start the same command again to resume."
    assert not (folders[1] / "results.json").exists()
    run_script("HEAR/fine_tuning", *again)
    epochs = [
        # stopped before its checkpoint, an epoch is logged again, equally
        dict.fromkeys(
            line
            for line in (folder / "train_log.txt").read_text().splitlines()
            if line.startswith("epoch")
        )
        for folder in folders
    ]
    assert epochs[0] == epochs[1]
    assert len(epochs[0]) == 12
    for name in ("classifier.ckpt", "wavjepa.ckpt"):
        straight, stopped = (
            read_weights(folder / "pretrained" / name) for folder in folders
        )
        assert all(torch.equal(straight[key], stopped[key]) for key in straight)
