"""Read the members of a tar file that may be damaged or cut.

The standard library's walker trusts the sizes it reads and hides or gives up
at a damaged header. This one reads forward only, from header to header, and
searches block by block for the next whole header where one is damaged. The
format is that of POSIX.1-2001 (ustar and pax) and GNU tar.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, Optional, Union

BLOCK = tarfile.BLOCKSIZE
ZEROS = bytes(BLOCK)
PIECE = 1024**2  # bytes read at once of what is passed over
MAX_NAME_BYTES = 64 * 1024

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
WITHOUT_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")


class TarMember(NamedTuple):
    """A whole member of a tar file.

    Arguments
    ---------
    name : str
        Its name: a label, never a place to write to.
    data : bytes
        Its content.

    Example
    -------
    >>> TarMember("0.flac", b"fLaC").name
    '0.flac'
    """

    name: str
    data: bytes


class TarDamage(NamedTuple):
    """A gap of a tar file in which at least one member is lost.

    Arguments
    ---------
    position : int
        Byte at which it begins.
    reason : str
        What was found there.

    Example
    -------
    >>> TarDamage(512, "no header").position
    512
    """

    position: int
    reason: str


def walk_tar(
    file: BinaryIO, is_wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[Union[TarMember, TarDamage]]:
    """Read the wanted regular members of a tar file and tell of every gap.

    Arguments
    ---------
    file : binary file
        The tar file, read forward from its beginning.
    is_wanted : callable
        Says by its name whether a member is read or passed over.
    max_bytes : int
        A larger wanted member counts as damage.

    Yields
    ------
    TarMember or TarDamage
        In the order of the file.

    Example
    -------
    >>> import io
    >>> buffer = io.BytesIO()
    >>> with tarfile.open(fileobj=buffer, mode="w") as tar:
    ...     header = tarfile.TarInfo("0.flac")
    ...     header.size = 4
    ...     tar.addfile(header, io.BytesIO(b"fLaC"))
    >>> _ = buffer.seek(0)
    >>> list(walk_tar(buffer, lambda name: True, 100))
    [TarMember(name='0.flac', data=b'fLaC')]
    """
    reader = _BlockReader(file)
    long_name = ""
    is_searching = False
    while block := reader.next_block():
        position = reader.position - BLOCK
        header = _parse_header(block)
        if header is None:
            if not is_searching:
                yield TarDamage(position, "damaged header")
            is_searching = True
            continue
        name = long_name or header.name
        is_clip = header.type in REGULAR and is_wanted(name)
        if is_clip and header.size > max_bytes:
            reason = f"{name!r} has {header.size} bytes, over {max_bytes}"
            yield TarDamage(position, reason)
            is_searching = True
            continue
        is_searching = False
        is_name = header.type in LONG_NAME
        size = 0 if header.type in WITHOUT_DATA else header.size
        data = reader.read_data(size, keep=is_clip or is_name)
        if data is None:
            yield TarDamage(position, f"the file ends within {name!r}")
            return
        long_name = _parse_long_name(header, data) if is_name else ""
        if is_clip:
            yield TarMember(name, data)
    if not (reader.at_end_mark or is_searching):
        yield TarDamage(reader.position, "the file ends without an end mark")


class _BlockReader:
    """Reads a file in the units of the tar format."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.position = 0
        self.at_end_mark = True  # an empty file is not damaged, but empty
        self.size = None  # of a file on a disk, where data is passed over
        if isinstance(file, io.BufferedReader):
            self.size = os.fstat(file.fileno()).st_size

    def next_block(self) -> bytes:
        """Give the next block that is not zero, nothing at the end."""
        while True:
            block = self.file.read(BLOCK)
            if len(block) < BLOCK:
                self.at_end_mark = self.at_end_mark and not any(block)
                return b""
            self.position += BLOCK
            self.at_end_mark = block == ZEROS
            if not self.at_end_mark:
                return block

    def read_data(self, size: int, keep: bool) -> Optional[bytes]:
        """Read a member's data and its filling, None if the file is cut."""
        padded = size + -size % BLOCK
        if keep:
            data = self.file.read(padded)
            self.position += len(data)
            return None if len(data) < size else data[:size]
        left = padded
        if self.size is not None:
            left -= min(padded, max(self.size - self.position, 0))
            self.file.seek(padded - left, os.SEEK_CUR)
        while left > 0:
            num_read = len(self.file.read(min(left, PIECE)))
            if num_read == 0:
                break
            left -= num_read
        self.position += padded - left
        return None if left > padded - size else b""


def _parse_header(block: bytes) -> Optional[tarfile.TarInfo]:
    """Read a header; None if the checksum fails or its size is absurd."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except tarfile.HeaderError:
        return None
    has_long_name = header.type in LONG_NAME
    if header.size < 0 or has_long_name and header.size > MAX_NAME_BYTES:
        return None
    return header


def _parse_long_name(header: tarfile.TarInfo, data: bytes) -> str:
    """Read the name of the next member that its own header cannot hold."""
    if header.type == tarfile.XHDTYPE:
        data = _find_pax_path(data)
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _find_pax_path(data: bytes) -> bytes:
    """Find the path among records "LENGTH KEY=VALUE\\n", which count bytes."""
    start = 0
    while record := PAX_RECORD.match(data, start):
        end = start + int(record[1])
        if record[2] == b"path":
            return data[record.end() : end - 1]
        if end < record.end():
            break
        start = end
    return b""
