"""What is inside a shard: its clips, one after the other, as bytes.

Shards come from anywhere, so nothing in them is trusted: only regular
members with an audio suffix are read, up to a bound; nothing is extracted,
unpickled, run or written, and member names are labels only. Damage is told
in the stream itself, as a member without data.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speechbrain_wavjepa.data.manifest import find_entry
from speechbrain_wavjepa.data.sources import is_clip_name, suffix_of
from speechbrain_wavjepa.data.tar_walk import TarMember, walk_tar
from speechbrain_wavjepa.data.urls import open_url

MAX_MEMBER_BYTES = 256 * 1024**2


class Member(NamedTuple):
    """A clip as it lies in its shard, or the news that clips are lost.

    Arguments
    ---------
    index : int
        Its place in the shard, larger than that of the member before.
    name : str
        Its name in the shard.
    data : bytes
        The encoded clip, empty if there is a problem.
    problem : str
        Why there is no data.
    num_lost : int
        Clips that the problem takes away.

    Example
    -------
    >>> Member(0, "0.flac", b"fLaC").problem
    ''
    """

    index: int
    name: str
    data: bytes = b""
    problem: str = ""
    num_lost: int = 0


def iterate_members(
    shard: str, start: int = 0, max_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[Member]:
    """Read the clips of a shard in order.

    A damaged tar file is read on at the next whole header, and a last member
    says how many were lost: exactly, if the ``manifest.json`` made by
    ``audioset_prepare.py`` lies beside the shard, else at least how many.

    Arguments
    ---------
    shard : str
        A tar, parquet or audio file, local or a url.
    start : int
        Members with a smaller index are left out.
    max_bytes : int
        A larger member is a problem and is not read.

    Yields
    ------
    Member
        Whole members and problems, in the same order at every call.

    Raises
    ------
    ValueError
        If a tar or parquet file holds no clip at all.
    OSError
        If a tar or parquet file cannot be opened or read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "clip.flac"
    >>> _ = path.write_bytes(b"fLaC")
    >>> list(iterate_members(str(path)))
    [Member(index=0, name='clip.flac', data=b'fLaC', problem='', num_lost=0)]
    """
    if is_clip_name(shard):
        yield from _read_file(shard, start, max_bytes)
        return
    if suffix_of(shard) == ".tar":
        members = _read_tar(shard, max_bytes)
    else:
        # imported late: pyarrow is an extra
        from speechbrain_wavjepa.data.parquet import read_parquet

        members = read_parquet(shard, start, max_bytes)
    is_empty, problem = True, ""
    for member in members:
        is_empty = is_empty and not member.data
        problem = problem or member.problem
        if member.index >= start:
            yield member
    if is_empty and start == 0:
        raise ValueError(
            f"The shard {shard} holds no clip"
            f"{' (' + problem + ')' if problem else ''}: make or download it "
            "again, or take it out of the list of shards."
        )


def _read_file(path: str, start: int, max_bytes: int) -> Iterator[Member]:
    """Read an audio file that is a shard of its own."""
    if start > 0:
        return
    name = Path(path).name
    try:
        with open_url(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        yield Member(0, name, problem=str(error), num_lost=1)
        return
    if len(data) > max_bytes:
        problem = f"it has more than {max_bytes} bytes"
        yield Member(0, name, problem=problem, num_lost=1)
    else:
        yield Member(0, name, data)


def _read_tar(path: str, max_bytes: int) -> Iterator[Member]:
    """Read the clips of a tar file, then tell of its damage."""
    index = 0
    damages = []
    with open_url(path) as file:
        for found in walk_tar(file, is_clip_name, max_bytes):
            if isinstance(found, TarMember):
                yield Member(index, found.name, found.data)
                index += 1
            else:
                damages.append(found)
    if not damages:
        return
    entry = find_entry(path)
    if entry is None:
        num_lost = len(damages)
        count = f"at least {num_lost} of its members lost"
    else:
        num_lost = max(entry["clips"] - index, 0)
        count = f"{num_lost} of its {entry['clips']} clips lost"
    places = "; ".join(f"{d.reason}, byte {d.position}" for d in damages[:3])
    problem = f"damaged tar file, {count} ({places})"
    yield Member(index, Path(path).name, problem=problem, num_lost=num_lost)
