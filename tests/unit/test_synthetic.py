"""The synthetic corpus is what it says."""

import tarfile

import pytest
import torch

from speechbrain_wavjepa.shards import ClipStream
from speechbrain_wavjepa.synthetic import CLASSES, SyntheticCorpus


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
    with pytest.raises(ValueError, match="synthetic_folder"):
        other.write_shards(tmp_path)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="no manifest"):
        SyntheticCorpus(3).write_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.wav"]


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="num_clips=0"):
        SyntheticCorpus(0)
