"""Tiny pretraining runs through the real command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

from recipe_run import run_here

RECIPE = Path(__file__).parents[2] / "recipes" / "AudioSet" / "WavJEPA"
ROOT = RECIPE.parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

# a tiny model on a tiny corpus: seconds on one core
TINY = {
    "encoder_dim": 32,
    "encoder_depth": 2,
    "top_k_layers": 2,
    "predictor_dim": 32,
    "predictor_depth": 1,
    "frontend_dim": 32,
    "frontend_layers": "[[16, 20, 10], [32, 16, 16], [32, 2, 2]]",
    "target_span": 5,
    "context_drop_span": 5,
    "effective_batch": 8,
    "batch_size": 4,
    "windows_per_clip": 2,
    "steps_per_epoch": 30,
    "total_steps": 60,
    "warmup_steps": 6,
    "log_interval_steps": 5,
    "ckpt_interval_steps": 10,
    "shuffle_buffer": 16,
    "num_valid_clips": 15,
}
# starts two processes, at a port that is free
TWO = (
    "-m",
    "torch.distributed.run",
    "--nproc_per_node=2",
    "--rdzv_backend=c10d",
    "--rdzv_endpoint=localhost:0",
)
CORPUS = """
import sys
from speechbrain_wavjepa.dataio.synthetic import SyntheticCorpus
SyntheticCorpus(60, clip_seconds=2.5, seed=1).write_shards(sys.argv[1], 15)
"""
# sends a signal to all processes of a run, or kills one of its workers, when
# a method of the Brain is called for the n-th time
DISTURBANCE = """
import multiprocessing, os, signal
method, count, kind = train.WavJEPABrain.{0}, {1}, "{2}"
def disturbed(*args, **kwargs):
    global count
    count -= 1
    if count == 0 and kind == "worker":
        os.kill(multiprocessing.active_children()[-1].pid, signal.SIGKILL)
    elif count == 0:
        os.killpg(0, getattr(signal, kind))
    return method(*args, **kwargs)
train.WavJEPABrain.{0} = disturbed
"""


def write_corpus(folder):
    """Write four shards of synthetic clips."""
    subprocess.run(
        [sys.executable, "-c", CORPUS, str(folder)], cwd=ROOT, check=True
    )


def make_command(
    shards,
    output_folder,
    *more,
    launcher=(),
    yaml="wavjepa_mini.yaml",
    **settings,
):
    """Build the command line of a tiny run."""
    settings = {
        **TINY,
        "clip_seconds": 2.5,
        "train_shards": shards,
        "output_folder": output_folder,
        **settings,
    }
    options = [
        f"--{key}={value}"
        for key, value in settings.items()
        if value is not None
    ]
    python = [sys.executable, *launcher]
    return [*python, "train.py", os.path.join("hparams", yaml), *options, *more]


def change(command, script, code):
    """Let a command run train.py after some code that changes it."""
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(RECIPE)!r})\n"
        f"import train\n{code}\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(train.run_script(train.main))\n"
    )
    return [str(script) if word == "train.py" else word for word in command]


def run(command, fails=False):
    """Run a command in the recipe's folder; return what it prints."""
    if command[1] == "train.py":  # one process, and nothing changed in it
        code, printed = run_here(RECIPE, *command[1:])
    else:
        code, printed = run_alone(command)
    assert (code != 0) == fails, printed[-3000:]
    return printed


def run_alone(command):
    """Run a command that gets no other's signals: exit code, what it prints."""
    result = subprocess.run(
        command,
        cwd=RECIPE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return result.returncode, result.stdout


def read_log(output_folder):
    """Read the figures of the logged steps."""
    lines = (output_folder / "steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def read_files(folder):
    """Read every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def newest_checkpoint(output_folder):
    """Find the checkpoint that was saved last."""
    return max(
        (output_folder / "save").glob("CKPT+*"),
        key=lambda path: path.stat().st_mtime_ns,
    )
