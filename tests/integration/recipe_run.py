"""Scripts of recipes, run as a user runs them."""

import contextlib
import logging
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

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


def run_script(folder, *command, code=0, path=(), alone=False):
    """Run a script in a recipe's folder; return what it prints.

    With ``alone`` in a process of its own; so does ``path``, which stands
    before the repository where Python looks for modules.
    """
    if alone or path:
        with start_script(folder, *command, path=path) as process:
            printed, _ = process.communicate()
            returned = process.returncode
    else:
        returned, printed = run_here(ROOT / "recipes" / folder, *command)
    assert returned == code, printed
    return printed


def run_here(folder, *command):
    """Run a script in this process: exit code, and what it prints.

    The same as in one of its own, without three seconds of imports.
    """
    words, root = [*map(str, command)], logging.getLogger()
    before = os.getcwd(), sys.argv, sys.path[:], torch.get_num_threads()
    handlers, level, returned = root.handlers[:], root.level, 0
    with tempfile.NamedTemporaryFile("a+", buffering=1) as file:
        os.chdir(folder)
        torch.set_num_threads(1)
        sys.argv, root.handlers = words, []
        sys.path.insert(0, str((folder / words[0]).parent))
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.redirect_stdout(file))
                stack.enter_context(contextlib.redirect_stderr(file))
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            returned = end.code or 0
        finally:
            for handler in root.handlers:
                handler.close()
            os.chdir(before[0])
            sys.argv, sys.path[:] = before[1:3]
            torch.set_num_threads(before[3])
            root.handlers, root.level = handlers, level
        file.seek(0)
        return returned, file.read()


def read_files(folder):
    """Read all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
