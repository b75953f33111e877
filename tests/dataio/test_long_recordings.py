"""Recordings longer than a clip: another part in each pass."""

import pytest
from shard_factory import make_clip, write_tar

from speechbrain_wavjepa.dataio import ClipStream
from speechbrain_wavjepa.dataio.shards import Segment

PARTS = 4


def write_recordings(folder, kind):
    """Write five recordings of four clips' length."""
    clips = [
        (f"{number}.flac", make_clip(number, seconds=PARTS * 0.1))
        for number in range(5)
    ]
    if kind == "tar":
        write_tar(folder / "0.tar", clips)
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet")
        rows = [{"audio": {"bytes": data, "path": n}} for n, data in clips]
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / "0.parquet")
    else:
        for name, data in clips:
            (folder / name).write_bytes(data)
    return str(folder)


def make_stream(folder, **options):
    return ClipStream(folder, clip_seconds=0.1, shuffle_buffer=2, **options)


@pytest.mark.parametrize("kind", ["files", "tar", "parquet"])
def test_passes_take_all_parts_and_begin_again(tmp_path, kind):
    folder = write_recordings(tmp_path, kind)
    parts = {}
    for clip in make_stream(folder, passes=2 * PARTS):
        parts.setdefault(clip.key, []).append(clip.waveform)
    assert len(parts) == 5
    for found in parts.values():
        for number, part in enumerate(found[:PARTS]):
            assert part.shape == (1600, 1)
            assert part.equal(found[PARTS + number])
            assert not any(part.equal(other) for other in found[:number])


@pytest.mark.parametrize("kind", ["files", "tar"])
@pytest.mark.parametrize("used", [1, 4, 5, 7, 12])
def test_resume_takes_the_same_parts(tmp_path, kind, used):
    folder = write_recordings(tmp_path, kind)
    clips = list(make_stream(folder, passes=4))
    fresh = make_stream(folder, passes=4)
    fresh.advance(clips[used - 1].position)
    rest = list(fresh)
    assert len(rest) == 20 - used
    for clip, other in zip(clips[used:], rest, strict=True):
        assert (clip.key, clip.position) == (other.key, other.position)
        assert clip.waveform.equal(other.waveform)


def test_parts_depend_on_name_and_seed_not_on_the_place(tmp_path):
    folder = write_recordings(tmp_path, "files")
    first = [clip.waveform for clip in make_stream(folder, passes=1)]
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in tmp_path.glob("*.flac"):
        path.rename(moved / path.name)
    again = [clip.waveform for clip in make_stream(str(moved), passes=1)]
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    plain = {"shuffle": False, "passes": 1}
    kept = [clip.waveform for clip in make_stream(str(moved), **plain)]
    other = [clip.waveform for clip in make_stream(str(moved), seed=1, **plain)]
    assert not all(a.equal(b) for a, b in zip(kept, other, strict=True))


def test_validation_takes_a_fixed_part(tmp_path):
    folder = write_recordings(tmp_path, "files")
    stream = make_stream(folder, passes=1, shuffle=False)
    first, second = list(stream), list(stream)
    for clip, other in zip(first, second, strict=True):
        assert clip.waveform.equal(other.waveform)


def test_segments_are_clips_of_their_own(tmp_path):
    folder = write_recordings(tmp_path, "files")
    path = f"{folder}/0.flac"
    shards = [Segment(path, 0, 1600), Segment(path, 1600, 3200)]
    whole = ClipStream([path], passes=1, clip_seconds=0.4)
    (whole,) = [clip.waveform[:, 0] for clip in whole]
    clips = list(ClipStream(shards, passes=1, clip_seconds=0.4, shuffle=False))
    assert [clip.key for clip in clips] == [
        f"{path}[0:1600]::0.flac",
        f"{path}[1600:3200]::0.flac",
    ]
    for clip, expected in zip(clips, whole.split(1600)[:2], strict=True):
        ratio = clip.waveform[:, 0] / expected
        assert ratio.std() < 1e-3 * ratio.mean()  # but for the level
    identity = ClipStream(shards).identity
    assert identity != ClipStream([path, Segment(path, 0, 1600)]).identity


def test_another_length_of_clips_is_another_stream(tmp_path):
    """Since the parts would be others after a resume."""
    folder = write_recordings(tmp_path, "files")
    identity = make_stream(folder).identity
    assert identity["clip_samples"] == 1600
    assert ClipStream(folder, clip_seconds=0.2).identity != identity
