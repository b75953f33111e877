"""The log of steps, and TensorBoard's."""

import threading

from speechbrain_wavjepa.step_log import StepLog


def test_close_ends_what_tensorboard_has_started(tmp_path):
    before = threading.active_count()
    log = StepLog(tmp_path / "steps.jsonl", tmp_path / "tensorboard")
    log.append(1, loss=0.5)
    assert threading.active_count() > before
    log.close()
    assert threading.active_count() == before
    log.append(2, loss=0.4)  # a run that goes on has another file
    log.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert [line["step"] for line in log.read()] == [1, 2]
