"""Whole pretraining runs through the real command line."""

import json
import subprocess
import time

import pytest
import torch
import yaml
from tiny_run import (
    DISTURBED,
    ENVIRONMENT,
    RECIPE,
    make_command,
    newest_checkpoint,
    read_log,
    run,
    run_disturbed,
    write_corpus,
)

from speechbrain_wavjepa.hyperparams import read_settings
from speechbrain_wavjepa.pretrained import load_pretrained


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A corpus of four shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_corpus(folder)
    return folder


def load(path):
    """Load a saved state."""
    return torch.load(path, weights_only=True)


def test_it_learns_and_leaves_its_results(shards, tmp_path):
    printed = run(make_command(shards, tmp_path))
    assert "4 clips x 2 windows = 8 windows" in printed
    assert "hours of audio in a nominal epoch of 30 batches" in printed
    figures = [line for line in read_log(tmp_path) if "loss" in line]
    losses = [line["loss"] for line in figures]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert figures[-1]["step"] == 60
    for line in figures:
        assert line["target_deviation"] > 0.1
        assert line["effective_rank"] > 1.0
        assert line["gradient_norm"] > 0
    assert (
        len([line for line in read_log(tmp_path) if "valid_loss" in line]) == 2
    )
    for name in ("learning_curve.png", "masks.png", "train_log.txt"):
        assert (tmp_path / name).stat().st_size > 100
    assert list((tmp_path / "tensorboard").iterdir())
    pretrained = tmp_path / "pretrained"
    assert read_settings(pretrained)["training"]["step"] == 60
    loaded = load_pretrained(pretrained).embedding_model.model.state_dict()
    trained = load(newest_checkpoint(tmp_path) / "wavjepa.ckpt")
    assert all(torch.equal(loaded[key], trained[key]) for key in loaded)


DISTURBANCES = {
    0: [
        ("on_stage_start", 1, "SIGTERM", 143),  # before the first step
        ("evaluate_batch", 2, "SIGUSR1", 138),
    ],
    2: [
        ("fit_batch", 3, "SIGTERM", 143),
        ("fit_batch", 3, "worker", 1),
        ("fit_batch", 2, "SIGINT", 130),
    ],
}
LAST_LINES = {
    143: "Ended by SIGTERM: start the same command again to resume.",
    138: "Ended by SIGUSR1: start the same command again to resume.",
    130: "Interrupted: start the same command again to resume.",
}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_disturbed_run_resumes_bitwise(shards, tmp_path, num_workers):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    settings = {"num_workers": num_workers, "grad_accumulation_factor": 2}
    settings |= {"total_steps": 30, "ckpt_interval_steps": 6}
    run(make_command(shards, straight, **settings))
    command = make_command(shards, killed, **settings)
    kill(command, killed)
    for method, count, kind, code in DISTURBANCES[num_workers]:
        before = read_step(killed)
        end, printed = run_disturbed(command, method, count, kind)
        assert end == code, printed
        assert "Traceback" not in printed
        last_line = printed.strip().splitlines()[-1]
        if kind == "worker":
            assert "lower num_workers (2), shuffle_buffer (16)" in last_line
            assert "(pid" in last_line and "memory" in last_line
        else:
            assert last_line == LAST_LINES[code]
        if kind == "SIGTERM":  # at the first optimizer step after it
            assert read_step(killed) == before + 1 + (count > 2)
    run(command)
    ends = [newest_checkpoint(folder) for folder in (straight, killed)]
    weights = [load(end / "wavjepa.ckpt") for end in ends]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    states = [load(end / "optimizer.ckpt")["state"] for end in ends]
    for index, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][index][name])
    positions = [(end / "stream_state.ckpt").read_text() for end in ends]
    assert positions[0] == positions[1]
    assert read_log(straight) == read_log(killed)
    epochs = [
        set((folder / "train_log.txt").read_text().splitlines())
        for folder in (straight, killed)
    ]
    assert epochs[0] == epochs[1]


def kill(command, output_folder):
    """Kill the main process of a run after its first checkpoint."""
    process = subprocess.Popen(
        command,
        cwd=RECIPE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not list((output_folder / "save").glob("CKPT+*")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    time.sleep(0.2)  # a few steps more, which are lost
    process.kill()
    # its workers hold the other end of the pipe as long as they live
    process.communicate(timeout=120)


def read_step(output_folder):
    """Read the optimizer step of the last checkpoint."""
    meta = newest_checkpoint(output_folder) / "CKPT.yaml"
    return yaml.safe_load(meta.read_text())["step"]


def test_two_processes_end_with_equal_weights(shards, tmp_path):
    script = tmp_path / "compare.py"
    script.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(RECIPE)!r})\n"
        "import train\n"
        "def compare(brain, *_):\n"
        "    flat = torch.cat([p.detach().flatten()\n"
        "        for p in brain.hparams.wavjepa.parameters()])\n"
        "    all_ranks = [torch.empty_like(flat) for _ in range(2)]\n"
        "    torch.distributed.all_gather(all_ranks, flat)\n"
        "    assert torch.equal(*all_ranks)\n"
        # in one write: the processes print at the same time
        "    equal = flat.abs().sum().item() > 0\n"
        "    sys.stdout.write(f'equal weights {equal}\\n')\n"
        "fit = train.WavJEPABrain.fit\n"
        "def fit_and_compare(brain, *args, **kwargs):\n"
        "    fit(brain, *args, **kwargs)\n"
        "    compare(brain)\n"
        "train.WavJEPABrain.fit = fit_and_compare\n"
        "train.main()\n"
    )
    command = make_command(
        shards,
        tmp_path / "run",
        "--distributed_backend=gloo",
        "--device=cpu",
        launcher=("-m", "torch.distributed.run", "--nproc_per_node=2",
                  "--master_port=29511"),
        num_workers=1,
        batches_per_epoch=5,
        ckpt_interval_steps=5,
    )  # fmt: skip
    command[command.index("train.py")] = str(script)
    printed = run(command)
    assert printed.count("equal weights True") == 2
    assert "8 clips x 2 windows = 16 windows on 2 process(es)" in printed
    state = json.loads(
        (newest_checkpoint(tmp_path / "run") / "stream_state.ckpt").read_text()
    )
    assert len(state["processes"]) == 2


def test_a_signal_ends_all_processes_with_one_checkpoint(shards, tmp_path):
    script = tmp_path / "disturbed.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(RECIPE)!r})\n"
        "if os.environ['RANK'] == '0':\n"
        "    sys.argv[2] = '0'\n"  # only the other one gets it
        f"{DISTURBED}"
    )
    command = make_command(
        shards,
        tmp_path / "run",
        "--distributed_backend=gloo",
        "--device=cpu",
        launcher=("-m", "torch.distributed.run", "--nproc_per_node=2",
                  "--master_port=29513"),
        num_workers=1,
    )  # fmt: skip
    place = command.index("train.py")
    command[place : place + 1] = [script, "fit_batch", "3", "SIGTERM"]
    printed = run(command, fails=True, start_new_session=True)
    assert printed.count("Ended by SIGTERM") == 1
    assert read_step(tmp_path / "run") == 3
    state = newest_checkpoint(tmp_path / "run") / "stream_state.ckpt"
    assert len(json.loads(state.read_text())["processes"]) == 2


def test_a_loss_that_is_not_finite_changes_nothing_and_stops(shards, tmp_path):
    """With a learning rate like this the weights overflow at once."""
    printed = run(
        make_command(
            shards,
            tmp_path,
            lr=1e38,
            warmup_steps=1,
            nonfinite_patience=2,
            ckpt_interval_steps=1,
            checkpoints_to_keep=50,
        ),
        fails=True,
    )
    assert printed.count("Neither weights nor target encoder") == 3
    assert "more than nonfinite_patience=2" in printed
    assert ".tar::" in printed.strip().split("\n")[-1]  # names the clips
    states = [
        load(folder / "wavjepa.ckpt")
        for folder in sorted((tmp_path / "save").glob("CKPT+*"))[-2:]
    ]
    for name, value in states[0].items():
        assert torch.equal(value.nan_to_num(), states[1][name].nan_to_num()), (
            name
        )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"train_shards": "nowhere/shard-{000000..000009}.tar"}, "nowhere"),
        ({"num_workers": 9}, "num_workers"),
        ({"target_prob": 0.99}, "min_context_ratio"),
        ({"grad_accumulation_factor": 7}, "grad_accumulation_factor=7"),
        ({"learnin_rate": 1}, "learnin_rate"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"window_samples": 50000}, "window_samples=50000"),
        ({"encoder_heads": 5}, "num_heads=5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_get_one_clear_message(shards, tmp_path, settings, message):
    printed = run(make_command(shards, tmp_path, **settings), fails=True)
    assert message in printed.strip().split("\n")[-1]
    assert not (tmp_path / "save").exists() or not list(
        (tmp_path / "save").glob("CKPT+*")
    )


def test_a_checkpoint_of_another_model_is_refused(shards, tmp_path):
    few = {"number_of_epochs": 1, "batches_per_epoch": 2}
    few["ckpt_interval_steps"] = 2
    run(make_command(shards, tmp_path, **few))
    few["encoder_dim"], few["number_of_epochs"] = 64, 2
    printed = run(make_command(shards, tmp_path, **few), fails=True)
    assert "output_folder" in printed.strip().split("\n")[-1]
