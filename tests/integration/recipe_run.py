"""Scripts of recipes, run as a user runs them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_script(folder, *command, path=()):
    """Start a script in a recipe's folder; stderr is part of stdout."""
    places = os.pathsep.join(map(str, [*path, ROOT]))
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT / "recipes" / folder,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C reaches it also where the tests run in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_script(folder, *command, code=0, path=()):
    """Run a script in a recipe's folder; return what it prints.

    ``path`` stands before the repository where Python looks for modules.
    """
    with start_script(folder, *command, path=path) as process:
        printed, _ = process.communicate()
    assert process.returncode == code, printed
    return printed


def read_files(folder):
    """Read all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
