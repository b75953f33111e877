"""Files that want to be run, to block, or to fill the memory."""

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

from speechbrain_wavjepa.augment import brir as bank_files
from speechbrain_wavjepa.augment.brir import (
    decode_array,
    decode_json,
    index_tar,
    read_file,
    read_member,
)


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
from speechbrain_wavjepa.augment import brir as bank_files
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
path = pathlib.Path(sys.argv[1])
data = path.read_bytes()
for read in (bank_files.decode_array, lambda _: bank_files.index_tar(path)):
    try:
        read(data)
    except ValueError as error:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by /proc")
def test_memory_stays_bound(tmp_path):
    """With 64 MiB to spare, what claims terabytes is refused all the same."""
    assert bank_files.MAX_HEADER_BYTES < 2**26
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
