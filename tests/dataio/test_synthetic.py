"""The synthetic corpus is what it says."""

import json
import tarfile

import numpy as np
import pytest
import torch
import torchaudio
from other_processes import hold_elsewhere

from speechbrain_wavjepa.dataio import ClipStream, SyntheticCorpus
from speechbrain_wavjepa.dataio.synthetic import CLASSES, SOUNDS, _Maker

SUFFIXES = ("flac", "json")


def test_a_clip_depends_on_seed_and_index_only():
    few, many = SyntheticCorpus(20, seed=3), SyntheticCorpus(500, seed=3)
    other = SyntheticCorpus(20, seed=4)
    for index in (0, 7, 19):
        assert torch.equal(few[index][0], many[index][0])
        assert not torch.equal(few[index][0], other[index][0])


def test_clips_are_sound():
    waveform, labels = SyntheticCorpus(4 * len(CLASSES), seed=1).load()
    assert len(CLASSES) >= 10
    assert waveform.shape == (4 * len(CLASSES), 32160, 1)
    assert torch.isfinite(waveform).all()
    peak = waveform.abs().amax(dim=(1, 2))
    assert peak.max() <= 1.0 and peak.min() > 0.05
    assert torch.bincount(labels).tolist() == [4] * len(CLASSES)


@pytest.mark.parametrize(
    "name, rises", [("rising sweep", True), ("falling sweep", False)]
)
def test_sweeps_go_where_their_name_says(name, rises):
    corpus = SyntheticCorpus(30 * len(CLASSES), seed=5)
    right = 0
    for index in range(CLASSES.index(name), len(corpus), len(CLASSES)):
        spectrum = torch.stft(
            corpus[index][0],
            1024,
            window=torch.hann_window(1024),
            return_complex=True,
        ).abs()
        track = spectrum.argmax(dim=0).float()  # strongest bin over time
        steps = track.diff()
        small = steps[(steps.abs() > 0) & (steps.abs() < 6)]
        right += (small.sum() > 0).item() == rises
    assert right >= 25  # of 30, since noise can hide a sweep


def test_shards_are_read_by_the_stream(tmp_path):
    corpus = SyntheticCorpus(12, clip_seconds=1.0, seed=2)
    corpus.write_shards(tmp_path, clips_per_shard=5)
    assert len(list(tmp_path.glob("shard-*.tar"))) == 3
    clips = list(
        ClipStream(str(tmp_path), passes=1, shuffle=False, clip_seconds=1.0)
    )
    assert len(clips) == 12
    original = corpus[0][0]
    read = clips[0].waveform[:, 0]
    similarity = torch.nn.functional.cosine_similarity(read, original, dim=0)
    assert similarity > 0.9999


def test_whole_shards_are_kept_and_missing_ones_made(tmp_path):
    corpus = SyntheticCorpus(12, clip_seconds=1.0, seed=2)
    corpus.write_shards(tmp_path, clips_per_shard=5)
    shards = sorted(tmp_path.glob("shard-*.tar"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in shards]
    shards[1].unlink()
    corpus.write_shards(tmp_path, clips_per_shard=5)
    after = [(path.stat().st_mtime_ns, path.read_bytes()) for path in shards]
    assert before[0] == after[0] and before[2] == after[2]
    with tarfile.open(shards[1]) as shard:
        assert len(shard.getnames()) == 10


def test_another_corpus_in_the_folder_is_refused(tmp_path):
    SyntheticCorpus(3, clip_seconds=1.0, seed=2).write_shards(tmp_path)
    other = SyntheticCorpus(3, clip_seconds=1.0, seed=9)
    with pytest.raises(ValueError, match="made with seed=2, not seed=9"):
        other.write_shards(tmp_path)


def test_a_corpus_in_the_making_is_refused_and_a_whole_one_is_read(tmp_path):
    corpus = SyntheticCorpus(3, clip_seconds=1.0, seed=2)
    with hold_elsewhere(tmp_path):
        with pytest.raises(ValueError, match="in use by process"):
            corpus.write_shards(tmp_path)
    corpus.write_shards(tmp_path)
    with hold_elsewhere(tmp_path):
        corpus.write_shards(tmp_path)  # nothing to write: many runs may begin


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="something else.*holiday.wav"):
        SyntheticCorpus(3).write_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.wav"]


@pytest.mark.parametrize(
    "name, value",
    [("num_clips", 0), ("clip_seconds", 0.5), ("sample_rate", 0)],
)
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        SyntheticCorpus(**{"num_clips": 3, name: value})


def test_shards_without_clips_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got 0"):
        SyntheticCorpus(3).write_shards(tmp_path / "new", clips_per_shard=0)
    assert not (tmp_path / "new").exists()


def test_an_unfinished_shard_is_made_again(tmp_path):
    corpus = SyntheticCorpus(4, clip_seconds=1.0, seed=2)
    corpus.write_shards(tmp_path, clips_per_shard=2)
    whole = (tmp_path / "shard-000001.tar").read_bytes()
    (tmp_path / "shard-000001.tar").unlink()
    aside = tmp_path / ".shard-000001.tar.unfinished"
    aside.write_bytes(whole[:1000])  # as a kill leaves it
    corpus.write_shards(tmp_path, clips_per_shard=2)
    with tarfile.open(tmp_path / "shard-000001.tar") as shard:
        names = shard.getnames()
        labels = [json.load(shard.extractfile(name)) for name in names[1::2]]
    assert names == [f"00000{n}.{end}" for n in (2, 3) for end in SUFFIXES]
    assert labels == [{"label": CLASSES[2]}, {"label": CLASSES[3]}]
    assert not aside.exists()


def describe(waveform):
    """Give the mean log-mel spectrum, its std and that of its steps."""
    mel = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, hop_length=160, n_mels=64
    )
    spectrum = (mel(waveform[..., 0]) + 1e-6).log()
    mean = spectrum.mean(dim=-1)
    stds = spectrum.std(dim=-1), spectrum.diff(dim=-1).std(dim=-1)
    return mean, torch.cat([mean, *stds], dim=1)


def score_centroids(features, labels, test_features, test_labels):
    """Give each class the mean of its features; count the nearest ones."""
    mean, std = features.mean(dim=0), features.std(dim=0)
    features, test_features = (
        (part - mean) / std for part in (features, test_features)
    )
    centroids = torch.stack(
        [features[labels == label].mean(dim=0) for label in labels.unique()]
    )
    nearest = torch.cdist(test_features, centroids).argmin(dim=1)
    return (nearest == test_labels).double().mean().item()


def test_classes_differ_and_more_in_time_than_on_average():
    waveform, labels = SyntheticCorpus(30 * len(CLASSES), seed=1).load()
    test_waveform, test_labels = SyntheticCorpus(
        20 * len(CLASSES), seed=2
    ).load()
    averaged, in_time = (
        score_centroids(*parts, test_labels)
        for parts in zip(
            describe(waveform), [labels] * 2, describe(test_waveform)
        )
    )
    chance = 1 / len(CLASSES)
    assert 2 * chance < averaged < in_time - 0.05
    assert in_time > 4 * chance


def test_gusts_and_tremolo_move_the_level_of_the_sound():
    def level_range(name):
        """How much the 40 ms levels of a class spread, in dB."""
        random = np.random.default_rng(0)
        spreads = []
        for _ in range(20):
            wave = SOUNDS[name](_Maker(random, 32000, 16000))
            level = np.log10(np.mean(wave.reshape(50, 640) ** 2, axis=1))
            spreads.append(10 * np.std(level))
        return np.median(spreads)

    assert level_range("gusty noise") > 2 * level_range("steady noise")
    assert level_range("tremolo tone") > 2 * level_range("steady tone")


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_makes_sound_that_varies(name):
    sounds = [
        SOUNDS[name](_Maker(np.random.default_rng(seed), 20000, 16000))
        for seed in (0, 0, 1)
    ]
    for sound in sounds:
        assert sound.shape == (20000,) and np.isfinite(sound).all()
        # noticeable in a tenth of the time at least
        blocks = np.abs(sound).reshape(100, 200).max(axis=1)
        assert np.mean(blocks > 0.1 * blocks.max()) > 0.1
    assert np.array_equal(sounds[0], sounds[1])
    assert not np.allclose(sounds[0], sounds[2])
