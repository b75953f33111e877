"""Linear probes, their table and its folds, and nearest neighbours."""

import json

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.embeddings import embed_task
from speechbrain_wavjepa.evaluation.hear_task import read_multiclass_folds
from speechbrain_wavjepa.evaluation.quick_probe import (
    evaluate_neighbours,
    learning_table,
    linear_probe,
    neighbour_shares,
)
from speechbrain_wavjepa.lobes import ConvFrontend, WavJEPAEncoder
from speechbrain_wavjepa.nnet import TransformerEncoder


def test_probe_finds_what_is_linear_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1500, 20, generator=generator)
    linear = (features[:, 3] > 0).long() + 2 * (features[:, 7] > 0).long()
    noise = torch.randint(0, 4, (1500,), generator=generator)
    train, test = slice(0, 1000), slice(1000, 1500)
    found = linear_probe(
        features[train], linear[train], features[test], linear[test]
    )
    assert found > 0.93
    guessed = linear_probe(
        features[train], noise[train], features[test], noise[test]
    )
    assert 0.15 < guessed < 0.35


def test_probe_does_not_mind_the_scale_of_features():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(600, 5, generator=generator)
    labels = (features[:, 0] > 0).long()
    scaled = features * torch.tensor([1e-4, 1.0, 1e3, 1.0, 1.0]) + 100
    accuracy = [
        linear_probe(f[:400], labels[:400], f[400:], labels[400:])
        for f in (features, scaled)
    ]
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.02)


def test_features_that_are_not_finite_are_refused():
    features, labels = torch.ones(10, 2), torch.arange(10) % 2
    features[3, 1] = float("nan")
    with pytest.raises(ValueError, match="train features.*NaN"):
        linear_probe(features, labels, features, labels)


def test_a_few_clips_of_one_class_are_enough():
    """The penalty is chosen on what two clips leave over: a single class."""
    features, labels = torch.eye(2), torch.arange(2)
    assert linear_probe(features, labels, features, labels) == 1.0
    assert linear_probe(features, labels * 0, features, labels) == 0.5


@pytest.mark.parametrize("num_folds", [2, 3])
def test_table_of_clips_and_scenes(num_folds):
    """Which half is louder tells the classes apart, at all receivers."""
    encoder = WavJEPAEncoder(
        ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    )
    labels = torch.arange(20) % 2
    gain = torch.where(labels[:, None] > 0, torch.linspace(0, 1, 3200), 0.1)
    for channels in (1, 3):
        folds = [
            (torch.randn(20, 3200, channels) * gain[:, :, None], labels)
            for _ in range(num_folds)
        ]
        table = learning_table(folds, {"random": encoder}, 3200)
        assert list(table) == ["log-mel mean", "random"]
        assert table["log-mel mean"] > 0.9
    folds = [(torch.zeros(4, 3200, 2), labels[:4])] * 2
    with pytest.raises(ValueError, match="got 2 channels"):
        learning_table(folds, {})


def make_task(folder, **metadata):
    """Write a task of two folds with two clips each."""
    settings = {
        "task_name": "pets",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold",
        "evaluation": ["top1_acc"],
        "splits": ["fold00", "fold01"],
        **metadata,
    }
    (folder / "task_metadata.json").write_text(json.dumps(settings))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,dog\n1,cat\n")
    for number, split in enumerate(("fold00", "fold01")):
        labels = {"a.wav": ["dog"], "b.wav": ["cat"]}
        (folder / f"{split}.json").write_text(json.dumps(labels))
        clips = folder / "16000" / split
        clips.mkdir(parents=True)
        for name, value in (("a.wav", 0.25), ("b.wav", 0.5)):
            soundfile.write(clips / name, np.full(100 + number, value), 16000)


def test_folds_of_a_task(tmp_path):
    make_task(tmp_path)
    (first, labels), (second, _) = read_multiclass_folds(tmp_path)
    assert first.shape == (2, 100, 1) and second.shape == (2, 101, 1)
    assert labels.tolist() == [0, 1]
    assert first[:, 0, 0].tolist() == pytest.approx([0.25, 0.5], abs=1e-3)


def test_wrong_tasks_are_refused(tmp_path):
    make_task(tmp_path, prediction_type="multilabel")
    with pytest.raises(ValueError, match="multilabel"):
        read_multiclass_folds(tmp_path)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_shares_of_neighbours_by_hand(k):
    random = np.random.default_rng(k)
    rows, known = random.random((5, 4)), random.random((7, 4))
    targets = np.eye(3)[random.integers(0, 3, 7)]
    (shares,) = neighbour_shares(
        torch.from_numpy(rows), torch.from_numpy(known), targets, [k]
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
    with pytest.raises(ValueError, match=r"neighbours=\[1, 4\] of 3 training"):
        neighbour_shares(torch.ones(1, 2), torch.ones(3, 2), np.eye(3), [1, 4])


def spectrum(clips):
    return torch.fft.rfft(clips[:, :, 0]).abs()


def test_tones_are_told_apart_by_their_spectra(task_folder, tmp_path):
    task = HearTask(task_folder)
    splits = embed_task(task, spectrum, "spectrum", tmp_path)
    scores = evaluate_neighbours(task, splits, [1, 5])
    assert scores["k=1"]["test_top1_acc"] == 1.0
    assert scores["k=5"]["test_mAP"] == 1.0
