"""Schedules are functions of the step."""

import pytest

from speechbrain_wavjepa.nnet import EMADecay, WarmupCosine


def test_learning_rate_at_its_corners():
    schedule = WarmupCosine(1e-3, 100, 1100, final_lr=1e-5)
    assert schedule(0) == 0.0
    assert schedule(99) == pytest.approx(0.99e-3)
    assert schedule(100) == 1e-3
    assert schedule(600) == pytest.approx((1e-3 + 1e-5) / 2)
    assert schedule(1099) > schedule(1100) == schedule(5000) == 1e-5


def test_ema_decay_at_its_corners():
    schedule = EMADecay(0.9, 0.99, 10)
    assert schedule(0) == pytest.approx(0.9)
    assert schedule(5) == pytest.approx(0.945)
    assert schedule(10) == schedule(1000) == 0.99


def test_the_same_step_gives_the_same_value():
    schedule = WarmupCosine(1e-3, 10, 100)
    backwards = [schedule(step) for step in reversed(range(120))]
    assert backwards[::-1] == [schedule(step) for step in range(120)]


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match="warmup_steps=100"):
        WarmupCosine(1e-3, 100, 100)
    with pytest.raises(ValueError, match="1.5"):
        EMADecay(1.5, 1.0, 10)
