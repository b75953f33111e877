"""Other processes: one that holds a folder, the children of one."""

import contextlib
import subprocess
import sys
import time

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


def find_children(process):
    """List the numbers of a process's children."""
    found = subprocess.run(
        ["pgrep", "-P", str(process)], stdout=subprocess.PIPE, text=True
    )
    return [int(line) for line in found.stdout.split()]


def is_alive(process):
    """Say whether a process runs; one that only waits to be reaped is not."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)],
        stdout=subprocess.PIPE,
        text=True,
    )
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def wait_until(condition, seconds=120):
    """Wait for what must come to pass."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)
