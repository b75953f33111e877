"""Linear probes and the reader of labelled tasks."""

import json

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.evaluation.hear_task import read_multiclass_folds
from speechbrain_wavjepa.evaluation.quick_probe import linear_probe


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
