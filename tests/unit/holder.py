"""Another process that holds a folder."""

import contextlib
import subprocess
import sys

HOLD = """
import sys
from speechbrain_wavjepa.utils.files import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def hold_elsewhere(folder):
    """Let another process hold a folder meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield
