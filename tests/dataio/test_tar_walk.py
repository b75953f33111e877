"""Tar files that are whole, damaged, cut or malicious."""

import io
import random
import tarfile

import pytest
from shard_factory import write_tar

from speechbrain_wavjepa.dataio.members import walk_tar
from speechbrain_wavjepa.dataio.shards import is_clip_name


def make_members(count=6, size=3000):
    return [
        (f"{number}.flac", random.Random(number).randbytes(size + number))
        for number in range(count)
    ]


def walk(data, max_bytes=10**6):
    return list(walk_tar(io.BytesIO(data), is_clip_name, max_bytes))


def members_of(found):
    return [item for item in found if not isinstance(item, str)]


def damages_of(found):
    return [item for item in found if isinstance(item, str)]


@pytest.mark.parametrize(
    "tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
)
def test_whole_tar_equals_the_standard_library(tmp_path, tar_format):
    members = make_members()
    if tar_format != tarfile.USTAR_FORMAT:
        members.append(("d/" * 80 + "long.flac", b"long"))
        members.append(("unicode-\u00e9" * 30 + ".wav", b"not ascii"))
    write_tar(tmp_path / "0.tar", members, format=tar_format)
    found = walk((tmp_path / "0.tar").read_bytes())
    assert found == members
    with tarfile.open(tmp_path / "0.tar") as tar:
        assert [name for name, _ in found] == tar.getnames()


def test_only_regular_members_with_audio_suffix_are_read():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("0.pkl", "0.json", "0.sh", "._0.flac", "0.flac.exe"):
            header = tarfile.TarInfo(name)
            header.size = 700
            tar.addfile(header, io.BytesIO(bytes(700)))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
            header = tarfile.TarInfo("link.flac")
            header.type, header.linkname = kind, "/etc/hostname"
            tar.addfile(header)
        header = tarfile.TarInfo("../../escape.OGG")
        header.size = 3
        tar.addfile(header, io.BytesIO(b"ogg"))
    assert walk(file.getvalue()) == [("../../escape.OGG", b"ogg")]


def test_damaged_headers_cost_their_members_only(tmp_path):
    members = make_members()
    offsets = write_tar(tmp_path / "0.tar", members)
    data = bytearray((tmp_path / "0.tar").read_bytes())
    for name in ("1.flac", "4.flac"):
        data[offsets[name] + 150] ^= 0xFF  # in the checksum
    found = walk(bytes(data))
    assert members_of(found) == [members[i] for i in (0, 2, 3, 5)]
    assert damages_of(found) == [
        f"damaged header, byte {offsets[n]}" for n in ("1.flac", "4.flac")
    ]


def test_damage_over_several_members_is_one_gap(tmp_path):
    members = make_members()
    offsets = write_tar(tmp_path / "0.tar", members)
    data = bytearray((tmp_path / "0.tar").read_bytes())
    start, stop = offsets["1.flac"], offsets["3.flac"] + 1000
    data[start:stop] = random.Random(0).randbytes(stop - start)
    found = walk(bytes(data))
    assert members_of(found) == [members[i] for i in (0, 4, 5)]
    assert damages_of(found) == [f"damaged header, byte {start}"]


@pytest.mark.parametrize("size", [10**7, 2**33, 2**63, 2**80, -5])
def test_size_that_lies_is_a_gap(tmp_path, size):
    members = make_members()
    offsets = write_tar(tmp_path / "0.tar", members)
    data = bytearray((tmp_path / "0.tar").read_bytes())
    header = tarfile.TarInfo("2.flac")
    header.size = size
    block = header.tobuf(tarfile.GNU_FORMAT)
    data[offsets["2.flac"] : offsets["2.flac"] + 512] = block
    found = walk(bytes(data))
    assert members_of(found) == [members[i] for i in (0, 1, 3, 4, 5)]
    (damage,) = damages_of(found)
    assert damage.endswith(f", byte {offsets['2.flac']}")


@pytest.mark.parametrize(
    "kind, size", [(tarfile.GNUTYPE_LONGNAME, 2**40), (b"x", 2**40)]
)
def test_name_that_claims_a_terabyte(kind, size):
    header = tarfile.TarInfo("name")
    header.type, header.size = kind, size
    data = header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    assert walk(data) == ["damaged header, byte 0"]


def test_every_cut_is_told(tmp_path):
    members = make_members(count=3, size=1500)
    write_tar(tmp_path / "0.tar", members)
    data = (tmp_path / "0.tar").read_bytes()
    assert not any(data[3 * 2048 :])  # a header and three blocks for each
    for stop in range(1, 3 * 2048 + 1, 97):
        found = walk(data[:stop])
        assert len(damages_of(found)) == 1, stop
        assert members_of(found) == [
            (name, content)
            for number, (name, content) in enumerate(members)
            if stop >= 2048 * number + 512 + len(content)
        ]


def test_empty_files_are_not_damaged():
    assert walk(b"") == walk(bytes(10240)) == []


def test_tars_put_behind_each_other_are_read_on(tmp_path):
    members = make_members()
    write_tar(tmp_path / "0.tar", members[:3])
    write_tar(tmp_path / "1.tar", members[3:])
    data = b"".join((tmp_path / f"{n}.tar").read_bytes() for n in (0, 1))
    assert walk(data) == members


def test_random_damage_never_invents_or_repeats_a_member(tmp_path):
    members = make_members(count=8, size=900)
    write_tar(tmp_path / "0.tar", members)
    whole = (tmp_path / "0.tar").read_bytes()
    generator = random.Random(0)
    num_gaps = 0
    for _ in range(300):
        data = bytearray(whole)
        start = generator.randrange(8 * 1536 - 4000)  # not in the end mark
        length = generator.choice([1, 40, 600, 3000])
        data[start : start + length] = generator.randbytes(length)
        found = walk(bytes(data))
        names = [name for name, _ in members_of(found)]
        num_gaps += bool(damages_of(found))
        assert len(set(names)) == len(names)
        num_changed = len(set(members) - set(members_of(found)))
        assert num_changed <= 2 + length // 900
        assert num_changed > 0 or not damages_of(found)
    assert num_gaps > 50


@pytest.mark.parametrize(
    "name", ["a\nb.flac", "x" * 300 + ".flac", "\xe9\n.flac"]
)
def test_long_and_odd_names_are_read_to_their_end(name):
    """Python writes them as records that count their bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        header = tarfile.TarInfo(name)
        header.size, header.mtime = 4, 0.5  # a record besides the path
        header.pax_headers = {"comment": "1 path=wrong.txt\n"}
        tar.addfile(header, io.BytesIO(b"fLaC"))
    file.seek(0)
    found = list(walk_tar(file, lambda name: name.endswith(".flac"), 100))
    assert found == [(name, b"fLaC")]


@pytest.mark.parametrize(
    "records", [b"0 path=a\n", b"9999999 path=", b"5 a=\n1 b=\n", b"= = ="]
)
def test_records_that_lie_are_no_endless_loop(records):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, data in (
            ("h", tarfile.XHDTYPE, records),
            ("0.flac", tarfile.REGTYPE, b"fLaC"),
        ):
            header = tarfile.TarInfo(name)
            header.type, header.size = kind, len(data)
            tar.addfile(header, io.BytesIO(data))
    file.seek(0)
    assert len(list(walk_tar(file, lambda name: True, 100))) == 1


def test_what_is_passed_over_on_a_disk_is_told_as_in_memory(tmp_path):
    """There it is not read; a file that is cut there must be noticed."""
    path = tmp_path / "0.tar"
    write_tar(path, [(f"{n}.json", bytes(700 * n)) for n in range(4)])
    whole = path.read_bytes()
    for cut in [*range(0, 6000, 250), len(whole)]:
        path.write_bytes(whole[:cut])
        in_memory = list(walk_tar(io.BytesIO(whole[:cut]), is_clip_name, 100))
        with open(path, "rb") as file:
            assert list(walk_tar(file, is_clip_name, 100)) == in_memory
