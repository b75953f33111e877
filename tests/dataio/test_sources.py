"""Which shards does a setting name?"""

import sys

import fsspec
import huggingface_hub
import pytest
from shard_factory import make_clip, write_shards

from speechbrain_wavjepa.dataio import ClipStream, expand_shards, shards
from speechbrain_wavjepa.dataio.shards import name_shards, open_url


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def relative(shards, folder):
    return [shard.removeprefix(f"{folder}/") for shard in shards]


def test_brace_ranges_keep_their_zeros_and_multiply():
    found = expand_shards("https://example.org/{0..1}/s-{008..010}.tar")
    assert found == [
        f"https://example.org/{part}/s-{number}.tar"
        for part in (0, 1)
        for number in ("008", "009", "010")
    ]


def test_brace_range_that_counts_down():
    with pytest.raises(ValueError, match=r"\{9\.\.3\}.*counts down"):
        expand_shards("s-{9..3}.tar")


def test_missing_shards_of_a_range_are_counted_and_named(tmp_path):
    touch(tmp_path, "s-0.tar", "s-2.tar")
    with pytest.raises(ValueError, match=r"2 of 4 files.*s-1\.tar"):
        expand_shards(f"{tmp_path}/s-{{0..3}}.tar")


def test_glob_is_sorted_and_must_match(tmp_path):
    touch(tmp_path, "b.tar", "a.tar", "c.txt")
    found = expand_shards(f"{tmp_path}/*.tar")
    assert relative(found, tmp_path) == ["a.tar", "b.tar"]
    with pytest.raises(ValueError, match="No file matches .*parquet"):
        expand_shards(f"{tmp_path}/*.parquet")


def test_folder_prefers_tar_then_parquet_then_clips(tmp_path):
    clips = ["deep/er/1.WAV", "deep/0.flac", "2.mp3"]
    touch(tmp_path, *clips, "notes.txt", "deep/._0.flac", "deep/0.pkl")
    found = relative(expand_shards(str(tmp_path)), tmp_path)
    assert sorted(found) == sorted(clips)
    touch(tmp_path, "0.parquet")
    assert relative(expand_shards(str(tmp_path)), tmp_path) == ["0.parquet"]
    touch(tmp_path, "1.tar", "0.tar")
    assert relative(expand_shards(str(tmp_path)), tmp_path) == [
        "0.tar",
        "1.tar",
    ]


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path, "clips/0.wav", "clips/deep/1.wav", "else/2.wav")
    (tmp_path / "clips" / "deep" / "up").symlink_to(tmp_path / "clips")
    (tmp_path / "clips" / "other").symlink_to(tmp_path / "else")
    (tmp_path / "clips" / "self.wav").symlink_to(tmp_path / "clips/self.wav")
    (tmp_path / "clips" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    found = relative(expand_shards(str(tmp_path / "clips")), tmp_path / "clips")
    assert found == [
        "0.wav",
        "deep/1.wav",
        "gone.wav",  # told when it is read
        "other/2.wav",
        "self.wav",
    ]


ODD_NAMES = ["a\nb.wav", "a*b[c].wav", "{0..3}.wav", "-a.wav", "a\udcffb.wav"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_are_read(tmp_path, name, caplog):
    folder = tmp_path / "{1..2}[x]*"
    folder.mkdir()
    (folder / name).write_bytes(make_clip(0, format="WAV"))
    bad = folder / f"bad{name}"
    bad.write_bytes(b"text")
    for spec in (str(folder), [str(folder / name), str(bad)]):
        assert sorted(expand_shards(spec)) == sorted(
            [str(folder / name), str(bad)]
        )
        stream = ClipStream(expand_shards(spec), passes=1, max_bad_fraction=0.5)
        (clip,) = stream
        assert "\n" not in clip.key
        clip.key.encode()
        (record,) = caplog.records
        record.getMessage().encode()
        caplog.clear()


def test_names_survive_a_move(tmp_path):
    touch(tmp_path, "a/deep/0.wav", "a/1.wav", "b.tar")
    (tmp_path / "c.csv").write_text("ID,wav\n0,a/1.wav\n")

    def names(folder):
        specs = ["a", "*.tar", "c.csv", "a/1.wav"]
        found = []
        for spec in specs:
            found += [name for _, name in name_shards(f"{folder}/{spec}")]
        return found

    found = names(tmp_path)
    assert found == ["1.wav", "deep/0.wav", "b.tar", "a/1.wav", "1.wav"]
    (tmp_path / "moved").mkdir()
    for name in ("a", "b.tar", "c.csv"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert names(tmp_path / "moved") == found
    assert name_shards("https://x.org/y/0.tar?a=b")[0][1] == "0.tar?a=b"


def test_folder_without_clips(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match="holds no .tar, no .parquet"):
        expand_shards(str(tmp_path))


def test_csv_manifest(tmp_path):
    touch(tmp_path, "a.wav", "sub/b.flac")
    path = tmp_path / "train.csv"
    path.write_text(
        "ID, duration, wav, spk_id\n"
        f"a, 1.0, {tmp_path}/a.wav, x\n"
        "b, 2.0, sub/b.flac, y\n"
    )
    found = relative(expand_shards(str(path)), tmp_path)
    assert found == ["a.wav", "sub/b.flac"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("ID,path\na,b.wav\n", "line 2: no path in 'wav'"),
        ("ID,duration,wav\n", "lists 0 clips"),
        (
            "ID,duration,wav\na,1.0,a.wav\nb,1.0\n",
            "line 3: no path in 'wav'",
        ),
        ("ID,wav\na,a.wav\nb,a.wav\n", "named twice"),
        ("ID,wav\na,a.txt\n", "of no kind that can be read"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "train.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        expand_shards(str(path))


@pytest.mark.parametrize(
    "path", ["pipe:cat s.tar", "ftp://host/s.tar", "s3::zip://s", "file:///s"]
)
def test_commands_and_other_schemes_are_refused(path):
    for function in (expand_shards, open_url):
        with pytest.raises(ValueError, match="other schemes are refused"):
            function(path)
    with pytest.raises(ValueError, match="other schemes are refused"):
        expand_shards(["https://example.org/s.tar", path])


def test_same_shard_twice(tmp_path):
    touch(tmp_path, "0.tar", "1.tar")
    (tmp_path / "link").symlink_to(tmp_path)
    for other in ("0.tar", "./0.tar", "link/0.tar"):
        with pytest.raises(ValueError, match=r"0\.tar is named twice"):
            expand_shards([f"{tmp_path}/*.tar", f"{tmp_path}/{other}"])


def test_empty_list_and_compressed_tar(tmp_path):
    with pytest.raises(ValueError, match="list of shards is empty"):
        expand_shards([])
    touch(tmp_path, "0.tar.gz")
    with pytest.raises(ValueError, match="unpack compressed tars"):
        expand_shards(f"{tmp_path}/0.tar.gz")


def test_urls_of_hubs_and_stores(monkeypatch):
    """Any that fsspec opens; its own store in memory stands in for them."""
    monkeypatch.setattr(shards, "STORES", ("hf", "memory"))
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/clips/{n}.tar": b"x%d" % n for n in (1, 0)})
    found = expand_shards("memory:///clips/*.tar")
    assert found == [f"memory:///clips/{n}.tar" for n in (0, 1)]
    assert expand_shards("memory:///clips/{0..1}.tar") == found
    with pytest.raises(ValueError, match="No file matches"):
        expand_shards("memory:///clips/*.parquet")
    assert [name for _, name in name_shards(found)] == ["0.tar", "1.tar"]
    with open_url(found[1]) as file:
        assert file.read() == b"x1"
    hub = shards.open_store("hf://datasets/someone/clips/0.tar")
    assert isinstance(hub, huggingface_hub.HfFileSystem)


def test_a_store_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match="s3://b/0.tar: .*s3fs"):
        open_url("s3://b/0.tar")


def test_a_shard_in_a_store_is_read_and_passed_over(monkeypatch, tmp_path):
    monkeypatch.setattr(shards, "STORES", ("memory",))
    names = write_shards(tmp_path, [4])
    data = (tmp_path / "shard-000000.tar").read_bytes()
    fsspec.filesystem("memory").pipe("/clips/0.tar", data)
    stream = ClipStream("memory:///clips/0.tar", passes=1, shuffle=False)
    assert [clip.key.split("::")[1] for clip in stream] == names


def test_segments_of_packed_shards_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("ID,wav,start\n0,a.tar,8\n")
    with pytest.raises(ValueError, match=r"a.tar\[8:\] is of no kind"):
        expand_shards(str(tmp_path / "a.csv"))
