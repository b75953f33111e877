"""Pretraining with front-ends of filters, through the real command line."""

import json

import pytest
import torch
from pictures import is_drawn
from tiny_run import (
    DISTURBANCE,
    change,
    make_command,
    newest_checkpoint,
    read_log,
    run,
    run_alone,
    write_corpus,
)

from speechbrain_wavjepa.inference import load_pretrained
from speechbrain_wavjepa.inference.config import read_settings

STEPS = {"total_steps": 12, "steps_per_epoch": 12, "warmup_steps": 2}
FILTERS = {"num_filters": 12, "frontend_layers": None, "lr": 0.003, **STEPS}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A corpus of four shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_corpus(folder)
    return folder


def make(shards, folder, kind, **settings):
    """Build the command line of a tiny run of a recipe."""
    yaml = f"wavjepa_{kind}_mini.yaml"
    return make_command(shards, folder, yaml=yaml, **FILTERS, **settings)


def load(folder, name):
    """Load a state of the newest checkpoint."""
    return torch.load(newest_checkpoint(folder) / name, weights_only=True)


def check_results(folder):
    """Check that the model learned, and what is left."""
    losses = [line["loss"] for line in read_log(folder) if "loss" in line]
    assert losses[-1] < losses[0]
    for name in ("filters.png", "tones.png"):
        assert is_drawn(folder / name)
    (figures,) = json.loads((folder / "filters.json").read_text()).values()
    encoder = load_pretrained(folder / "pretrained")
    assert encoder.embed(torch.randn(1, 16000)).shape == (1, 1, 32)
    return figures


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("sinc", {"filter_init": "uniform"}),
        ("mel", {"target_frontend": "ema"}),
    ],
)
def test_it_learns_and_draws_its_filters(shards, tmp_path, kind, settings):
    run(make(shards, tmp_path, kind, log_interval_steps=3, **settings))
    figures = check_results(tmp_path)
    assert (figures["moved_hz"] > 0.1) == (kind == "sinc")
    found = read_settings(tmp_path / "pretrained")
    assert found.get("target_frontend", "shared") == settings.get(
        "target_frontend", "shared"
    )


def test_a_resumed_run_is_the_same(shards, tmp_path):
    settings = {
        "log_interval_steps": 1,
        "ckpt_interval_steps": 4,
        "target_frontend": "ema",
    }
    run(make(shards, tmp_path / "whole", "leaf", **settings))
    command = make(shards, tmp_path / "killed", "leaf", **settings)
    code = DISTURBANCE.format("fit_batch", 7, "SIGKILL")
    assert run_alone(change(command, tmp_path / "killed.py", code))[0] == -9
    run(command)
    for name in ("wavjepa.ckpt", "optimizer.ckpt"):
        states = [load(tmp_path / x, name) for x in ("whole", "killed")]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    logs = [read_log(tmp_path / x) for x in ("whole", "killed")]
    assert logs[0] == logs[1]
    figures = [check_results(tmp_path / x) for x in ("whole", "killed")]
    assert figures[0] == figures[1]  # also where the filters began
    assert figures[0]["moved_hz"] > 0.1
    groups = load(tmp_path / "whole", "optimizer.ckpt")["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.04, 0.0]
    assert len(groups[1]["params"]) == 3 + 4  # of filters and compression
