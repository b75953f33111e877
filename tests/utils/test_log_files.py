"""A log that cannot be written is one line."""

import subprocess
import sys

EXPERIMENT = """
import logging, sys
from speechbrain_wavjepa.utils.experiment import experiment
folder, hparams = sys.argv[1:]
with experiment(folder, hparams, "", {}):
    for number in range(9):
        logging.getLogger("a.b").info(f"line {number}")
"""


def test_a_full_disk_is_told_once(tmp_path):
    hparams = tmp_path / "hparams.yaml"
    hparams.write_text("seed: 1\n")
    command = [sys.executable, "-c", EXPERIMENT, tmp_path / "run", hparams]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    log = tmp_path / "run" / "log.txt"
    log.unlink()
    log.symlink_to("/dev/full")
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [
        line for line in result.stderr.splitlines() if str(log) in line
    ] == [
        f"The log {log} cannot be written: [Errno 28] No space left on device."
    ]
    assert "Traceback" not in result.stderr
    assert "line 8" in result.stdout  # the other log goes on
