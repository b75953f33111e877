"""The step log survives kills, full disks and figures that are not finite."""

import json
import math
import os

import pytest

from speechbrain_wavjepa.utils import StepLog


@pytest.fixture
def log(tmp_path):
    """A log of three steps."""
    log = StepLog(tmp_path / "steps.jsonl")
    for step in (1, 2, 3):
        log.append(step, loss=step / 2)
    return log


def steps(log):
    """List the steps of a log."""
    return [line["step"] for line in log.read()]


@pytest.mark.parametrize("cut", [1, 5, 15])
def test_a_last_line_that_was_cut_off_is_dropped(log, caplog, cut):
    content = log.path.read_bytes()
    log.path.write_bytes(content + b'{"step": 4, "lo'[:cut])
    assert steps(log) == [1, 2, 3]
    assert str(log.path) in caplog.text
    log.forget_after(2)  # as a run that resumes
    log.append(3, loss=0.5)
    assert steps(log) == [1, 2, 3]


def test_every_place_of_a_cut_is_read(log):
    content = log.path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for place in range(len(content)):
        log.path.write_bytes(content[:place])
        whole = sum(end <= place for end in ends)
        assert steps(log) == [1, 2, 3][:whole]


def test_a_line_of_zeros_after_a_power_failure_is_dropped(log):
    log.path.write_bytes(log.path.read_bytes() + bytes(100))
    assert steps(log) == [1, 2, 3]


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}', ""])
def test_a_damaged_line_in_the_middle_is_named(log, line):
    first, _, *others = log.path.read_text().splitlines()
    log.path.write_text("\n".join([first, line, *others]) + "\n")
    with pytest.raises(ValueError, match=f"Line 2 of {log.path} is damaged"):
        log.read()


def test_figures_that_are_not_finite_are_json_and_come_back(log):
    log.append(4, loss=math.nan, rank=-math.inf, norm=math.inf, bad=0)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    for line in log.path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    last = log.read()[-1]
    assert math.isnan(last["loss"])
    assert (last["rank"], last["norm"], last["bad"]) == (-math.inf, math.inf, 0)
    log.forget_after(4)
    assert math.isnan(log.read()[-1]["loss"])


def test_a_kill_while_steps_are_forgotten_keeps_the_log(log, monkeypatch):
    before = log.path.read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        log.forget_after(1)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("validated", [True, False])
def test_a_validation_that_will_be_repeated_is_forgotten(log, validated):
    log.append(1, valid_loss=1.5)
    log.append(3, valid_loss=0.5)
    log.forget_after(3, validated)
    losses = [line.get("valid_loss") for line in log.read()]
    assert losses.count(1.5) == 1
    assert losses.count(0.5) == int(validated)
    assert losses.count(None) == 3


def test_a_full_disk_and_a_removed_folder_are_told_with_the_path(log):
    log.path.unlink()
    log.path.symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=f"{log.path} cannot be written: No space"
    ):
        log.append(1, loss=1.0)
    log.path.unlink()
    log.path.parent.rmdir()
    with pytest.raises(OSError, match=f"{log.path} cannot be written: No such"):
        log.append(1, loss=1.0)


def test_a_full_disk_stops_tensorboard_with_one_line(tmp_path, capfd):
    folder = tmp_path / "tensorboard"
    log = StepLog(tmp_path / "steps.jsonl", folder)
    log.append(1, loss=1.0)
    log.writer.flush()
    [events] = folder.iterdir()
    events.unlink()
    events.symlink_to("/dev/full")
    message = f"{folder} cannot be written: No space left on device"
    with pytest.raises(OSError, match=message):
        for step in range(2, 1000):  # its thread writes when it comes to it
            log.append(step, loss=1.0)
    with pytest.raises(OSError, match=message):
        log.close()
    log.close()
    assert "Traceback" not in capfd.readouterr().err
