"""Every command of every README runs, in its written order, on tiny data."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import arch_factory
import numpy as np
import official_factory
import pytest

from conftest import (
    write_tiny_hugging_face,
    write_tiny_pretrained,
)
from speechbrain_wavjepa.dataio import SyntheticCorpus

ROOT = Path(__file__).parents[2]
TINY_PYTHON = Path(__file__).parent / "tiny_python.py"
PYTHON = f'exec "{sys.executable}" "{TINY_PYTHON}"'
COMMANDS = {
    "python": f'{PYTHON} "$@"',
    "torchrun": f'{PYTHON} -m torch.distributed.run "$@"',
    "wavjepa": f'{PYTHON} -c "import sys; from speechbrain_wavjepa.cli import '
    'main; sys.exit(main())" "$@"',
    "srun": 'exec "$@"',
    "scontrol": "echo localhost",
    # what would install, download or test all again
    **dict.fromkeys(
        "pip hf ruff lint-imports yamllint codespell lychee pytest".split(),
        "exit 0",
    ),
}
# what the pages call by a name
NAMES = {
    r"/path/to": "{0}",
    r"\bFOLDER\b": "{0}/pretrained",
    r"\bRESULTS_DIR\b": "{0}/results",
    r"\b(facebook|microsoft)/[\w-]+": "{0}/wav2vec2",
    # machines and their GPUs
    r"(MACHINE|\$first):29500": "localhost:0",
    r"--nnodes 2": "--nnodes 1",
    r"--nproc_per_node 8": "--nproc_per_node 2",
    r"--device cuda": "--device cpu",
}
# what SLURM tells the scripts that it starts
SLURM = {
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_NNODES": "1",
}
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "recipes").rglob("README.md")]
)


def read_blocks(page):
    """Read the blocks of a page, (language, code): shell and Python.

    Blocks of Python build on the ones before: each holds those too.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = r"^```(bash|python)\n(.*?)^```"
    blocks, script = [], ""
    for language, code in re.findall(pattern, text, re.DOTALL | re.MULTILINE):
        if language == "python":
            script = code = f"{script}{code}"
        blocks.append((language, code))
    return blocks


def write_sounds(folder, count, seconds=2.1, labels=("low", "high")):
    """Write a folder of tones for each label."""
    for number in range(count):
        label = number % len(labels)
        place = folder / labels[label] / f"{number}.wav"
        # no two clips are the same
        arch_factory.write_clip(place, label, seconds=seconds + number / 1000)


@pytest.fixture(scope="module")
def house(tmp_path_factory, task_folder):
    """A copy of the repository, and all that its pages call by a name."""
    root = tmp_path_factory.mktemp("readmes")
    house = root / "house"
    for name in subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.splitlines():
        if not name.startswith(("tests/", "speechbrain_wavjepa/")):
            (house / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, house / name)
    (house / "speechbrain_wavjepa").symlink_to(ROOT / "speechbrain_wavjepa")

    bin_folder = house / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, script in COMMANDS.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (bin_folder / name).chmod(0o755)
    (bin_folder.parent / ".installed").touch()

    places = root / "path" / "to"
    corpus = SyntheticCorpus(32, clip_seconds=2.1, seed=1)
    for name in ("shards", "audioset/2m/train"):
        corpus.write_shards(places / name, 8)
    write_sounds(places / "clips", 72)
    write_sounds(places / "sounds", 12, seconds=0.3)
    for path in (".", "sounds", "recipes/HEAR/fine_tuning"):
        arch_factory.write_clip(house / path / "sound.wav", seconds=0.5)
    for number in range(3):
        arch_factory.write_clip(places / f"noises/{number}.wav", 3)
    task = places / "tasks" / "esc50-v2.0.0-full"
    shutil.copytree(task_folder, task)
    write_tiny_pretrained(places / "pretrained", 1)
    write_tiny_pretrained(places / "binaural", 2)
    write_tiny_hugging_face(places / "wav2vec2", "Wav2Vec2Config")
    arch_factory.write_esc50(places / "data" / "ESC-50-master")
    arch_factory.write_fsd50k(places / "data" / "FSD50K")
    responses = np.random.default_rng(0).standard_normal((3, 2, 400))
    (places / "other").mkdir()
    for room in range(4):  # a bank of another kind
        np.save(places / "other" / f"room{room}.npy", 0.1 * responses)
    model, settings = official_factory.make_model()
    official_factory.write_checkpoint(
        house / "OFFICIAL.ckpt",
        official_factory.official_weights(model, settings),
        official_factory.hyper_parameters(),
    )
    scores = places / "results" / "esc50-v2.0.0-full"
    scores.mkdir(parents=True)
    (scores / "test.predicted-scores.json").write_text(
        json.dumps({"test": {"test_score": 0.8}})
    )
    return house


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page, house):
    places = house.parent / "path" / "to"
    blocks = read_blocks(page)
    assert blocks
    environment = {
        **os.environ,
        **SLURM,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{house / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for language, block in blocks:
        for written, here in NAMES.items():
            block = re.sub(written, here.format(places), block)
        shell = ["bash", "-euxo", "pipefail", "-c"]
        command = shell if language == "bash" else ["python", "-c"]
        result = subprocess.run(
            [*command, block],
            cwd=(house / page).parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert result.returncode == 0, f"{block}\n{result.stdout[-3000:]}"
