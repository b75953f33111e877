"""Workers end with the process that started them, whatever ends it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from other_processes import find_children, is_alive, wait_until
from torch.utils.data import DataLoader

from speechbrain_wavjepa.utils.experiment import RESUME, run_script
from speechbrain_wavjepa.utils.processes import (
    END_SIGNALS,
    LoaderWorkers,
    count_cores,
    explain_dead_workers,
    explain_lost_process,
    find_rank,
    shorten_worker_error,
    worker_map,
)

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


@pytest.fixture
def keep_handlers():
    """Bring the handlers of signals back, which an ending script ignores."""
    before = [(number, signal.getsignal(number)) for number in END_SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", END_SIGNALS)
def test_a_signal_ends_a_script_with_one_line(capfd, keep_handlers, number):
    cleared_up = []

    def main():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            for other in END_SIGNALS:  # as clusters repeat them
                os.kill(os.getpid(), other)
            cleared_up.append(True)

    assert run_script(main) == 128 + number
    assert cleared_up
    errors = capfd.readouterr().err.strip()
    assert errors == f"Ended by {number.name}: {RESUME}."


def test_a_script_that_ends_well_changes_no_handlers():
    before = [signal.getsignal(number) for number in END_SIGNALS]
    assert run_script(lambda: None) == 0
    assert [signal.getsignal(number) for number in END_SIGNALS] == before


# All processes of a group get all signals, but the main one ends as it wants.
LOADER = """
import os, signal
from torch.utils.data import DataLoader
from speechbrain_wavjepa.utils.processes import LoaderWorkers, on_end_signals
received = []
loader = DataLoader(
    range(100), num_workers=2, worker_init_fn=LoaderWorkers()
)
batches = iter(loader)
next(batches), next(batches)  # both workers have begun
with on_end_signals(lambda number, frame: received.append(number)):
    for name in ("SIGTERM", "SIGUSR1"):
        os.killpg(0, getattr(signal, name))
    try:
        os.killpg(0, signal.SIGINT)
    except KeyboardInterrupt:
        received.append(signal.SIGINT)
    print(len(received), 2 + len(list(batches)))
"""


STUCK_LOADER = """
import time
from torch.utils.data import DataLoader
from speechbrain_wavjepa.utils.processes import LoaderWorkers

class Dataset:
    def __len__(self):
        return 9

    def __getitem__(self, index):
        time.sleep(600 * index)

loader = DataLoader(
    Dataset(), num_workers=1, collate_fn=len, worker_init_fn=LoaderWorkers()
)
batches = iter(loader)
next(batches)
print("ready")
"""


def test_a_loaders_stuck_worker_does_not_keep_its_parent():
    result = subprocess.run(
        [sys.executable, "-c", STUCK_LOADER],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stdout) == (0, "ready\n")


def test_a_loaders_workers_leave_signals_to_their_parent():
    result = subprocess.run(
        [sys.executable, "-c", LOADER],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert (result.returncode, result.stdout) == (0, "3 100\n")


class Dataset(torch.utils.data.Dataset):
    """Items that raise, or end their process with a signal."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if isinstance(self.item, Exception):
            raise self.item
        os.kill(os.getpid(), self.item)


def load(item):
    """Read an item in a worker."""
    init = LoaderWorkers()
    return list(DataLoader(Dataset(item), num_workers=1, worker_init_fn=init))


def test_a_killed_loader_worker_is_told_with_its_likely_cause():
    message = r"pid.* \d+\) .*\. Most likely the memory was full: lower it\."
    with pytest.raises(ChildProcessError, match=message):
        with explain_dead_workers("lower it."):
            load(signal.SIGKILL)


def test_a_full_shared_memory_is_told():
    """In the words that PyTorch has for a bus error."""
    message = r"pid 7\) is killed by signal: Bus error\. Most.* shared memory"
    with pytest.raises(ChildProcessError, match=message):
        with explain_dead_workers("lower it."):
            raise RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It "
                "is possible that dataloader's workers are out of shared "
                "memory. Please try to raise your shared memory limit."
            )


def test_other_errors_are_not_taken_for_a_killed_worker():
    with pytest.raises(RuntimeError, match="^mine$"):
        with explain_dead_workers("lower it."):
            raise RuntimeError("mine")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("9 of 9 clips: could not be read"),
        ValueError("a.tar: empty\nb.tar: empty"),
        FileNotFoundError("a.tar: it is gone"),
    ],
)
def test_an_error_in_a_loaders_worker_is_its_message_alone(capfd, error):
    assert run_script(lambda: load(error)) == 1
    message = " ".join(str(error).split())
    assert capfd.readouterr().err == f"error: {message}\n"


def test_an_error_that_torch_cannot_make_again_is_its_message_alone():
    error = UnicodeDecodeError("utf8", b"a", 0, 1, "odd")
    with pytest.raises(RuntimeError) as caught:
        load(error)
    assert shorten_worker_error(str(caught.value)) == str(error)


RANKS = """
import sys, torch
from speechbrain_wavjepa.utils import processes
processes.socket.gethostname = lambda: f"machine{sys.argv[2]}"
largest, name_machines = processes.largest, processes.name_machines
torch.distributed.init_process_group(
    "gloo", init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2
)
print([largest(number * int(sys.argv[2]), "cpu") for number in (0, 15)])
print([name_machines(sys.argv[2] in ranks) for ranks in ("", "1", "01")])
"""


def test_what_holds_for_one_process_reaches_the_others(tmp_path):
    command = [sys.executable, "-c", RANKS, f"file://{tmp_path / 'meet'}"]
    processes = [
        subprocess.Popen([*command, rank], stdout=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    lines = ["[0, 15]", "['', 'machine1', 'machine0, machine1']"]
    assert [text.splitlines() for text in printed] == [lines] * 2


@pytest.fixture
def unlaunched(monkeypatch):
    """Forget who has launched the tests."""
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    return monkeypatch.setenv


def test_a_process_knows_its_rank_from_options_torchrun_or_srun(unlaunched):
    assert find_rank() == (0, 1)
    unlaunched("SLURM_PROCID", "0")  # as in a batch script of many tasks
    unlaunched("SLURM_NTASKS", "4")
    unlaunched("SLURM_ARRAY_TASK_ID", "3")
    unlaunched("SLURM_ARRAY_TASK_COUNT", "5")
    assert find_rank() == (0, 1)
    unlaunched("SLURM_STEP_NUM_TASKS", "4")
    unlaunched("SLURM_PROCID", "2")
    assert find_rank() == (2, 4)
    unlaunched("RANK", "1")
    unlaunched("WORLD_SIZE", "8")
    assert find_rank() == (1, 8)
    assert find_rank(0, 3) == (0, 3)
    assert find_rank(0, 1) == (0, 1)


def test_half_a_rank_is_refused(unlaunched):
    for pair in ((3, None), (None, 3)):
        with pytest.raises(ValueError, match="--rank and --world_size, or"):
            find_rank(*pair)
    unlaunched("RANK", "3")
    with pytest.raises(ValueError, match="WORLD_SIZE is missing: give RANK"):
        find_rank()


def test_a_worker_whose_parent_hung_up_says_nothing():
    script = """
import os, sys
from torch.utils.data import DataLoader
from speechbrain_wavjepa.utils.processes import LoaderWorkers
class Clips(list):
    def __getitem__(self, index):
        sys.excepthook({}, {}("hung up"), None)
        return index
if __name__ == "__main__":
    list(DataLoader(Clips([1]), num_workers=1, worker_init_fn=LoaderWorkers()))
"""
    for kind, told in (("ConnectionResetError", False), ("OSError", True)):
        command = [sys.executable, "-c", script.replace("{}", kind)]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 0, result.stderr
        assert ("hung up" in result.stderr) == told, result.stderr


def test_a_lost_process_is_one_line():
    text = "[gloo/transport/tcp/pair.cc:538] Connection closed by peer"
    with pytest.raises(ConnectionError, match="Lost another .* start again"):
        with explain_lost_process("start again"):
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="^of another kind$"):
        with explain_lost_process("start again"):
            raise RuntimeError("of another kind")
