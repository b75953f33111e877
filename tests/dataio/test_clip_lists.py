"""SpeechBrain's manifests mean what they mean in SpeechBrain."""

import json
import os

import numpy as np
import pytest
import soundfile
from speechbrain.dataio.dataio import (
    load_data_csv,
    load_data_json,
    read_audio,
)

from speechbrain_wavjepa.dataio import expand_shards
from speechbrain_wavjepa.dataio.clips import read_waveform
from speechbrain_wavjepa.dataio.shards import Segment, read_clip_list

RANGES = [(0, 800), (100, 300), (400, 400), (0, 9999)]


@pytest.fixture
def recording(tmp_path):
    """A file of 1000 samples in a folder of its own."""
    (tmp_path / "data").mkdir()
    samples = np.random.default_rng(0).integers(-9999, 9999, 1000)
    path = tmp_path / "data" / "a.wav"
    soundfile.write(path, samples.astype(np.int16), 8000)
    return str(tmp_path / "data")


def read_segment(shard):
    waveform, _ = read_waveform(shard.path, 10.0, 0.0, *shard[1:])
    return waveform[:, 0]


def test_csv_as_speechbrain_reads_it(tmp_path, recording):
    path = tmp_path / "train.csv"
    rows = [f"{n},$data_root/a.wav,{a},{b}" for n, (a, b) in enumerate(RANGES)]
    path.write_text("\n".join(["ID,wav,start,stop", *rows]))
    found = read_clip_list(path, recording)
    expected = load_data_csv(path, {"data_root": recording}).values()
    for shard, row in zip(found, expected, strict=True):
        start, stop = int(row["start"]), int(row["stop"])
        spec = {"file": row["wav"], "start": start, "stop": stop}
        assert read_segment(shard).equal(read_audio(spec))


def test_json_as_speechbrain_reads_it(tmp_path, recording):
    path = tmp_path / "train.json"
    content = {
        str(number): {
            "wav": {"file": "{data_root}/a.wav", "start": start, "stop": stop}
        }
        for number, (start, stop) in enumerate(RANGES)
    }
    path.write_text(json.dumps(content))
    found = expand_shards(str(path), recording)
    expected = load_data_json(path, {"data_root": recording}).values()
    for shard, row in zip(found, expected, strict=True):
        assert read_segment(shard).equal(read_audio(row["wav"]))


def test_what_is_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "ID,wav,start,stop\n0,a.wav,,\n1,b.wav,8,\n2,c.wav,,16\n"
        "3,$data_root/d.wav,0.0,1e3\n4,https://example.org/e.wav,,\n"
    )
    assert read_clip_list(path) == [
        f"{tmp_path}/a.wav",
        Segment(f"{tmp_path}/b.wav", 8),
        Segment(f"{tmp_path}/c.wav", 0, 16),
        Segment(f"{tmp_path}/d.wav", 0, 1000),
        "https://example.org/e.wav",
    ]
    path = tmp_path / "a.json"
    path.write_text('{"0": {"wav": "{data_root}/a.wav", "length": 1.0}}')
    assert read_clip_list(path, "/data") == ["/data/a.wav"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "ID,wav\n0,$root/a.wav", r"line 2: .*, \$root has none"),
        ("a.csv", "ID,wav,start\n0,a.wav,0.5", "start='0.5' is no number of"),
        ("a.csv", "ID,wav,start\n0,a.wav,-1", "start='-1' is no number of"),
        ("a.csv", "ID,wav,stop\n0,a.wav,inf", "stop='inf' is no number of"),
        ("a.csv", "ID,wav,start,stop\n0,a.wav,9,8", "stop=8 lies before start"),
        (
            "a.csv",
            "ID,duration,wav,start,stop\n0,5,a.wav,10,15",
            "5 samples cannot last 5 s. Give start and stop in samples",
        ),
        ("a.csv", "ID,wav\n0," + "a" * 200_000, "field larger than"),
        ("a.csv", b"ID,wav\n0,\xff.wav", "is not UTF-8 text: .*utf-8"),
        ("a.csv", "ID,wav\n0,a.csv", "a.csv is of no kind that can be read"),
        ("a.csv", "ID,wav\n0,pipe:ls", "other schemes are refused"),
        ("a.csv", "", "lists 0 clips"),
        ("a.json", "[1]", "no path in 'wav'"),
        ("a.json", '{"0": {"files": ["a.wav"]}}', "'0': no path in 'wav'"),
        (
            "a.json",
            '{"0": {"wav": {"start": 1}}}',
            "'0': no path in 'wav'",
        ),
        ("a.json", '{"0": {"wav": "{root}/a.wav"}}', "{root} has none"),
        ("a.json", "[" * 100_000, "cannot be read as json: Recursion"),
        ("a.json", "no json", "cannot be read as json: .*Expecting"),
        ("a.json", "{}", "lists 0 clips"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_manifests_that_cannot_be_used(tmp_path, name, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        expand_shards(str(tmp_path / name))


def test_pipe_and_huge_file_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="pipe.csv is no regular file"):
        expand_shards(str(tmp_path / "pipe.csv"))
    with pytest.raises(ValueError, match="huge.json has 1099511627776 bytes"):
        expand_shards(str(tmp_path / "huge.json"))
