"""Tasks made of one's own files."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from task_writer import (
    read_class_folders,
    read_table,
    write_task,
)

from speechbrain_wavjepa.evaluation import HearTask


@pytest.fixture
def classes(tmp_path):
    """Two folders of seven files, all different, at another rate."""
    folder = tmp_path / "sounds"
    random = np.random.default_rng(0)
    for label in ("dog", "rain"):
        (folder / label).mkdir(parents=True)
        for number in range(7):
            samples = random.standard_normal(4410) / 9
            soundfile.write(folder / label / f"{number}.wav", samples, 44100)
    return folder


def test_a_folder_of_classes(classes, tmp_path):
    output = tmp_path / "pets-v1-full"
    counts = write_task(output, read_class_folders(classes), "pets")
    assert counts == {
        "fold00": 3,
        "fold01": 3,
        "fold02": 3,
        "fold03": 3,
        "fold04": 2,
    }
    task = HearTask(output)
    task.check_leaks()
    assert (task.labels, len(task.runs())) == (["dog", "rain"], 5)
    assert task.metadata["sample_duration"] == 0.1
    for split, clips in task.clips.items():
        assert {label for (label,) in clips.values()} == {"dog", "rain"}
        for name in clips:
            assert task.read_clip(split, name).shape == (1600, 1)


def test_the_seed_draws_the_folds(classes, tmp_path):
    files = read_class_folders(classes)
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_task(tmp_path / name, files, "pets", seed=seed)
        texts.append((tmp_path / name / "fold00.json").read_text())
    assert texts[0] == texts[1] != texts[2]


def write_table(classes, text):
    path = classes / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_of_events(classes, tmp_path):
    lines = ["file,label,start,end"]
    for number in range(5):
        lines += [f"dog/{number}.wav,bark,10,{20 + number}"]
        lines += [f"dog/{number}.wav,growl,30.5,60"]
    path = write_table(classes, "\n".join(lines))
    counts = write_task(tmp_path / "events", read_table(path), "events")
    assert counts == {"train": 3, "valid": 1, "test": 1}
    task = HearTask(tmp_path / "events")
    assert (task.embedding_type, task.prediction_type) == (
        "event",
        "multilabel",
    )
    ((_, events),) = task.clips["test"].items()
    assert [event.label for event in events] == ["bark", "growl"]
    assert events[1][1:] == (30.5, 60.0)


def test_a_table_of_files_that_lie_elsewhere(classes, tmp_path):
    """They are only read; what is written has the name of the file alone."""
    (classes / "meta").mkdir()
    path = classes / "meta" / "table.csv"
    path.write_text(
        f"file,label,split\n{classes}/dog/0.wav,a,train\n"
        "../dog/0.wav,b,train\n../dog/1.wav,a,valid\n../dog/2.wav,b,test\n"
    )
    write_task(tmp_path / "task", read_table(path), "task")
    task = HearTask(tmp_path / "task")
    assert task.clips["train"] == {"00000_0.wav": ["a", "b"]}
    assert list(task.clips["test"]) == ["00000_2.wav"]
    assert task.read_clip("test", "00000_2.wav").shape == (1600, 1)


def test_a_table_with_splits_and_tags(classes, tmp_path):
    path = write_table(
        classes,
        "file,label,split\ndog/0.wav,a,train\ndog/0.wav,b,train\n"
        "dog/1.wav,a,valid\ndog/2.wav,b,test\n",
    )
    counts = write_task(tmp_path / "tags", read_table(path), "tags")
    assert counts == {"train": 1, "valid": 1, "test": 1}
    task = HearTask(tmp_path / "tags")
    assert task.prediction_type == "multilabel"
    assert list(task.clips["train"].values()) == [["a", "b"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,tag\na.wav,x\n", "has no column 'label'"),
        ("file,label\n", "has a header and no row"),
        ("file,label,label\na.wav,x,y\n", "has two columns 'label'"),
        (
            "file,label,split\ndog/0.wav,a,train\ndog/0.wav,b,test\n",
            "into the splits 'train' and 'test'",
        ),
        (
            "file,label,split\ndog/0.wav,a,train\ndog/1.wav,b,\n",
            "Some files have a split and some have none",
        ),
        ("file,label\ndog/0.wav,a\ndog/1.wav,b\n", "without a clip"),
        (
            "file,label,split\nno.wav,a,train\ndog/1.wav,b,valid\n"
            "dog/2.wav,b,test\n",
            "no.wav is missing",
        ),
        ("file,label\n,a\n", "'' cannot be a name in"),
        ("file,label\ndog/..,a\n", "'..' cannot be a name in"),
        ("file,label\n/srv/a\\b.wav,a\n", "cannot be a name in"),
        ('file,label\n"/srv/a\nb.wav",a\n', "cannot be a name in"),
        (
            "file,label,split\ndog/0.wav,a,../../X\ndog/1.wav,b,valid\n",
            "'../../X' cannot be a name in",
        ),
        (
            "file,label,split\ndog/0.wav,a,/srv/X\ndog/1.wav,b,valid\n",
            "'/srv/X' cannot be a name in",
        ),
        (
            "file,label,split\ndog/0.wav,a,a/b\ndog/1.wav,b,valid\n",
            "cannot be called 'a/b'",
        ),
        (
            "file,label,split\ndog/0.wav,a,task_metadata\ndog/1.wav,b,x\n",
            "cannot be called 'task_metadata'",
        ),
        ("file,label,start,end\ndog/0.wav,a,1\n", "Row 1 of .* has ''"),
        ("file,label,start,end\ndog/0.wav,a,1,inf\n", "Row 1 of .* has 'inf'"),
        ("file,label,start\ndog/0.wav,a,1\n", "a column start only"),
        ("file,label\ndog/0.wav,a,b\n", "Row 1 of .* has 3 cells"),
        (b"file,label\n\xff.wav,a\n", "table.csv is not UTF-8 text"),
        (
            "file,label,split\nclasses.wav,a,train\ndog/1.wav,b,valid\n"
            "dog/2.wav,b,test\n",
            "classes.wav is no regular file",
        ),
        (
            "file,label,split\ndog/0.wav,a,train\ndog/copy.wav,b,valid\n"
            "dog/2.wav,b,test\n",
            "valid/00000_copy.wav is the same clip as train/00000_0.wav",
        ),
    ],
)
def test_tables_that_do_not_work(classes, tmp_path, text, message):
    os.mkfifo(classes / "classes.wav")
    shutil.copy(classes / "dog" / "0.wav", classes / "dog" / "copy.wav")
    path = write_table(classes, text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        write_task(tmp_path / "task", read_table(path), "task")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_task_of_the_same_sounds_is_kept_one_of_others_refused(
    classes, tmp_path
):
    output = tmp_path / "pets-v1-full"
    counts = write_task(output, read_class_folders(classes), "pets")
    time = (output / "task_metadata.json").stat().st_mtime_ns
    classes.rename(tmp_path / "moved")
    files = read_class_folders(tmp_path / "moved")
    assert write_task(output, files, "pets") == counts
    assert (output / "task_metadata.json").stat().st_mtime_ns == time
    with pytest.raises(ValueError, match="made with seed=0, not seed=1"):
        write_task(output, files, "pets", seed=1)
    soundfile.write(files[0].path, np.ones(4410), 44100)
    with pytest.raises(ValueError, match="made with sounds_and_labels="):
        write_task(output, files, "pets")
    assert (output / "task_metadata.json").stat().st_mtime_ns == time


def test_odd_labels_and_names_of_files(classes, tmp_path):
    """Whatever a class is called, the task that is written can be read."""
    (classes / "dog").rename(classes / '-rf, "{a}" [b]*')
    (classes / "rain").rename(classes / "Re\u2028gen")
    write_task(tmp_path / "task", read_class_folders(classes), "task")
    task = HearTask(tmp_path / "task")
    assert task.labels == ['-rf, "{a}" [b]*', "Re\u2028gen"]


@pytest.mark.parametrize("name", [b"a\nb.wav", b"a\\b.wav", b"\xff.wav"])
def test_names_that_cannot_be_written_are_refused(classes, name):
    os.rename(
        classes / "dog" / "0.wav", os.fsencode(classes / "dog") + b"/" + name
    )
    with pytest.raises(ValueError, match="cannot be a name|is not UTF-8"):
        read_class_folders(classes)


def test_one_class_is_none(tmp_path):
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="has 0 folders with sounds"):
        read_class_folders(tmp_path)


def test_metadata_is_complete(classes, tmp_path):
    write_task(tmp_path / "pets", read_class_folders(classes), "pets")
    text = (tmp_path / "pets" / "task_metadata.json").read_text()
    assert json.loads(text)["evaluation"][0] == "top1_acc"
