"""Scripts of recipes, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_script(folder, *command, code=0, path=()):
    """Run a script in a recipe's folder; return what it prints.

    ``path`` stands before the repository where Python looks for modules.
    """
    places = os.pathsep.join(map(str, [*path, ROOT]))
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT / "recipes" / folder,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout
    return result.stdout
