"""Pretraining over several machines: two agents of torchrun on the loopback.

Their output folder and data lie on one disk, as the recipe asks for.
"""

import socket
import subprocess

import pytest
import torch
from tiny_run import (
    DISTURBANCE,
    ENVIRONMENT,
    RECIPE,
    change,
    make_command,
    newest_checkpoint,
    read_log,
    run,
    write_corpus,
)

SHORT = {"total_steps": 6, "steps_per_epoch": 3, "warmup_steps": 2}
SHORT |= {"log_interval_steps": 1, "num_workers": 1}


def find_free_port():
    """Find a port where nothing listens."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def make_machine_command(shards, folder, machines, processes):
    """Build the command that is started on each machine, without GPUs."""
    launcher = ("-m", "torch.distributed.run", f"--nnodes={machines}",
                f"--nproc_per_node={processes}", "--rdzv_backend=c10d",
                f"--rdzv_endpoint=localhost:{find_free_port()}",
                "--rdzv_id=tiny")  # fmt: skip
    options = ("--distributed_backend=gloo", "--device=cpu")
    return make_command(shards, folder, *options, launcher=launcher, **SHORT)


def run_on_two(command, code=0):
    """Start a command on two machines; return what both print."""
    machines = [
        subprocess.Popen(
            command,
            cwd=RECIPE,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [machine.communicate(timeout=300)[0] for machine in machines]
    codes = [machine.returncode for machine in machines]
    assert codes == [code, code], "\n".join(printed)[-5000:]
    return "".join(printed)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A corpus of four shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_corpus(folder)
    return folder


def test_two_machines_end_and_resume_to_the_weights_of_one(shards, tmp_path):
    run(make_machine_command(shards, tmp_path / "one", 1, 2))
    two = make_machine_command(shards, tmp_path / "two", 2, 1)
    signal = DISTURBANCE.format("fit_batch", 4, "SIGTERM").replace(
        "count == 0", "count == 0 and os.environ['RANK'] == '1'"
    )
    printed = run_on_two(change(two, tmp_path / "ended.py", signal), code=1)
    assert printed.count("Ended by SIGTERM") == 1
    assert read_log(tmp_path / "two")[-1]["step"] == 4
    run_on_two(two)
    ends = [newest_checkpoint(tmp_path / name) for name in ("one", "two")]
    one, two = (
        torch.load(end / "wavjepa.ckpt", weights_only=True) for end in ends
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert read_log(tmp_path / "one") == read_log(tmp_path / "two")
