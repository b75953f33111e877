"""Task folders: what is read, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.downstream.embedding_cache import (
    SplitEmbeddings,
    embed_task,
    make_targets,
)
from speechbrain_wavjepa.downstream.events import Event
from speechbrain_wavjepa.downstream.tasks import HearTask, Run


@pytest.fixture
def folder(task_folder, tmp_path):
    """A copy of a good task, to be spoiled."""
    return shutil.copytree(task_folder, tmp_path / "tones-v1-full")


def change(folder, **entries):
    path = folder / "task_metadata.json"
    metadata = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps(metadata))


def test_a_task(folder):
    task = HearTask(folder)
    assert task.labels == ["high", "low"]
    assert task.runs() == [Run(["train"], "valid", "test")]
    assert task.clips["test"]["1.wav"] == ["high"]
    assert task.read_clip("test", "1.wav").shape == (1600, 1)
    task.check_leaks()


def test_folds(folder):
    splits = ["train", "valid", "test"]
    change(folder, split_mode="presplit_kfold", splits=splits)
    assert HearTask(folder).runs() == [
        Run(["valid"], "train", "test"),
        Run(["test"], "valid", "train"),
        Run(["train"], "test", "valid"),
    ]
    change(folder, splits=["train", "valid"])
    with pytest.raises(ValueError, match="has 2 folds"):
        HearTask(folder).runs()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "valid.json").unlink(), "valid.json is missing"),
        (lambda f: (f / "test.json").write_text("{}"), "lists no clip"),
        (
            lambda f: (f / "test.json").write_text('{"0.wav": ["cow"]}'),
            "The label 'cow' of 0.wav is not in",
        ),
        (
            lambda f: (f / "test.json").write_text('{"0.wav": []}'),
            "0.wav 0 labels",
        ),
        (
            lambda f: (f / "labelvocabulary.csv").write_text("idx,label\n1,a"),
            "number its labels from 0 without gaps",
        ),
        (lambda f: change(f, split_mode="random"), "split_mode='random'"),
        (lambda f: change(f, embedding_type="clip"), "embedding_type='clip'"),
    ],
)
def test_a_spoiled_folder(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        HearTask(folder)


def test_missing_splits_and_keys(folder):
    change(folder, splits=["train", "test"])
    with pytest.raises(ValueError, match=r"lacks the splits \['valid'\]"):
        HearTask(folder).runs()
    (folder / "task_metadata.json").write_text("{}")
    with pytest.raises(ValueError, match="lacks 'task_name'"):
        HearTask(folder)


def test_spoiled_clips(folder):
    path = folder / "16000" / "test" / "0.wav"
    task = HearTask(folder)
    soundfile.write(path, np.zeros(800), 8000)
    with pytest.raises(ValueError, match="has a rate of 8000 Hz"):
        task.read_clip("test", "0.wav")
    soundfile.write(path, np.zeros(0), 16000)
    with pytest.raises(ValueError, match="0.wav is empty"):
        task.read_clip("test", "0.wav")
    path.unlink()
    with pytest.raises(ValueError, match="0.wav cannot be read"):
        task.read_clip("test", "0.wav")
    with pytest.raises(ValueError, match="0.wav is missing"):
        task.check_leaks()


def test_a_clip_in_two_splits_is_refused(folder):
    clips = folder / "16000"
    shutil.copy(clips / "train" / "3.wav", clips / "test" / "1.wav")
    with pytest.raises(ValueError, match="test/1.wav is the same clip as tra"):
        HearTask(folder).check_leaks()


def test_labels_that_are_not_trained(folder):
    labels = {f"{number}.wav": ["low"] for number in range(12)}
    (folder / "train.json").write_text(json.dumps(labels))
    task = HearTask(folder)
    assert task.absent_labels(task.runs()[0]) == ["high"]


def test_targets_of_events(folder):
    change(folder, embedding_type="event", prediction_type="multilabel")
    for split in ("train", "valid", "test"):
        events = [
            {"label": "low", "start": 100, "end": 200},
            {"label": "low", "start": 150, "end": 220},
            {"label": "high", "start": 300, "end": 300},
        ]
        (folder / f"{split}.json").write_text(json.dumps({"0.wav": events}))
    task = HearTask(folder)
    assert task.clips["test"]["0.wav"][2] == Event("high", 300, 300)
    times = np.arange(0, 500, 50.0)
    split = SplitEmbeddings(["0.wav"], np.zeros((10, 1)), [10], times)
    high, low = make_targets(task, "test", split).T
    assert low.tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert high.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def mean_of(clips):
    return clips.abs().mean(dim=1)


def test_embeddings_are_kept_and_never_mixed(folder, tmp_path):
    task, calls = HearTask(folder), []

    def embed(clips):
        calls.append(len(clips))
        return mean_of(clips)

    first = embed_task(task, embed, "a", tmp_path / "cache")
    count = len(calls)
    assert sum(calls) == 24
    again = embed_task(task, embed, "a", tmp_path / "cache")
    assert len(calls) == count
    assert isinstance(again["train"].rows, np.memmap)
    assert np.array_equal(first["train"].rows, again["train"].rows)
    embed_task(task, embed, "b", tmp_path / "cache")
    assert len(calls) == 2 * count
    for row, name in zip(first["test"].rows, first["test"].names):
        clip = task.read_clip("test", name)
        assert row[0] == pytest.approx(clip.abs().mean().item())


def test_a_stopped_embedding_goes_on_with_the_next_split(folder, tmp_path):
    task, seen = HearTask(folder), []

    def fail_in_valid(clips):
        seen.append(len(clips))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return mean_of(clips)

    with pytest.raises(KeyboardInterrupt):
        embed_task(task, fail_in_valid, "a", tmp_path)
    seen = [0, 0]
    embed_task(task, fail_in_valid, "a", tmp_path)
    assert seen == [0, 0, 6, 6]


def test_changed_clips_and_embeddings_that_are_not_finite(folder, tmp_path):
    task = HearTask(folder)
    embed_task(task, mean_of, "a", tmp_path)
    labels = json.loads((folder / "test.json").read_text())
    labels.pop("0.wav")
    (folder / "test.json").write_text(json.dumps(labels))
    with pytest.raises(ValueError, match="embeddings of other clips"):
        embed_task(HearTask(folder), mean_of, "a", tmp_path)
    with pytest.raises(ValueError, match="holds NaN or Inf"):
        embed_task(task, lambda c: mean_of(c) * torch.nan, "c", tmp_path)
