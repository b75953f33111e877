"""Task folders: what is read, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.dataio import clips
from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.embeddings import (
    SplitEmbeddings,
    embed_task,
    make_targets,
)
from speechbrain_wavjepa.evaluation.events import Event
from speechbrain_wavjepa.evaluation.hear import SplitScorer
from speechbrain_wavjepa.evaluation.hear_task import Run
from speechbrain_wavjepa.utils import tables as files


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


def test_missing_splits_and_keys(folder):
    change(folder, splits=["train", "test"])
    with pytest.raises(ValueError, match=r"lacks the splits \['valid'\]"):
        HearTask(folder).runs()
    (folder / "test.json").unlink()
    with pytest.raises(ValueError, match="test.json is missing"):
        HearTask(folder)
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
    with pytest.raises(ValueError, match="0.wav is missing"):
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


def test_embeddings_of_a_changed_task_are_never_read(folder, tmp_path):
    first = embed_task(HearTask(folder), mean_of, "a", tmp_path)
    labels = json.loads((folder / "test.json").read_text())
    labels.pop("0.wav")
    (folder / "test.json").write_text(json.dumps(labels))
    fewer = embed_task(HearTask(folder), mean_of, "a", tmp_path)
    assert len(fewer["test"].rows) == 5
    for path in sorted((folder / "16000" / "train").iterdir()):
        noise = np.random.default_rng(int(path.stem)).uniform(-1, 1, 1600)
        soundfile.write(path, noise, 16000)
    louder = embed_task(HearTask(folder), mean_of, "a", tmp_path)
    assert louder["train"].rows.min() > 2 * first["train"].rows.max()


def test_embeddings_that_are_not_finite(folder, tmp_path):
    task = HearTask(folder)
    with pytest.raises(ValueError, match="holds NaN or Inf"):
        embed_task(task, lambda c: mean_of(c) * torch.nan, "c", tmp_path)


def test_two_processes_never_write_the_same_embeddings(folder, tmp_path):
    task = HearTask(folder)
    embed_task(task, mean_of, "a", tmp_path / "cache")
    (place,) = (tmp_path / "cache" / folder.name).iterdir()
    shutil.rmtree(place / "valid")
    held = "from speechbrain_wavjepa.utils.files import hold\nimport sys\n"
    held += "with hold(sys.argv[1]):\n    print(flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=f"in use by process {other.pid}"):
            embed_task(task, mean_of, "a", tmp_path / "cache")
        other.communicate(b"\n")
    embed_task(task, mean_of, "a", tmp_path / "cache")


def test_the_clips_are_read_once_for_leaks_and_fingerprint(folder, monkeypatch):
    task = HearTask(folder)
    task.check_leaks()
    first = task.fingerprints()
    for path in (folder / "16000").rglob("*.wav"):
        path.unlink()
    assert task.fingerprints() == first


def test_a_fingerprint_says_what_has_changed(folder):
    first = HearTask(folder).fingerprints()
    change(folder, evaluation=["mAP"])
    second = HearTask(folder).fingerprints()
    assert second["clips"] == first["clips"]
    assert second["labels"] != first["labels"]
    with open(folder / "16000" / "test" / "0.wav", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    third = HearTask(folder).fingerprints()
    assert third["labels"] == second["labels"]
    assert third["clips"] != second["clips"]


def event_of(label="low", start=0, end=1):
    return json.dumps({"0.wav": [{"label": label, "start": start, "end": end}]})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test.json", '{"../../precious.wav": ["low"]}', "cannot be a name"),
        ("test.json", '{"/etc/passwd": ["low"]}', "cannot be a name"),
        ("test.json", '{"a\\nb.wav": ["low"]}', "cannot be a name"),
        ("test.json", "[" * 100_000, "test.json cannot be read as json"),
        ("test.json", '{"0.wav": ' + "9" * 9999 + "}", "cannot be read as js"),
        ("test.json", '{"0.wav": "low"}', "must be a list"),
        ("test.json", "[]", "must hold a mapping in braces"),
        ("test.json", "{}", "lists no clip"),
        ("test.json", '{"0.wav": ["cow"]}', "the label 'cow': not in labelvoc"),
        ("test.json", '{"0.wav": []}', "0.wav 0 labels, not one"),
        ("test.json", b'{"\xff.wav": ["low"]}', "test.json is not UTF-8"),
        ("labelvocabulary.csv", "idx,label\n0\n", "is cut off"),
        ("labelvocabulary.csv", "idx\n0\n", "has no column 'label'"),
        ("labelvocabulary.csv", "idx,label\na,b\n", "number its labels"),
        ("labelvocabulary.csv", "idx,label\n1,a", "from 0 without gaps"),
        ("labelvocabulary.csv", f"idx,label\n0,{'a' * 200_000}\n", "no table"),
    ],
)
def test_what_a_stranger_s_files_may_hold(folder, name, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        HearTask(folder)


def test_a_vocabulary_of_many_megabytes(folder):
    path = folder / "labelvocabulary.csv"
    path.write_text("idx,label\n" + "0,a\n" * 2**20)
    with pytest.raises(ValueError, match="has 4194314 bytes, over 4194304"):
        HearTask(folder)


def test_a_table_takes_no_more_memory_than_what_is_asked_for(tmp_path):
    """Short rows below a long header, and columns that nobody reads."""
    path = tmp_path / "a.csv"
    header = ",".join(["file", "label", *map(str, range(4000))])
    path.write_text(header + "\na.wav,dog" * 1000)
    tracemalloc.start()
    rows = files.read_table(path, ["file", "label"], optional=["3999"])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == [{"file": "a.wav", "label": "dog", "3999": ""}] * 1000
    assert most < 2**23


def test_a_table_of_too_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ROWS", 10)
    path = tmp_path / "a.csv"
    path.write_text("file,label" + "\na.wav,dog" * 10)
    assert len(files.read_table(path, ["file", "label"])) == 10
    path.write_text("file,label" + "\na.wav,dog" * 11)
    with pytest.raises(ValueError, match="a.csv has more than 10 rows: split"):
        files.read_table(path, ["file", "label"])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"splits": ["train", "valid", "../../X"]}, "cannot be a name"),
        ({"splits": ["train", "train"]}, "each once and without"),
        ({"splits": ["train", "a/b"]}, "each once and without"),
        ({"splits": "train"}, "must be a list of names"),
        ({"splits": [["train"]]}, "cannot be a name"),
        ({"evaluation": []}, "must be a list of names"),
        ({"task_name": 3}, "must be a text"),
        ({"split_mode": "random"}, "split_mode='random', which must be one"),
        ({"evaluation_params": [1]}, "which must be a mapping"),
        ({"embedding_type": ["scene"]}, r"\['scene'\], which must be one of"),
    ],
)
def test_what_a_stranger_s_metadata_may_hold(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(ValueError, match=message):
        HearTask(folder)


@pytest.mark.parametrize(
    "grid",
    [
        {"median_filter_ms": [1e15], "min_duration": [125]},
        {"median_filter_ms": [250], "min_duration": [float("nan")]},
        {"median_filter_ms": [250], "min_duration": ["a"]},
        {"median_filter_ms": list(range(99)), "min_duration": [125]},
        {"median_filter_ms": [250]},
        {"median_filter_ms": [250], "min_duration": [125], "threshold": [0]},
        [250],
    ],
)
def test_an_absurd_grid_of_events_is_refused(folder, grid):
    change(
        folder,
        embedding_type="event",
        prediction_type="multilabel",
        evaluation=["event_onset_200ms_fms"],
        evaluation_params={"event_postprocessing_grid": grid},
    )
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(event_of())
    times = np.arange(3) * 100.0
    rows = SplitEmbeddings(["0.wav"], np.zeros((3, 1)), [3], times)
    scorer = SplitScorer(HearTask(folder), "valid", rows)
    with pytest.raises(ValueError, match="has event_postprocessing_grid="):
        scorer.validate(torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (event_of(start="NaN"), "which never ends"),
        (event_of(end=float("inf")), "which never ends"),
        (event_of(end=10**400), "must have a label, a start and an end"),
        (event_of(end=None), "must have a label, a start and an end"),
        ('{"0.wav": ["low"]}', "must have a label, a start and an end"),
    ],
)
def test_what_a_stranger_s_events_may_hold(folder, text, message):
    change(folder, embedding_type="event", prediction_type="multilabel")
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(event_of())
    HearTask(folder)
    (folder / "test.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        HearTask(folder)


def test_pipes_and_huge_files_are_refused(folder, monkeypatch):
    task, clip = HearTask(folder), folder / "16000" / "test" / "0.wav"
    clip.unlink()
    os.mkfifo(clip)
    for read in (lambda: task.read_clip("test", "0.wav"), task.check_leaks):
        with pytest.raises(ValueError, match="0.wav is no regular file"):
            read()
    clip.unlink()
    soundfile.write(clip, np.zeros(1600), 16000)
    monkeypatch.setattr(clips, "MAX_CLIP_VALUES", 1000)
    with pytest.raises(ValueError, match="0.wav has over 1000 samples"):
        task.read_clip("test", "0.wav")
    (folder / "test.json").unlink()
    os.mkfifo(folder / "test.json")
    with pytest.raises(ValueError, match="test.json is no regular file"):
        HearTask(folder)
    (folder / "test.json").unlink()
    with open(folder / "test.json", "wb") as file:
        file.truncate(10 * 2**30)  # a hole
    with pytest.raises(ValueError, match="test.json has 10737418240 bytes"):
        HearTask(folder)


@pytest.mark.parametrize("name", ["-rf.wav", "{a}[b]*?.wav", "a b.WAV"])
def test_odd_names_are_read(folder, name):
    place = folder / "16000" / "test"
    (place / "0.wav").rename(place / name)
    labels = json.loads((folder / "test.json").read_text())
    labels[name] = labels.pop("0.wav")
    (folder / "test.json").write_text(json.dumps(labels))
    task = HearTask(folder)
    task.check_leaks()
    assert task.read_clip("test", name).shape == (1600, 1)


def test_a_name_without_a_format_is_refused(folder):
    place = folder / "16000" / "test"
    (place / "0.wav").rename(place / "0.raw")
    (folder / "test.json").write_text('{"0.raw": ["low"]}')
    with pytest.raises(ValueError, match="0.raw cannot be read"):
        HearTask(folder).read_clip("test", "0.raw")
