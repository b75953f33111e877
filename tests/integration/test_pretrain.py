"""Whole pretraining runs through the real command line."""

import json
import re
import subprocess
import time

import pytest
import torch
import yaml
from pictures import is_drawn
from tiny_run import (
    DISTURBANCE,
    ENVIRONMENT,
    RECIPE,
    TWO,
    change,
    make_command,
    newest_checkpoint,
    read_files,
    read_log,
    run,
    run_alone,
    write_corpus,
)

from speechbrain_wavjepa.inference import load_pretrained
from speechbrain_wavjepa.inference.config import read_settings
from speechbrain_wavjepa.nnet import WarmupCosine
from speechbrain_wavjepa.utils.checkpoints import find_damage


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
    assert "Nominal epoch: 30 steps" in printed
    figures = [line for line in read_log(tmp_path) if "loss" in line]
    losses = [line["loss"] for line in figures]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert figures[-1]["step"] == 60
    for line in figures:
        assert line["target_std"] > 0.1
        assert line["effective_rank"] > 1.0
        assert line["gradient_norm"] > 0
    assert (
        len([line for line in read_log(tmp_path) if "valid_loss" in line]) == 2
    )
    for name in ("learning_curve.png", "masks.png"):
        assert is_drawn(tmp_path / name)
    assert "valid loss" in (tmp_path / "train_log.txt").read_text()
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
    settings = {"num_workers": num_workers, "effective_batch": 16}
    settings |= {"total_steps": 30, "steps_per_epoch": 15}
    settings |= {"ckpt_interval_steps": 6}
    run(make_command(shards, straight, **settings))
    command = make_command(shards, killed, **settings)
    kill(command, killed)
    script = tmp_path / "disturbed.py"
    for method, count, kind, code in DISTURBANCES[num_workers]:
        before = read_step(killed)
        code_of_it = DISTURBANCE.format(method, count, kind)
        end, printed = run_alone(change(command, script, code_of_it))
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
    log = read_log(straight)
    assert log == read_log(killed)
    figures = [line for line in log if "loss" in line]
    assert figures[-1]["step"] == 30  # of two batches each
    epochs = [
        set((folder / "train_log.txt").read_text().splitlines())
        for folder in (straight, killed)
    ]
    assert epochs[0] == epochs[1]


# the fifth training batch never comes
WAITING = """
import os, signal, time
from speechbrain_wavjepa.dataio.batch import ClipCollator
collate, batches = ClipCollator.__call__, []
def wait(*arguments):
    batches.append(arguments)
    if len(batches) == 6:  # one is drawn first
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
    return collate(*arguments)
ClipCollator.__call__ = wait
"""


def test_a_run_that_waits_for_data_saves_at_once(shards, tmp_path):
    settings = {"num_workers": 0, "effective_batch": 16}
    settings |= {"total_steps": 4, "warmup_steps": 2, "log_interval_steps": 1}
    run(make_command(shards, tmp_path / "straight", **settings))
    command = make_command(shards, tmp_path / "waiting", **settings)
    end, printed = run_alone(change(command, tmp_path / "a.py", WAITING))
    assert end == 143, printed
    assert printed.strip().splitlines()[-1] == LAST_LINES[143]
    assert read_step(tmp_path / "waiting") == 2
    run(command)
    log = read_log(tmp_path / "straight")
    assert log == read_log(tmp_path / "waiting") and log[-1]["step"] == 4


def kill(command, output_folder):
    """Kill the main process of a run after its first checkpoint."""
    process = subprocess.Popen(
        command,
        cwd=RECIPE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for_checkpoint(process, output_folder)
    time.sleep(0.2)  # a few steps more, which are lost
    process.kill()
    # its workers hold the other end of the pipe as long as they live
    process.communicate(timeout=120)


def wait_for_checkpoint(process, output_folder):
    """Wait until a run has saved its first checkpoint."""
    while not list((output_folder / "save").glob("CKPT+*")):
        assert process.poll() is None
        time.sleep(0.01)


def read_step(output_folder):
    """Read the optimizer step of the last checkpoint."""
    meta = newest_checkpoint(output_folder) / "CKPT.yaml"
    return yaml.safe_load(meta.read_text())["step"]


def test_a_second_run_in_the_same_folder_is_refused(shards, tmp_path):
    command = make_command(shards, tmp_path / "run", total_steps=100000)
    with (
        open(tmp_path / "printed.txt", "w+") as file,
        subprocess.Popen(
            command,
            cwd=RECIPE,
            env=ENVIRONMENT,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as first,
    ):
        wait_for_checkpoint(first, tmp_path / "run")
        before = read_log(tmp_path / "run")
        last_line = run(command, fails=True).strip().split("\n")[-1]
        assert re.search(
            rf"in use by process {first.pid} on .+: wait", last_line
        )
        while len(read_log(tmp_path / "run")) == len(before):
            assert first.poll() is None
            time.sleep(0.05)
        first.terminate()
    printed = (tmp_path / "printed.txt").read_text()
    assert first.returncode == 143, printed  # it was not harmed
    assert "Traceback" not in printed
    log = read_log(tmp_path / "run")
    assert len(log) > len(before) and log[: len(before)] == before
    assert find_damage(newest_checkpoint(tmp_path / "run")) is None


# the loss of these training batches is made NaN
POISON = """
import torch
measure, batches = train.masked_mse, []
def poisoned(*args):
    if not torch.is_grad_enabled():
        return measure(*args)
    batches.append(None)
    return measure(*args) * (float("nan") if len(batches) in {} else 1)
train.masked_mse = poisoned
"""


def read_checkpoints(output_folder):
    """Find checkpoints by the number of batches in their first epoch."""
    found = {}
    for folder in (output_folder / "save").glob("CKPT+*"):
        place = yaml.safe_load((folder / "brain.ckpt").read_text())
        if (folder / "counter.ckpt").read_text() == "1" and place["step"]:
            found[place["step"]] = folder
    return found


def same_state(one, other):
    """Say whether two checkpoints hold the same weights and optimizer."""
    names = ("wavjepa.ckpt", "optimizer.ckpt")
    pairs = [(load(one / name), load(other / name)) for name in names]
    weights, optimizers = pairs
    assert all(value.isfinite().all() for value in weights[0].values())
    return all(
        torch.equal(value, weights[1][name])
        for name, value in weights[0].items()
    ) and all(
        torch.equal(value, optimizers[1]["state"][index][name])
        for index, state in optimizers[0]["state"].items()
        for name, value in state.items()
    )


def test_a_step_that_is_not_finite_changes_nothing_and_shortens_nothing(
    shards, tmp_path
):
    """The second of the two batches of step 3 is bad."""
    command = make_command(
        shards,
        tmp_path / "run",
        effective_batch=16,
        total_steps=10,
        steps_per_epoch=4,
        ckpt_interval_steps=2,
        checkpoints_to_keep=50,
        log_interval_steps=1,
    )
    code = POISON.replace("{}", "{6}")
    printed = run(change(command, tmp_path / "poisoned.py", code))
    assert printed.count("Neither weights nor target encoder") == 1
    states = read_checkpoints(tmp_path / "run")
    assert same_state(states[4], states[6])
    assert not same_state(states[6], states[8])
    log = read_log(tmp_path / "run")
    figures = [line for line in log if "loss" in line]
    assert [line["step"] for line in figures] == list(range(1, 11))
    schedule = WarmupCosine(0.001, 6, 10, 0.0003)
    assert figures[-1]["learning_rate"] == schedule(9)
    # the last nominal epoch has six batches, and is validated and saved
    validated = [line["step"] for line in log if "valid_loss" in line]
    assert validated == [3, 7, 10]
    newest = newest_checkpoint(tmp_path / "run")
    assert yaml.safe_load((newest / "CKPT.yaml").read_text())["step"] == 10
    state = json.loads((newest / "stream_state.ckpt").read_text())
    (position,) = state["processes"][0]["positions"]
    assert position["seen"] == 11 * 2 * 4


# the second batch of one of two processes gives a loss that is not finite
POISON_ONE = """
import os
measure = train.WavJEPABrain.compute_objectives
def poisoned(brain, output, batch, stage):
    loss = measure(brain, output, batch, stage)
    if brain.step != 2 or os.environ["RANK"] != "1":
        return loss
    sys.stderr.write(f"poisoned: {', '.join(batch.keys)}.\\n")
    return loss * float("nan")
train.WavJEPABrain.compute_objectives = poisoned
"""


def test_a_signal_ends_all_processes_with_one_checkpoint(shards, tmp_path):
    """Before, the clips of one make both skip a step, and are named."""
    command = make_command(
        shards,
        tmp_path / "run",
        "--distributed_backend=gloo",
        "--device=cpu",
        launcher=TWO,
        num_workers=1,
    )
    to_one = DISTURBANCE.format("fit_batch", 3, "SIGTERM").replace(
        "count == 0", "count == 0 and os.environ['RANK'] == '1'"
    )
    script = tmp_path / "one.py"
    code, printed = run_alone(change(command, script, to_one + POISON_ONE))
    assert code != 0
    assert printed.count("Neither weights nor target encoder") == 1
    (clips,) = re.findall("poisoned: (.*)", printed)
    assert f"Clips: {clips}\n" in printed
    assert printed.count("Ended by SIGTERM") == 1
    assert read_step(tmp_path / "run") == 2
    state = newest_checkpoint(tmp_path / "run") / "stream_state.ckpt"
    assert len(json.loads(state.read_text())["processes"]) == 2


# compiles without a C++ compiler, and lets DDP reduce in many small buckets
COMPILE = """
import functools, os, torch
import speechbrain.core as core
import torch.distributed as distributed
torch.compile = functools.partial(torch.compile, backend="aot_eager")
distributed._DEFAULT_FIRST_BUCKET_BYTES = 2000
core.DDP = functools.partial(core.DDP, bucket_cap_mb=0.005)
"""


def test_a_compiled_run_on_two_processes_resumes_eager(shards, tmp_path):
    command = make_command(
        shards,
        tmp_path / "run",
        "--distributed_backend=gloo",
        "--device=cpu",
        launcher=TWO,
        num_workers=1,
        log_interval_steps=1,
        total_steps=4,
        steps_per_epoch=4,
        warmup_steps=2,
        encoder_depth=1,
        top_k_layers=1,
    )
    end = DISTURBANCE.format("fit_batch", 2, "SIGTERM")
    script = tmp_path / "compiled.py"
    code, printed = run_alone(
        change([*command, "--compile"], script, COMPILE + end)
    )
    assert "Ended by SIGTERM" in printed, printed
    assert read_step(tmp_path / "run") == 2
    run(command)
    log = [line for line in read_log(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in log] == [1, 2, 3, 4]


def test_too_many_steps_that_are_not_finite_end_the_run(shards, tmp_path):
    command = make_command(
        shards,
        tmp_path / "run",
        nonfinite_patience=2,
        ckpt_interval_steps=1,
        checkpoints_to_keep=50,
    )
    code = POISON.replace("{}", "{3, 4, 5}")
    printed = run(change(command, tmp_path / "poisoned.py", code), fails=True)
    assert printed.count("Neither weights nor target encoder") == 3
    assert "more than nonfinite_patience=2" in printed
    assert ".tar::" in printed.strip().split("\n")[-1]  # names the clips
    states = read_checkpoints(tmp_path / "run")
    assert set(states) == {1, 2, 3, 4}
    assert same_state(states[2], states[4])
    assert not same_state(states[1], states[2])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"train_shards": "nowhere/shard-{000000..000009}.tar"}, "nowhere"),
        ({"num_workers": 9}, "num_workers"),
        ({"target_prob": 0.99}, "min_context_ratio"),
        ({"warmup_step": 1}, "did you mean ['warmup_steps'"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"window_samples": 50000}, "window_samples=50000"),
        ({"encoder_heads": 5}, "num_heads=5"),
        ({"total_steps": 6}, "warmup_steps=6 must be less than total_steps=6"),
        ({"optimizer_step_limit": 5}, "total_steps says how long"),
        ({"compile_mode": "default"}, "['compile_mode'] need --compile"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_get_one_clear_message(shards, tmp_path, settings, message):
    printed = run(make_command(shards, tmp_path, **settings), fails=True)
    assert message in printed.strip().split("\n")[-1]
    assert read_files(tmp_path) == {}
