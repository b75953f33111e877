"""Checkpoints after kills, full disks and failures of one process."""

import json
import os
import subprocess
import sys

import torch

from speechbrain_wavjepa.utils import AtomicCheckpointer
from speechbrain_wavjepa.utils.checkpoints import find_damage

# Each child replaces a checkpoint of zeros by one of ones, and is killed at
# its first file operation, the next one at its second, and so on until one
# gets to the end.
KILLED_SAVES = """
import json, os, signal, sys, torch
from speechbrain_wavjepa.utils.checkpoints import AtomicCheckpointer

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def make(folder):
    models = {name: torch.nn.Linear(3, 3) for name in ("a", "b")}
    return models, AtomicCheckpointer(folder, models)

def save(folder, value):
    models, checkpointer = make(folder)
    for model in models.values():
        torch.nn.init.constant_(model.bias, value)
    checkpointer.save_and_keep_only(meta={"value": value}, num_to_keep=1)

def kill_at(operation):
    def hook(event, arguments):
        nonlocal operation
        if event in OPERATIONS:
            operation -= 1
            if operation == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

results, killed, operation = [], True, 0
while killed:
    operation += 1
    folder = os.path.join(sys.argv[1], str(operation))
    save(folder, 0)
    process = os.fork()
    if process == 0:
        kill_at(operation)
        save(folder, 1)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    aside = os.path.exists(os.path.join(folder, ".unfinished"))
    models, checkpointer = make(folder)
    value = checkpointer.recover_if_possible().meta["value"]
    whole = all(bool((m.bias == value).all()) for m in models.values())
    save(folder, 2)
    left = len(checkpointer.list_checkpoints())
    left += os.path.exists(os.path.join(folder, ".unfinished"))
    results.append([killed, aside, value, whole, left])
print(json.dumps(results))
"""

# A process that may not write files of more than 300 kB, as a disk with no
# more room.
FULL_DISK = """
import resource, sys, torch
from speechbrain_wavjepa.utils.checkpoints import AtomicCheckpointer
model = torch.nn.Linear(400, 500)
torch.nn.init.constant_(model.bias, 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    AtomicCheckpointer(sys.argv[1], {"model": model}).save_checkpoint()
except OSError as error:
    print(error)
"""

# Two processes; the main one cannot write the second of three files, the
# last of which needs both processes.
TWO_PROCESSES = """
import pathlib, sys, torch
from speechbrain_wavjepa.utils.checkpoints import AtomicCheckpointer

folder, rendezvous, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.distributed.init_process_group(
    "gloo", init_method=rendezvous, rank=rank, world_size=2
)

def gather(obj, path):
    ranks = [None, None]
    torch.distributed.all_gather_object(ranks, rank)
    if rank == 0:
        path.write_text(str(ranks))

def full(obj, path):
    if rank == 0:
        raise OSError(28, "No space left on device")

models = {name: torch.nn.Linear(2, 2) for name in ("a", "b")}
checkpointer = AtomicCheckpointer(
    folder, {**models, "c": None}, custom_save_hooks={"c": gather},
    custom_load_hooks={"c": lambda *arguments: None},
)
checkpointer.save_and_keep_only()
checkpointer.custom_save_hooks["b"] = full
try:
    checkpointer.save_and_keep_only()
except OSError as error:
    print("failed", "No space left on device" in str(error))
del checkpointer.custom_save_hooks["b"]
checkpointer.save_and_keep_only(meta={"last": True})
if rank == 1:  # as a disk that shows new files late
    checkpointer._list_checkpoint_dirs = list
print("recovered", checkpointer.recover_if_possible().meta["last"])
# without this, gloo's threads may abort a process that ends
torch.distributed.destroy_process_group()
"""


def start(script, *arguments, **variables):
    """Start Python with a script."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *(str(a) for a in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        text=True,
    )


def finish(*processes):
    """Wait for processes that must succeed; give what they print."""
    try:
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, results):
        assert process.returncode == 0, errors
    return [output.split("\n")[:-1] for output, _ in results]


def test_a_kill_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path):
    [[line]] = finish(start(KILLED_SAVES, tmp_path))
    killed, aside, values, whole, left = zip(*json.loads(line))
    assert all(killed[:-1]) and not killed[-1]
    assert all(whole)
    # first the checkpoint before is found, then the new one, never a mixture
    assert list(values) == sorted(values) and set(values) == {0, 1}
    # kills while writing aside, and kills after it
    assert sum(aside) >= 5 and len(aside) - sum(aside) >= 5
    # the next save clears up: it leaves one checkpoint and nothing aside
    assert set(left) == {1}


def test_a_disk_that_is_really_full_leaves_the_checkpoint_before(tmp_path):
    model = torch.nn.Linear(400, 500)
    torch.nn.init.constant_(model.bias, 1)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    saved = checkpointer.save_checkpoint()
    [[message]] = finish(start(FULL_DISK, tmp_path))
    assert f"saved in {tmp_path}" in message
    assert "Earlier ones are untouched" in message
    assert list(tmp_path.iterdir()) == [saved.path]
    assert find_damage(saved.path) is None
    assert checkpointer.recover_if_possible().path == saved.path
    assert torch.all(model.bias == 1)


def test_no_process_waits_for_one_that_cannot_write(tmp_path):
    rendezvous = f"file://{tmp_path / 'rendezvous'}"
    (tmp_path / "save").mkdir()
    outputs = finish(
        *(
            start(
                TWO_PROCESSES,
                tmp_path / "save",
                rendezvous,
                rank,
                RANK=str(rank),
                LOCAL_RANK=str(rank),
            )
            for rank in range(2)
        )
    )
    assert outputs == [["failed True", "recovered True"]] * 2
    [folder] = (tmp_path / "save").iterdir()
    assert (folder / "c.ckpt").read_text() == "[0, 1]"
