"""Workers end with the process that started them, whatever ends it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from speechbrain_wavjepa.utils.experiment import RESUME, run_script
from speechbrain_wavjepa.utils.processes import count_cores, worker_map

PARENT = """
import time
from speechbrain_wavjepa.utils.experiment import RESUME, run_script
from speechbrain_wavjepa.utils.processes import worker_map
if __name__ == "__main__":
    with worker_map(2) as map_function:
        list(map_function(time.sleep, [0.1] * 4))
        print("ready", flush=True)
        list(map_function(time.sleep, [600] * 2))
"""


def find_children(process):
    """List the process numbers of a process's children."""
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


def wait_until(condition, seconds=60):
    """Wait for what must come to pass."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


@pytest.fixture
def parent():
    """A process with two busy workers, and the numbers of all its children."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        children = find_children(process.pid)
        assert len(children) >= 2
        yield process, children
        process.kill()
        for child in children:
            if is_alive(child):
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT]
)
def test_no_worker_outlives_its_parent(parent, number):
    process, children = parent
    process.send_signal(number)
    process.wait()
    wait_until(lambda: not any(map(is_alive, children)))


def test_ctrl_c_is_answered_by_the_parent_alone(parent):
    process, children = parent
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    errors = process.stderr.read()
    assert errors.count("Traceback") == 1, errors
    assert errors.endswith("KeyboardInterrupt\n")


def test_a_killed_worker_is_told_with_its_likely_cause():
    with pytest.raises(ChildProcessError, match="memory.*--num_workers"):
        with worker_map(1) as map_function:
            list(map_function(os._exit, [9]))


def test_results_come_in_order_from_other_processes():
    with worker_map(2) as map_function:
        assert list(map_function(abs, [-3, 1, -2])) == [3, 1, 2]


def test_after_an_error_no_work_is_waited_for():
    with pytest.raises(OSError, match="disk is full"):
        with worker_map(1) as map_function:
            map_function(time.sleep, [600] * 9)
            raise OSError("the disk is full")


def test_cores_are_counted_where_none_can_be_bound(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert count_cores() == 3


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="got -1"):
        with worker_map(-1):
            pass


def test_sigterm_ends_a_script_with_one_line(capfd):
    def main():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    assert run_script(main) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert capfd.readouterr().err.strip() == f"Interrupted: {RESUME}."
