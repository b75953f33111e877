"""The numbers that show a collapse, on cases whose answer is known."""

import pytest
import torch

from speechbrain_wavjepa.utils.collapse import (
    effective_rank,
    mean_std,
    pool_windows,
)


def test_effective_rank_of_parallel_and_orthogonal_vectors():
    assert effective_rank(torch.ones(8, 8)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.eye(8)) == pytest.approx(8, abs=1e-3)


def test_mean_std_is_zero_for_equal_tokens():
    assert mean_std(torch.ones(10, 4)) == 0
    tokens = torch.tensor([[0.0, 0.0], [2.0, 6.0]])
    assert mean_std(tokens) == pytest.approx(2 * 2**0.5)


def test_windows_are_pooled_over_their_kept_tokens():
    lengths = torch.tensor([2, 1])
    pooled = pool_windows(torch.tensor([[1.0], [3.0], [5.0]]), lengths)
    assert pooled.tolist() == [[2.0], [5.0]]
