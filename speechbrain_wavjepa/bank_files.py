"""Read the files of a bank that a stranger made: nothing runs, memory is bound.

Every problem is a ValueError that names the file; what is allocated depends
on the bytes that are there, never on a size that a header claims.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import json
import math
import os
import stat
import tarfile
import tokenize
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAX_BYTES = 256 * 1024**2  # of an array
MAX_JSON = 2**24  # bytes; parsed it can take thirty times as many
MAX_HEADER_BYTES = 1024**2  # of a tar member: what holds its long name
# what NumPy raises on a header that is no dictionary, or nested too deeply
HEADER_ERRORS = (
    ValueError,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)


class TarPlace(NamedTuple):
    """Where a member lies in a tar file.

    Arguments
    ---------
    offset : int
        Its first byte.
    size : int
        Its bytes; -1 for a link, a device or whatever else is no file.

    Example
    -------
    >>> TarPlace(512, 4).size
    4
    """

    offset: int
    size: int


def read_file(path: Path) -> bytes:
    """Read a regular file of bounded size.

    Arguments
    ---------
    path : Path
        The file, or a link to one.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    ValueError
        If it is something else than a file, which could block, or too large.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_text("b")
    >>> read_file(path)
    b'b'
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{str(path)!r} is no regular file.")
    return read_member(path, str(path), TarPlace(0, found.st_size))


def read_member(path: Path, name: str, place: TarPlace) -> bytes:
    """Read a member of a tar file.

    Arguments
    ---------
    path : Path
        The tar file.
    name : str
        The member's name, for messages.
    place : TarPlace
        Where it lies.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    ValueError
        If it is no regular file, too large, or not there any more.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_text("abc")
    >>> read_member(path, "b", TarPlace(1, 1))
    b'b'
    """
    if place.size < 0:
        raise ValueError(f"{name!r} is no regular file.")
    if place.size > MAX_BYTES:
        raise ValueError(
            f"{name!r} has {place.size} bytes, more than {MAX_BYTES}."
        )
    with open(path, "rb") as file:
        file.seek(place.offset)
        data = file.read(place.size)
    if len(data) < place.size:
        raise ValueError(
            f"{str(path)!r} ends within {name!r}: make or download it again."
        )
    return data


def index_tar(path: Path) -> dict[str, TarPlace]:
    """List where the members of a tar file lie, without reading them.

    Arguments
    ---------
    path : Path
        The tar file.

    Returns
    -------
    dict of str to TarPlace
        The members, in their order.

    Raises
    ------
    ValueError
        If it is damaged, cut, or holds two members of one name.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.tar"
    >>> with tarfile.open(path, "w") as tar:
    ...     tar.addfile(tarfile.TarInfo("empty"))
    >>> index_tar(path)
    {'empty': TarPlace(offset=512, size=0)}
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no regular file.")
    places: dict[str, TarPlace] = {}
    try:
        with (
            open(path, "rb") as file,
            tarfile.open(fileobj=_HeaderReader(file), mode="r:") as tar,
        ):
            for member in tar:
                if member.isdir():
                    continue
                if member.name in places:
                    raise ValueError(
                        f"{str(path)!r} holds two members of the name "
                        f"{member.name!r}: rename or remove one."
                    )
                is_file = member.isreg() and not member.issparse()
                size = member.size if is_file else -1
                places[member.name] = TarPlace(member.offset_data, size)
    except tarfile.TarError as error:
        raise ValueError(
            f"{str(path)!r} is not a whole tar file ({error}): make or "
            "download it again."
        ) from error
    return places


class _HeaderReader:
    """Gives a tar file's headers: small pieces, from front to back.

    The standard library's reader trusts the sizes that it finds: it would
    allocate them, and go round in circles after a negative one.
    """

    def __init__(self, file: BinaryIO):
        self.file = file

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        if not self.tell() - 1 <= position < 2**62:
            raise tarfile.ReadError("a header with an absurd size")
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()


def decode_array(data: bytes) -> np.ndarray:
    """Decode a .npy file of numbers.

    Arguments
    ---------
    data : bytes
        The file.

    Returns
    -------
    np.ndarray
        The array; it shares the memory of the file.

    Raises
    ------
    ValueError
        If it is no such file, is cut, or holds something else than numbers.

    Example
    -------
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(6.0).reshape(2, 3))
    >>> decode_array(file.getvalue()).shape
    (2, 3)
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, in_columns, dtype = read_header(file)
    except HEADER_ERRORS as error:
        raise ValueError(f"it is no .npy file: {error}") from error
    if dtype.kind not in "fiu":
        raise ValueError(f"it holds {dtype}, not numbers")
    count, there = math.prod(shape), len(data) - file.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize > there:
        raise ValueError(
            f"it ends after {there} bytes, too few for its shape {list(shape)}"
        )
    flat = np.frombuffer(data, dtype, count, file.tell())
    return flat.reshape(shape, order="F" if in_columns else "C")


def decode_json(data: bytes) -> dict[str, Any]:
    """Decode a json file that holds an object.

    Arguments
    ---------
    data : bytes
        The file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    ValueError
        If it is no such file, too large, or nested too deeply.

    Example
    -------
    >>> decode_json(b'{"t60": 0.3}')
    {'t60': 0.3}
    """
    if len(data) > MAX_JSON:
        raise ValueError(
            f"its json file has {len(data)} bytes, over {MAX_JSON}"
        )
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its json file cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("its json file holds no object")
    return found
