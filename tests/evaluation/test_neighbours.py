"""Nearest neighbours by the cosine."""

import numpy as np
import pytest
import torch

from speechbrain_wavjepa.evaluation.embeddings import embed_task
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.evaluation.quick_probe import (
    evaluate_neighbours,
    neighbour_probabilities,
)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_shares_by_hand(k):
    random = np.random.default_rng(k)
    rows, known = random.random((5, 4)), random.random((7, 4))
    targets = np.eye(3)[random.integers(0, 3, 7)]
    shares = neighbour_probabilities(
        *map(torch.from_numpy, (rows, known, targets)), k
    )
    for row, share in zip(rows, shares):
        cosines = [
            row @ other / np.linalg.norm(row) / np.linalg.norm(other)
            for other in known
        ]
        nearest = np.argsort(cosines)[-k:]
        expected = torch.from_numpy(targets[nearest].mean(axis=0))
        torch.testing.assert_close(share, expected)


def test_too_many_neighbours():
    with pytest.raises(ValueError, match="k=4 neighbours of 3 training rows"):
        neighbour_probabilities(
            torch.ones(1, 2), torch.ones(3, 2), torch.eye(3), 4
        )


def spectrum(clips):
    return torch.fft.rfft(clips[:, :, 0]).abs()


def test_tones_are_told_apart_by_their_spectra(task_folder, tmp_path):
    task = HearTask(task_folder)
    splits = embed_task(task, spectrum, "spectrum", tmp_path)
    scores = evaluate_neighbours(task, splits, [1, 5])
    assert scores["k=1"]["test_top1_acc"] == 1.0
    assert scores["k=5"]["test_mAP"] == 1.0
