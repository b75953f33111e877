"""Binaural pretraining runs on scenes, through the real command line."""

import json

import numpy as np
import pytest
import soundfile
import torch
from pictures import is_drawn
from tiny_run import (
    RECIPE,
    TWO,
    change,
    make_command,
    newest_checkpoint,
    read_log,
    run,
    run_alone,
    write_corpus,
)

from speechbrain_wavjepa.augment.brir import encode_responses
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.inference import load_pretrained

PLACE = {"azimuth": 40.0, "elevation": 0.0, "distance": 2.0}
PLAIN = {
    "yaml": "wavjepa_nat_mini.yaml",
    "synthetic_rooms": "null",
    "steps_per_epoch": 20,
    "total_steps": 20,
}


def write_bank(folder, num_scenes=6, sample_rate=16000):
    """Write a bank of decaying noise for both splits."""
    random = np.random.default_rng(0)
    decay = np.exp(-np.arange(800) / 100)
    about = {
        "sample_rate": sample_rate,
        "receivers": ["left", "right", "omni"],
        "source": PLACE,
        "noise": [PLACE, PLACE],
    }
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        scenes = [
            (
                f"{index:06d}",
                encode_responses(random.standard_normal((3, 3, 800)) * decay),
                about,
            )
            for index in range(num_scenes)
        ]
        write_shard(folder / split / "scenes-000000.tar", scenes, ".npy")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards, a bank and noises, one of which is silent."""
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "shards")
    write_bank(folder / "bank")
    (folder / "noises").mkdir()
    random = np.random.default_rng(0)
    for index, level in enumerate((0.1, 0.1, 0.1, 0.0)):
        noise = level * random.standard_normal(20000)
        soundfile.write(folder / "noises" / f"{index}.wav", noise, 16000)
    return folder


def test_it_learns_from_scenes_and_draws_one(data, tmp_path):
    printed = run(
        make_command(
            data / "shards",
            tmp_path,
            **{**PLAIN, "yaml": "wavjepa_nat.yaml", "synthetic_rooms": None},
            data_folder=data / "shards",
            brir_folder=data / "bank",
            noise_folder=data / "noises",
            precision="fp32",
            encoder_heads=4,
            predictor_heads=2,
            num_workers=1,
        )
    )
    assert "3.wav is silent" in printed
    figures = [line for line in read_log(tmp_path) if "loss" in line]
    assert figures[-1]["loss"] < figures[0]["loss"]
    assert figures[-1]["bad_scenes"] > 0
    for name in ("scene.png", "masks.png", "learning_curve.png"):
        assert is_drawn(tmp_path / name)
    weights = torch.load(
        newest_checkpoint(tmp_path) / "wavjepa.ckpt", weights_only=True
    )
    stacks = [
        weights[f"frontend.stacks.{ear}.layers.0.weight"] for ear in (0, 1)
    ]
    assert not torch.equal(*stacks)
    encoder = load_pretrained(tmp_path / "pretrained")
    assert encoder.embed(torch.randn(1, 16000, 2)).shape == (1, 1, 32)


def test_two_runs_hear_the_same_scenes(data, tmp_path):
    settings = {**PLAIN, "brir_folder": data / "bank", "scene_prob": 0.5}
    for folder, num_workers in (("a", 0), ("b", 1)):
        run(
            make_command(
                data / "shards",
                tmp_path / folder,
                **settings,
                num_workers=num_workers,
            )
        )
    assert read_log(tmp_path / "a") == read_log(tmp_path / "b")


# training in float64
DOUBLE = """
Brain, write = train.WavJEPABrain, train.write_results
begin, cut = Brain.on_fit_start, Brain.cut_windows
def begin_in_double(brain):
    brain.modules.double()
    begin(brain)
def write_in_single(brain, *args):
    brain.modules.float()
    write(brain, *args)
Brain.on_fit_start, train.write_results = begin_in_double, write_in_single
def cut_in_double(brain, batch):
    return cut(brain, batch).to(next(brain.modules.parameters()).dtype)
Brain.cut_windows = cut_in_double
"""
# keeps the batches of every process, and the gradient of every step
KEEP = """
import os, pathlib, torch
folder, rank = pathlib.Path({!r}), os.environ.get("RANK", "alone")
fit, step = Brain.fit_batch, Brain.optimizers_step
batches = []
def keep_batch(brain, batch):
    torch.save(batch, folder / f"batch-{{len(batches)}}-{{rank}}.pt")
    batches.append(batch.keys)
    return fit(brain, batch)
def keep_gradient(brain):
    gradient = torch.cat([p.grad.flatten() for p in brain.trainable])
    name = f"gradient-{{brain.optimizer_step}}-{{rank}}.pt"
    torch.save(gradient, folder / name)
    step(brain)
Brain.fit_batch, Brain.optimizers_step = keep_batch, keep_gradient
"""
# a single process is given the batches of both in turn
REPLAY = """
keep = Brain.fit_batch
def replay(brain, batch):
    step, rank = divmod(len(batches), 2)
    path = folder / f"batch-{step}-{rank}.pt"
    return keep(brain, torch.load(path, weights_only=False))
Brain.fit_batch = replay
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """A run of the small recipe on two processes, smaller in all numbers."""
    folder = tmp_path_factory.mktemp("two")
    yaml = (RECIPE / "hparams" / PLAIN["yaml"]).read_text(encoding="utf-8")
    for name, large, small in (
        ("num_clips", 3000, 211),
        ("num_clips", 960, 60),
        ("num_clips", 480, 30),
        ("num_rooms", 10, 2),
        ("scenes_per_room", 5, 1),
    ):
        assert f"{name}: {large}\n" in yaml
        yaml = yaml.replace(f"{name}: {large}\n", f"{name}: {small}\n")
    (folder / "small.yaml").write_text(yaml)
    command = small_command(folder / "run")
    code = DOUBLE + KEEP.format(str(folder))
    printed = run(change(command, folder / "keep.py", code))
    return printed, folder / "run"


def small_command(output_folder, *more, launcher=TWO, **settings):
    """Build the command of the small recipe, on two processes or on one."""
    folder = output_folder.parent
    return make_command(
        folder / "shards",
        output_folder,
        "--distributed_backend=gloo",
        "--device=cpu",
        *more,
        launcher=launcher,
        yaml=folder / "small.yaml",
        synthetic_folder=folder / "shards",
        synthetic_rooms_folder=folder / "rooms",
        clip_seconds=None,
        num_workers=1,
        effective_batch=16,
        num_valid_clips=10,
        total_steps=8,
        steps_per_epoch=5,
        ckpt_interval_steps=2,
        **settings,
    )


def test_one_process_takes_the_same_steps_as_two(two_processes):
    """Gradients, accumulated on one process, and the loss of validation."""
    printed, together = two_processes
    sizes = "8 clips x 2 windows = 16 windows, as {} x {} x 4 clips.".format
    assert sizes("2 process(es)", "1 batch(es)") in printed
    folder = together.parent
    alone = folder / "alone"
    command = small_command(alone, launcher=(), probe_folds="null")
    code = DOUBLE + KEEP.format(str(folder)) + REPLAY
    printed = run(change(command, folder / "replay.py", code))
    assert sizes("1 process(es)", "2 batch(es)") in printed
    for step in range(8):
        names = [f"{step}-{rank}.pt" for rank in ("0", "1", "alone")]
        keys = [
            torch.load(folder / f"batch-{name}", weights_only=False).keys
            for name in names[:2]
        ]
        assert not set(keys[0]) & set(keys[1])
        gradients = [torch.load(folder / f"gradient-{name}") for name in names]
        assert torch.equal(*gradients[:2])
        assert gradients[2].dtype == torch.float64
        assert gradients[2].norm() > 0.01
        torch.testing.assert_close(*gradients[1:], rtol=1e-10, atol=1e-10)
    losses = [
        [line for line in read_log(run) if "valid_loss" in line]
        for run in (together, alone)
    ]
    assert [line["step"] for line in losses[0]] == [5, 8]
    for pair in zip(*losses, strict=True):
        one, other = (line["valid_loss"] for line in pair)
        assert one == pytest.approx(other, rel=1e-10)


# kills processes, by rank, when they call a method for the n-th time
KILL = """
import os, signal
torchrun, method, count = os.getppid(), Brain.{0}, {1}
def killed(*args, **kwargs):
    global count
    count -= 1
    if count == 0 and os.environ["RANK"] in {2}:
        if {2} == ["0", "1"] and os.environ["RANK"] == "0":
            os.kill(torchrun, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return method(*args, **kwargs)
Brain.{0} = killed
"""


def test_two_killed_processes_resume_bitwise(two_processes):
    _, straight = two_processes
    killed, script = straight.with_name("killed"), straight.parent / "kill.py"
    command = small_command(killed, probe_folds="null")

    # one of them, in validation, where it has a batch less than the other
    code = DOUBLE + KILL.format("evaluate_batch", 2, ["1"])
    end, printed = run_alone(change(command, script, code))
    assert end == 1
    # torchrun names it, and ends the other one if it notices first
    assert "Signal 9 (SIGKILL) received by PID" in printed
    # all of them, and torchrun, two steps after the checkpoint
    code = DOUBLE + KILL.format("fit_batch", 3, ["0", "1"])
    end, printed = run_alone(change(command, script, code))
    assert end == -9, printed
    run(change(command, script, DOUBLE))

    ends = [newest_checkpoint(folder) for folder in (straight, killed)]
    for name in ("wavjepa.ckpt", "optimizer.ckpt"):
        states = [torch.load(end / name, weights_only=True) for end in ends]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    assert read_log(straight) == read_log(killed)
    positions = [(end / "stream_state.ckpt").read_text() for end in ends]
    assert positions[0] == positions[1]
    assert len(json.loads(positions[0])["processes"]) == 2


def test_another_number_of_processes_is_refused(two_processes):
    _, folder = two_processes
    command = small_command(folder, launcher=(), probe_folds="null")
    last_line = run(command, fails=True).strip().split("\n")[-1]
    message = (
        "was made with processes=2, not processes=1: go back to the former"
    )
    assert message in last_line and "another output folder" in last_line


def test_two_processes_come_to_their_end_with_model_and_table(two_processes):
    printed, folder = two_processes
    assert "naturalistic" in printed and "points lost" in printed
    report = json.loads((folder / "learning_table.json").read_text())
    measured_on = "synthetic sounds: 60 clips to train, 30 to test"
    assert report["measured_on"] == measured_on
    tables = report["accuracy"]
    assert set(tables) == {"clean", "naturalistic"}
    for table in tables.values():
        assert {"log-mel mean", "random encoder"} < set(table)
        assert all(0 <= accuracy <= 1 for accuracy in table.values())
    assert tables["clean"] != tables["naturalistic"]
    card = (folder / "pretrained" / "README.md").read_text()
    assert "# WavJEPA-Nat, pretrained on synthetic sounds\n" in card
    assert f"| linear probes measured on | {measured_on} |" in card
    encoder = load_pretrained(folder / "pretrained")
    assert encoder.embed(torch.randn(1, 16000, 2)).shape == (1, 1, 32)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"brir_folder": "nowhere"}, "wavjepa_nat_mini.yaml"),
        ({"channels": 1}, "2 receivers need a model of as many channels"),
        ({"snr_db": "[40, 5]"}, "snr_db"),
        ({"scene_prob": 2}, "scene_prob"),
        ({"sample_rate": 24000}, "needs 24000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_get_one_clear_message(data, tmp_path, settings, message):
    settings = {**PLAIN, "brir_folder": data / "bank", **settings}
    printed = run(
        make_command(data / "shards", tmp_path, **settings), fails=True
    )
    assert message in printed.strip().split("\n")[-1]
    assert not list(tmp_path.glob("save/CKPT+*"))


def test_an_unset_folder_names_the_small_recipe(data, tmp_path):
    printed = run(
        make_command(
            data / "shards",
            tmp_path,
            yaml="wavjepa_nat.yaml",
            data_folder=data / "shards",
            brir_folder=data / "bank",
        ),
        fails=True,
    )
    last_line = printed.strip().split("\n")[-1]
    assert "noise_folder" in last_line
    assert "wavjepa_nat_mini.yaml" in last_line
