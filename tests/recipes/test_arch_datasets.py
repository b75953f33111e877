"""The readers of ARCH's data sets, on trees in their published layouts."""

import arch_factory
import numpy as np
import pytest
from arch_datasets import (
    AUDIO_MNIST_FOLDS,
    IRMAS_LABELS,
    MTT_TAGS,
    READERS,
    read_dataset,
)

from speechbrain_wavjepa.evaluation.arch_dataset import (
    fingerprint_dataset,
    fold_runs,
    split_off,
)

EXTRA = {"magna_tag_a_tune": [MTT_TAGS], "irmas": [IRMAS_LABELS]}


def make(folder, name):
    """Write a data set and read it."""
    getattr(arch_factory, f"write_{name}")(folder, *EXTRA.get(name, []))
    return read_dataset(name, folder)


def names(dataset, clips):
    return [dataset.paths[clip].name for clip in clips]


def labels_of(dataset, clip):
    return [dataset.labels[n] for n in np.flatnonzero(dataset.targets[clip])]


@pytest.mark.parametrize("name", READERS)
def test_splits_are_apart_and_clips_are_labelled(tmp_path, name):
    dataset = make(tmp_path, name)
    assert dataset.name == name
    assert dataset.targets.shape == (len(dataset.paths), len(dataset.labels))
    counts = dataset.targets.sum(axis=1)
    assert (counts > 0).all() if dataset.multilabel else (counts == 1).all()
    for run in dataset.runs:
        parts = [set(clips) for clips in run[1:]]
        assert all(parts)
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert set().union(*parts) <= set(range(len(dataset.paths)))
    if len(dataset.runs) > 1:
        tested = sorted(clip for run in dataset.runs for clip in run.test)
        assert tested == list(range(len(dataset.paths)))


@pytest.mark.parametrize("name", sorted(set(READERS) - {"magna_tag_a_tune"}))
def test_the_files_that_are_named_are_there(tmp_path, name):
    assert all(path.is_file() for path in make(tmp_path, name).paths)


@pytest.mark.parametrize("name", READERS)
def test_an_empty_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is missing|has no file|no file of"):
        read_dataset(name, tmp_path)


# Numbers of clips as in appendix C of the paper: ESC-50, IRMAS, RAVDESS.
@pytest.mark.parametrize(
    ("num_clips", "share", "kept"),
    [(1600, 0.2, 1280), (6705, 0.2, 5364), (1152, 0.2, 921)],
)
def test_sizes_of_random_splits(num_clips, share, kept):
    train, valid = split_off(range(num_clips), share)
    assert (len(train), len(valid)) == (kept, num_clips - kept)


def test_esc50_has_five_runs_in_the_paper_s_sizes():
    runs = fold_runs([str(fold) for fold in range(5) for _ in range(400)], 0.2)
    sizes = {(len(run.train), len(run.valid), len(run.test)) for run in runs}
    assert sizes == {(1280, 320, 400)} and len(runs) == 5


def test_us8k_pools_folds_as_they_appear(tmp_path):
    dataset = make(tmp_path, "us8k")
    assert [run.name for run in dataset.runs][:3] == ["5", "1", "2"]
    pool = [clip for clip in range(20) if clip not in dataset.runs[1].test]
    assert list(dataset.runs[1][1:3]) == split_off(pool, 0.2)


def test_fsd50k_has_the_labels_of_all_splits(tmp_path):
    dataset = make(tmp_path, "fsd50k")
    assert dataset.labels == ["Animal", "Bark", "Music"]
    (run,) = dataset.runs
    assert names(dataset, run.valid) == ["4.wav", "5.wav"]
    assert names(dataset, run.test) == ["10.wav", "11.wav"]
    assert labels_of(dataset, run.test[0]) == ["Animal", "Bark"]


def test_vivae_validates_on_the_next_speaker(tmp_path):
    dataset = make(tmp_path, "vivae")
    last = dataset.runs[10]
    assert (last.name, names(dataset, last.valid)[0][:3]) == ("S11", "S01")
    assert len(last.train) == 18 and dataset.labels == ["anger", "fear"]


def test_fma_tests_on_the_first_half_of_the_rest(tmp_path):
    dataset = make(tmp_path, "fma_small")
    assert dataset.paths[5].parts[-2:] == ("010", "010250.mp3")
    assert dataset.labels == ["Folk", "Jazz", "Rock"]
    train, rest = split_off(range(8), 0.2)
    test, valid = split_off(rest, 0.5)
    assert dataset.runs[0][1:] == (train, valid, test)
    assert dataset.notes[0] == "8 of the table's 9 small clips are there."
    assert dataset.notes[1] == "8 clips; the whole data set has 8000."


def test_magna_tag_a_tune_leaves_out_clips_without_a_tag(tmp_path):
    dataset = make(tmp_path, "magna_tag_a_tune")
    assert len(dataset.labels) == 50 and len(dataset.paths) == 5
    assert dataset.runs[0][1:] == ([0, 1, 2], [3], [4])
    assert labels_of(dataset, 4) == ["strings", "drums"]


@pytest.mark.parametrize("inner", ["Part2", "IRTestingData-Part2"])
def test_irmas_finds_both_names_of_part_2(tmp_path, inner):
    arch_factory.write_irmas(tmp_path, IRMAS_LABELS, ("Part1", inner, "Part3"))
    whole = read_dataset("irmas", tmp_path, parts=[1, 2, 3])
    assert len(whole.runs[0].test) == 6
    assert labels_of(whole, whole.runs[0].test[0]) == ["gel", "voi"]
    usual = read_dataset("irmas", tmp_path)
    assert usual.notes[0] == "Tested on 4 clips of part(s) 1, 3."
    for parts in (2, [4], []):
        with pytest.raises(ValueError, match="are 1 to 3, got irmas_parts="):
            read_dataset("irmas", tmp_path, parts=parts)


def test_medley_solos_db_finds_files_by_their_uuid(tmp_path):
    dataset = make(tmp_path, "medleydb")
    assert dataset.runs[0][1:] == ([0, 1], [2, 3], [4, 5])
    dataset.paths[3].unlink()
    with pytest.raises(ValueError, match="has no file of 0000.*-000000000004"):
        read_dataset("medleydb", tmp_path)


def test_ravdess_reads_the_third_field(tmp_path):
    dataset = make(tmp_path, "ravdess")
    assert labels_of(dataset, 4) == ["angry"]
    assert [len(clips) for clips in dataset.runs[0][1:]] == [9, 3, 4]


def test_ravdess_refuses_a_recording_that_is_there_twice(tmp_path):
    make(tmp_path, "ravdess")
    name = "03-01-01-01-01-01-01.wav"
    arch_factory.write_clip(tmp_path / "copy" / name)
    with pytest.raises(ValueError, match="are the same recording"):
        read_dataset("ravdess", tmp_path)
    song = name.replace("03-01", "03-02")
    (tmp_path / "copy" / name).rename(tmp_path / "copy" / song)
    with pytest.raises(ValueError, match="01.wav is not of RAVDESS's speech"):
        read_dataset("ravdess", tmp_path)


def test_audio_mnist_folds_are_of_sixty_speakers(tmp_path):
    speakers = sorted(speaker for fold in AUDIO_MNIST_FOLDS for speaker in fold)
    assert speakers == list(range(1, 61))
    dataset = make(tmp_path, "audio_mnist")
    assert names(dataset, dataset.runs[4].test) == ["0_43_0.wav", "7_43_0.wav"]
    assert names(dataset, dataset.runs[4].valid)[0] == "0_12_0.wav"


def test_slurp_takes_every_recording(tmp_path):
    dataset = make(tmp_path, "slurp")
    assert dataset.labels == ["alarm_set", "play_music"]
    assert [len(clips) for clips in dataset.runs[0][1:]] == [4, 4, 4]
    assert dataset.paths[4].name == "devel-0-0.flac"


def test_emovo_reads_the_first_field(tmp_path):
    dataset = make(tmp_path, "emovo")
    assert labels_of(dataset, 1) == ["tri"]
    assert [run.name for run in dataset.runs][-1] == "m3"
    assert len(dataset.runs[0].valid) == 1
    (tmp_path / "EMOVO").rename(tmp_path / "flat")
    assert read_dataset("emovo", tmp_path / "flat").labels == dataset.labels
    (tmp_path / "flat").rename(tmp_path / "EMOVO")
    arch_factory.write_clip(tmp_path / "EMOVO" / "f1" / "joy-f1-b1.wav")
    with pytest.raises(ValueError, match="The label 'joy' is none of"):
        read_dataset("emovo", tmp_path)


def test_an_unknown_name_and_a_missing_column_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no data set 'esc10'"):
        read_dataset("esc10", tmp_path)
    arch_factory.write_text(tmp_path / "meta" / "esc50.csv", ["filename,fold"])
    with pytest.raises(ValueError, match="has no column 'target'"):
        read_dataset("esc50", tmp_path)


@pytest.mark.parametrize("name", ["audio_mnist", "emovo", "ravdess", "vivae"])
def test_what_macos_leaves_beside_files_is_no_clip(tmp_path, name):
    paths = make(tmp_path, name).paths
    paths[0].with_name(f"._{paths[0].name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / paths[1].name).write_bytes(b"\0\5\x16\7")
    assert read_dataset(name, tmp_path).paths == paths


def test_medley_solos_db_as_its_archive_unpacks(tmp_path):
    dataset = make(tmp_path, "medleydb")
    for path in dataset.paths:
        path.rename(tmp_path / path.name)
    (tmp_path / "audio").rmdir()
    assert read_dataset("medleydb", tmp_path).paths[0].parent == tmp_path


ESC = "esc50/meta/esc50.csv"
ROW = "filename,fold,target,category\n"
FOLDS = "".join(f"{n}.wav,{n},0,b\n" for n in range(101))
US8K = "us8k/metadata/UrbanSound8K.csv"
CITY = "slice_file_name,fold,classID,class\n"
FSD = "fsd50k/FSD50K.ground_truth/eval.csv"
LABELS = ",".join(map(str, range(1001)))
DEVEL = "slurp/devel.jsonl"
DEEP = '{"intent": ' + "[" * 100_000
CLIMBS = '{"intent": "a", "recordings": [{"file": "../../a.flac"}]}'


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (ESC, ROW, "no row"),
        (ESC, f"{ROW}a.wav,1\n", "Row 1 of .*esc50.csv is cut off"),
        (ESC, f"{ROW}a.wav,1,x,b\n", "esc50 in .* is not as .*: ValueError"),
        (ESC, f"{ROW}../../a.wav,1,0,b\n", "cannot be a name"),
        (ESC, f"{ROW}/etc/passwd,1,0,b\n", "cannot be a name"),
        (ESC, f"{ROW}a.wav,1,-1,b\n", "the class -1;"),
        (ESC, f"{ROW}a.wav,1,{10**9},b\n", "the class 10"),
        (ESC, ROW + FOLDS, "have 101 folds, over 100"),
        (ESC, b"\xff\n", "esc50.csv is not UTF-8 text"),
        (US8K, f"{CITY}a.wav,1/../../..,0,b\n", "cannot be a name"),
        (FSD, "fname,labels\n/etc/passwd,b\n", "cannot be a name"),
        (FSD, f'fname,labels\na,"{LABELS}"\n', "labels, over 1000"),
        ("fma_small/fma_metadata/tracks.csv", "", "tracks.csv has no column"),
        (DEVEL, '{"intent": "a"}\n', "KeyError: 'recordings'"),
        (DEVEL, "{\n", "devel.jsonl cannot be read as json"),
        (DEVEL, DEEP, "cannot be read as json: Recursion"),
        (DEVEL, CLIMBS, "cannot be a name"),
        ("audio_mnist/data/12/0_12_b.wav", "", "is no digit of one of the"),
        ("audio_mnist/data/61/0_61_0.wav", "", "is no digit of one of the"),
    ],
)
def test_what_a_stranger_s_tables_may_hold(tmp_path, path, text, message):
    name = path.split("/")[0]
    make(tmp_path / name, name)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / path).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_dataset(name, tmp_path / name)


def test_magna_tag_a_tune_s_paths_stay_inside(tmp_path):
    make(tmp_path, "magna_tag_a_tune")
    path = tmp_path / "annotations_final.csv"
    path.write_text(path.read_text().replace("f/clip-0", "../clip-0"))
    with pytest.raises(ValueError, match="'../clip-0.mp3' cannot be a name"):
        read_dataset("magna_tag_a_tune", tmp_path)


def test_a_fingerprint_knows_labels_and_clips_by_their_content(tmp_path):
    first = fingerprint_dataset(make(tmp_path / "a", "esc50"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = read_dataset("esc50", tmp_path / "b")
    assert fingerprint_dataset(moved) == first
    moved.targets[0] = moved.targets[1]
    relabelled = fingerprint_dataset(moved)
    assert relabelled["labels"] != first["labels"]
    assert relabelled["clips"] == first["clips"]
    arch_factory.write_clip(moved.paths[0], 5, 44100)
    assert fingerprint_dataset(moved)["clips"] != first["clips"]
