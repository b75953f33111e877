"""Binaural pretraining runs on scenes, through the real command line."""

import json

import numpy as np
import pytest
import soundfile
import torch
from pictures import is_drawn
from tiny_run import (
    RECIPE,
    change,
    make_command,
    newest_checkpoint,
    read_log,
    run,
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


# in every step the gradient is compared with that of a single process which
# would have the clips of both
COMPARE = """
import torch
from speechbrain_wavjepa.lobes.wavjepa import masked_mse
step = train.WavJEPABrain.optimizers_step
def compare_and_step(brain):
    batch, distributed = brain.batch, torch.distributed
    output = brain.hparams.wavjepa(brain.cut_windows(batch), batch.mask)
    loss = masked_mse(output.prediction, output.target, output.mask)
    alone = torch.autograd.grad(loss, brain.trainable)
    alone = torch.cat([gradient.flatten() for gradient in alone])
    together = torch.cat([p.grad.flatten() for p in brain.trainable])
    mean = alone / 2
    distributed.all_reduce(mean)
    keys = [None, None]
    distributed.all_gather_object(keys, batch.keys)
    assert not set(keys[0]) & set(keys[1]), keys
    assert not torch.allclose(alone, mean, rtol=0.01, atol=1e-5)
    assert torch.allclose(together, mean, rtol=1e-3, atol=1e-7)
    # in one write, since both processes print
    sys.stdout.write("the mean gradient\\n")
    step(brain)
train.WavJEPABrain.optimizers_step = compare_and_step
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """A run of the small recipe on two processes, smaller in all numbers."""
    folder = tmp_path_factory.mktemp("two")
    yaml = (RECIPE / "hparams" / PLAIN["yaml"]).read_text(encoding="utf-8")
    for name, large, small in (
        ("num_clips", 3000, 215),
        ("num_clips", 960, 60),
        ("num_clips", 480, 30),
        ("num_rooms", 10, 2),
        ("scenes_per_room", 5, 1),
    ):
        assert f"{name}: {large}\n" in yaml
        yaml = yaml.replace(f"{name}: {large}\n", f"{name}: {small}\n")
    (folder / "small.yaml").write_text(yaml)
    command = make_command(
        folder / "shards",
        folder / "run",
        "--distributed_backend=gloo",
        "--device=cpu",
        launcher=("-m", "torch.distributed.run", "--nproc_per_node=2",
                  "--master_port=29511"),
        yaml=folder / "small.yaml",
        synthetic_folder=folder / "shards",
        synthetic_rooms_folder=folder / "rooms",
        clip_seconds=None,
        num_workers=1,
        total_steps=8,
        steps_per_epoch=5,
        ckpt_interval_steps=5,
    )  # fmt: skip
    printed = run(change(command, folder / "compare.py", COMPARE))
    return printed, folder / "run"


def test_two_processes_train_on_the_mean_gradient_of_their_clips(two_processes):
    printed, folder = two_processes
    assert printed.count("the mean gradient") == 2 * 8
    assert "8 clips x 2 windows = 16 windows on 2 process(es)" in printed
    state = json.loads(
        (newest_checkpoint(folder) / "stream_state.ckpt").read_text()
    )
    assert len(state["processes"]) == 2


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
