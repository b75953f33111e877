"""What is inside a shard: its clips, one after the other, still encoded.

Shards come from anywhere, so nothing in them is trusted: only regular
members with an audio suffix are read, up to a bound; nothing is extracted,
unpickled, run or written, and member names are labels only. Damage is told
in the stream itself, as a member without data.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.data.manifest import find_entry
from speechbrain_wavjepa.data.names import Segment, Shard
from speechbrain_wavjepa.data.sources import is_clip_name, suffix_of
from speechbrain_wavjepa.data.tar_walk import TarMember, walk_tar
from speechbrain_wavjepa.data.urls import is_remote, open_url

MAX_MEMBER_BYTES = 256 * 1024**2


class Member(NamedTuple):
    """A clip as it lies in its shard, or the news that clips are lost.

    Arguments
    ---------
    index : int
        Its place in the shard, larger than that of the member before.
    name : str
        Its name in the shard.
    data : bytes or str
        The encoded clip, or the path of a local audio file; empty if there
        is a problem.
    problem : str
        Why there is no data.
    num_lost : int
        Clips that the problem takes away.
    start : int
        First sample of the clip in its file.
    stop : int, optional
        The sample behind its last one; None for the end of the file.

    Example
    -------
    >>> Member(0, "0.flac", b"fLaC").problem
    ''
    """

    index: int
    name: str
    data: Union[bytes, str] = b""
    problem: str = ""
    num_lost: int = 0
    start: int = 0
    stop: Optional[int] = None


def iterate_members(
    shard: Shard, start: int = 0, max_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[Member]:
    """Read the clips of a shard in order.

    A damaged tar file is read on at the next whole header, and a last member
    says how many were lost: exactly, if the ``manifest.json`` made by
    ``audioset_prepare.py`` lies beside the shard, else at least how many. So
    it is where a shard is missing, or cannot be read on.

    Arguments
    ---------
    shard : str or Segment
        A tar, parquet or audio file, local or a url, or a segment of one.
    start : int
        Members with a smaller index are left out.
    max_bytes : int
        A larger member is a problem and is not read. A local audio file may
        be larger: it is read where it lies.

    Yields
    ------
    Member
        Whole members and problems, in the same order at every call.

    Raises
    ------
    OSError
        If a server cannot be reached. What lies on a disk and cannot be read
        is damage.
    ValueError
        If a server refuses a url.

    Example
    -------
    >>> [(member.name, member.data) for member in iterate_members("a/0.flac")]
    [('0.flac', 'a/0.flac')]
    """
    if isinstance(shard, Segment) or is_clip_name(shard):
        if start == 0:
            yield _read_file(shard, max_bytes)
        return
    if suffix_of(shard) == ".tar":
        members = _read_tar(shard, max_bytes)
    else:
        # imported late: pyarrow is an extra
        from speechbrain_wavjepa.data.parquet import read_parquet

        members = read_parquet(shard, start, max_bytes)
    index, problem = 0, "the shard holds no clip"
    try:
        for member in members:
            index = member.index + 1
            if member.index >= start:
                yield member
    except OSError as error:
        if is_remote(shard):
            raise
        problem = f"the shard cannot be read: {error}"
    else:
        if max(index, start) > 0:
            return
    index, entry = max(index, start), find_entry(shard)
    num_lost = max(entry["clips"] - index, 1) if entry else 1
    yield Member(index, Path(shard).name, b"", problem, num_lost)


def _read_file(shard: Shard, max_bytes: int) -> Member:
    """Find an audio file that is a shard of its own; fetch a remote one."""
    segment = Segment(shard) if isinstance(shard, str) else shard
    path, *samples = segment
    name = Path(path).name
    if not is_remote(path):
        return Member(0, name, path, "", 0, *samples)
    try:
        with open_url(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return Member(0, name, problem=str(error), num_lost=1)
    if len(data) > max_bytes:
        problem = f"it has more than {max_bytes} bytes"
        return Member(0, name, problem=problem, num_lost=1)
    return Member(0, name, data, "", 0, *samples)


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
