"""Banks of room responses, good ones, bad ones and a stranger's."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.augment import (
    BRIRBank,
    NoiseFolder,
    SceneSampler,
    brir,
)
from speechbrain_wavjepa.augment.brir import (
    decode_array,
    decode_json,
    encode_responses,
    index_tar,
    read_file,
    read_member,
)
from speechbrain_wavjepa.dataio.writer import write_shard

ABOUT = {"sample_rate": 16000, "receivers": ["left", "right"]}


def write_bank(folder, scenes, split="train"):
    """Write one shard of (responses, about) pairs."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    write_shard(
        folder / split / "scenes-000000.tar",
        [
            (f"{index:06d}", encode_responses(responses), about)
            for index, (responses, about) in enumerate(scenes)
        ],
        ".npy",
    )


def test_scenes_come_back_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    scenes = [
        (random.standard_normal((2 + index, 2, 300)), {**ABOUT, "t60": index})
        for index in range(3)
    ]
    write_bank(tmp_path, scenes)
    write_bank(tmp_path, scenes[:1], "test")
    bank = BRIRBank(tmp_path)
    assert len(bank) == 3 and len(BRIRBank(tmp_path, split="test")) == 1
    for index in (2, 0, 1):  # in any order
        expected, about = scenes[index]
        scene = bank[index]
        assert scene.metadata == about
        assert np.array_equal(scene.responses, expected.astype(np.float32))


def test_receivers_are_picked_by_name(tmp_path):
    responses = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    about = {**ABOUT, "receivers": ["left", "right", "omni"]}
    write_bank(tmp_path, [(responses, about)])
    omni = BRIRBank(tmp_path, receivers=["omni"])[0].responses
    assert np.array_equal(omni, responses[:, 2:])
    ears = BRIRBank(tmp_path)[0].responses
    assert np.array_equal(ears, responses[:, :2])


def test_a_bank_at_another_rate_is_refused_at_once(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), {"sample_rate": 32000})])
    way_out = f"--from_bank {tmp_path} --output"  # both of its parts
    with pytest.raises(ValueError, match=f"32000 Hz.*needs 16000.*{way_out}"):
        BRIRBank(tmp_path)


def test_missing_receivers_are_refused_at_once(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT)])
    with pytest.raises(ValueError, match="omni"):
        BRIRBank(tmp_path, receivers=["omni"])


@pytest.mark.parametrize(
    "responses, message",
    [
        (np.full((2, 2, 9), np.nan), "not finite"),
        (np.ones((2, 4, 9)), r"shape \[2, 4, 9\]"),
        (np.ones((2, 9)), r"shape \[2, 9\]"),
        (np.ones((1, 2, 9)), "no noise position"),
        (np.full((2, 2, 9), 1e30), "not finite"),
        (np.stack([np.zeros((2, 9)), np.ones((2, 9))]), "source .* silent"),
    ],
)
def test_a_bad_scene_is_named_when_it_is_read(tmp_path, responses, message):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT), (responses, ABOUT)])
    bank = BRIRBank(tmp_path)
    with pytest.raises(ValueError, match=f"000001.*{message}"):
        bank[1]


def test_a_scene_at_another_rate_in_a_bank_is_named(tmp_path):
    other = {**ABOUT, "sample_rate": 8000}
    write_bank(
        tmp_path, [(np.ones((2, 2, 9)), ABOUT), (np.ones((2, 2, 9)), other)]
    )
    with pytest.raises(ValueError, match="000001.*8000 Hz"):
        BRIRBank(tmp_path)[1]


def test_a_missing_bank_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="wavjepa_nat_mini.yaml"):
        BRIRBank(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no tar shards"):
        BRIRBank(tmp_path)


def test_rooms_of_training_are_never_those_of_a_test(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT)])
    flat = tmp_path / "train"
    assert len(BRIRBank(flat)) == 1
    for folder in (flat, tmp_path):
        with pytest.raises(ValueError, match="has no part test/"):
            BRIRBank(folder, split="test")


def test_a_cut_shard_is_refused(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9000)), ABOUT)])
    path = tmp_path / "train" / "scenes-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="scenes-000000"):
        BRIRBank(tmp_path)[0]


def test_what_is_removed_during_a_run_is_drawn_again_and_named(tmp_path):
    write_bank(tmp_path / "bank", [(np.ones((2, 2, 9)), ABOUT)] * 3)
    (tmp_path / "noises").mkdir()
    for number in range(2):
        path = tmp_path / "noises" / f"{number}.wav"
        soundfile.write(path, np.ones(800) / 9, 16000)
    sampler = SceneSampler(
        BRIRBank(tmp_path / "bank"), NoiseFolder(tmp_path / "noises")
    )
    generator = torch.Generator().manual_seed(0)
    assert sampler(8, 1000, generator).num_bad == 0
    path.unlink()
    parts = sampler(8, 1000, generator)
    assert len(parts.metadata) == 8 and parts.num_bad > 0
    shard = tmp_path / "bank" / "train" / "scenes-000000.tar"
    shard.unlink()
    with pytest.raises(ValueError, match=f"no scene could be.*{shard}"):
        sampler(8, 1000, generator)


def test_a_bank_that_was_cut_meanwhile_is_named(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9000)), ABOUT)] * 2)
    bank = BRIRBank(tmp_path)
    path = tmp_path / "train" / "scenes-000000.tar"
    path.write_bytes(path.read_bytes()[:160000])
    with pytest.raises(ValueError, match="000001 cannot be used.*ends within"):
        bank[1]
    assert len(bank[0].responses) == 2


def encode(array, version=None):
    """Encode an array as a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def claim_shape(shape, descr="<f4"):
    """Write the header of a .npy file and nothing behind."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}"
    text = text.ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "i2", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_are_those_of_numpy(dtype, order, version):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    decoded = decode_array(encode(array, version))
    assert decoded.dtype == array.dtype
    assert np.array_equal(decoded, array)


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def zipped():
    """An archive of arrays under the name of one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.npy", encode(np.ones(3)))
    return file.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no .npy file"),
        (b"not an array", "no .npy file"),
        (zipped(), "no .npy file"),
        (pickle.dumps(Trap()), "no .npy file"),
        (encode(np.array([Trap()], dtype=object)), "not numbers"),
        (encode(np.array(["text"])), "not numbers"),
        (encode(np.ones((2, 9)))[:-1], "143 bytes, too few"),
        (claim_shape((10**9, 2, 10**6)), "too few for its shape"),
        (claim_shape((2**40, 2**40)), "too few for its shape"),
        (claim_shape((-2, -9)), "too few for its shape"),
        (claim_shape("-" * 90 + "1"), "no .npy file"),
        (claim_shape("(" * 90), "no .npy file"),
        (claim_shape("'" + "x" * 9000 + "'"), "no .npy file"),
        (claim_shape("-" * 9000 + "1"), "no .npy file"),
    ],
    ids=range(14),
)
def test_arrays_that_lie_are_refused(data, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        decode_array(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe\xfd",
        b'{"room": "\xe9"}',  # Latin-1
        b'{"a":' * 100000,
        b"[" * 100000,
        b'{"a": ' + b"1" * 10000 + b"}",
    ],
    ids=range(8),
)
def test_json_that_cannot_be_used_is_refused(data):
    with pytest.raises(ValueError, match="its metadata cannot|its json holds"):
        decode_json(data)


def test_json_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="json has 16777218 bytes, over"):
        decode_json(b"{" + b" " * 2**24 + b"}")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    (tmp_path / "folder.npy").mkdir()
    for name in ("pipe.npy", "device.npy", "folder.npy"):
        for read in (read_file, index_tar):
            with pytest.raises(ValueError, match=f"{name} is no regular"):
                read(tmp_path / name)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.npy"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="huge.npy' has 1099511627776 bytes"):
        read_file(path)


def write_header(path, name="a.npy", size=0, kind=tarfile.REGTYPE, data=b""):
    """Write a tar header that claims a size, with some data behind."""
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    padding = bytes(-len(data) % 512 + 1024)
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + data + padding)


def test_members_lie_where_they_are_read(tmp_path):
    path = tmp_path / "a.tar"
    long_name = "é\n{*}" + 150 * "x" + ".npy"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=form) as tar:
            for name in ("-rf.npy", "../../up.npy", long_name):
                header = tarfile.TarInfo(name)
                header.size = 700
                tar.addfile(header, io.BytesIO(name[:1].encode() * 700))
        places = index_tar(path)
        assert list(places) == ["-rf.npy", "../../up.npy", long_name]
        data = read_member(path, long_name, places[long_name])
        assert data == ("é" * 700).encode()[:700]


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 2**62},
        {"size": -1024},
        {"size": 5000},
        {"size": 2**40, "kind": tarfile.XHDTYPE},
        {"size": 2**62, "kind": tarfile.GNUTYPE_LONGNAME},
        {"size": 9, "kind": tarfile.XHDTYPE, "data": b"9 size=-1"},
    ],
    ids=str,
)
def test_tars_that_lie_are_refused(settings, tmp_path):
    path = tmp_path / "a.tar"
    write_header(path, **settings)
    with pytest.raises(ValueError, match="a.tar' is not a whole tar file"):
        index_tar(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("0.npy"))
        tar.addfile(tarfile.TarInfo("0.npy"))
    with pytest.raises(ValueError, match="two members of the name '0.npy'"):
        index_tar(path)


def test_links_in_a_tar_are_not_followed(tmp_path):
    path = tmp_path / "a.tar"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        header = tarfile.TarInfo("0.npy")
        header.type, header.linkname = kind, "/etc/passwd"
        with tarfile.open(path, "w") as tar:
            tar.addfile(header)
        place = index_tar(path)["0.npy"]
        with pytest.raises(ValueError, match="'0.npy' is no regular file"):
            read_member(path, "0.npy", place)


LIMITED = """
import pathlib, resource, sys
from speechbrain_wavjepa.augment import brir
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
path = pathlib.Path(sys.argv[1])
data = path.read_bytes()
for read in (brir.decode_array, lambda _: brir.index_tar(path)):
    try:
        read(data)
    except ValueError as error:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by /proc")
def test_memory_stays_bound(tmp_path):
    """With 64 MiB to spare, what claims terabytes is refused all the same."""
    assert brir.MAX_HEADER_BYTES < 2**26
    path = tmp_path / "a.tar"
    write_header(path, size=2**33, kind=tarfile.XHDTYPE)
    array = tmp_path / "a.npy"
    array.write_bytes(claim_shape((10**6, 10**6)))
    for file in (path, array):
        result = subprocess.run(
            [sys.executable, "-c", LIMITED, str(file)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert result.stdout == "refused\n" * 2
