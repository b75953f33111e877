"""Compression of energies, and scales of frequencies."""

import math

import pytest
import torch

from speechbrain_wavjepa.nnet import filters


@pytest.mark.parametrize("smooth", [1e-4, 0.04, 0.7, 1 - 1e-4])
def test_moving_average_equals_the_loop(smooth):
    energy = torch.rand(2, 3, 600, dtype=torch.float64)  # of three blocks
    expected = [energy[:, :, 0]]
    for n in range(1, 600):
        previous = (1 - smooth) * expected[-1]
        expected.append(previous + smooth * energy[:, :, n])
    weights = torch.full((3,), smooth, dtype=torch.float64)
    average = filters.moving_average(energy, weights)
    torch.testing.assert_close(average, torch.stack(expected, 2))


@pytest.mark.parametrize("name", filters.COMPRESSIONS)
def test_compressions_rise_and_have_finite_gradients(name):
    compression = filters.COMPRESSIONS[name](2)
    energy = torch.logspace(-5, 3, 50).expand(1, 2, 50).requires_grad_()
    compressed = compression(energy)
    assert (compressed.diff(dim=2) > 0).all()
    compressed.sum().backward()
    for tensor in (energy, *compression.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.any()


def test_parameters_beyond_their_bounds_return():
    pcen = filters.PCEN(2)
    beyond = {"alpha": 1.5, "delta": -1.0, "root": 0.1, "smooth": 2.0}
    with torch.no_grad():
        for name, value in beyond.items():
            getattr(pcen, name).fill_(value)
    energy = torch.rand(1, 2, 20)
    clamped = pcen(energy)
    assert clamped.isfinite().all()
    pcen.constrain()
    for name, (low, high) in pcen.BOUNDS.items():
        parameter = getattr(pcen, name)
        assert (low <= parameter).all() and (parameter <= high).all()
    assert torch.equal(pcen(energy), clamped)
    pcen(energy).sum().backward()
    for name in ("alpha", "root", "smooth"):  # with root 1 delta cancels out
        assert getattr(pcen, name).grad.any()


def test_centers_fold_into_the_frequencies_that_they_stand_for():
    centers = torch.tensor([0.5, -0.5, 0.5 + 2 * math.pi, math.pi + 0.25])
    folded = filters.fold(centers)
    expected = torch.tensor([0.5, 0.5, 0.5, math.pi - 0.25])
    torch.testing.assert_close(folded, expected)


def test_mel_scale():
    assert filters.hz_to_mel(1000).item() == pytest.approx(999.99, abs=0.01)
    points = filters.mel_points(5, 60, 7800)
    steps = filters.hz_to_mel(points).diff()
    torch.testing.assert_close(steps, steps[:1].expand(4))
    assert points[[0, -1]].tolist() == pytest.approx([60, 7800])


@pytest.mark.parametrize("init", ["uniform", "truncated_normal"])
def test_draws_fill_the_unit_interval_and_follow_the_seed(init):
    torch.manual_seed(3)
    first = filters.draw_unit(500, init)
    torch.manual_seed(3)
    assert torch.equal(filters.draw_unit(500, init), first)
    assert first.min() >= 0 and first.max() <= 1
    # a normal distribution falls from 0 on, a uniform one does not
    middle = {"uniform": 0.5, "truncated_normal": 0.46}[init]
    assert first.mean().item() == pytest.approx(middle, abs=0.03)
