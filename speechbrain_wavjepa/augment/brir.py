"""Banks of binaural room impulse responses (BRIRs): read them at random.

A bank is a folder of tar shards, in a subfolder for each split. A scene is
one array of responses, first the source's, then those of its noise
positions, and what is known about the room. ``bank_maker.py`` makes a bank,
``bank_import.py`` brings another one into this form.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026

Read the files of a bank that a stranger made: nothing runs, memory is bound.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

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


EARS = ("left", "right")
# Of a bank that was simulated: both ears, and a microphone in their place.
RECEIVERS = (*EARS, "omni")


class RoomScene(NamedTuple):
    """Where a source, noises and a listener are, and what a room does.

    Arguments
    ---------
    key : str
        Shard and name, "shard::member".
    responses : [1 + P, C, R]
        The responses of the source, then of each noise position.
    about : dict
        Rate, room, reverberation time and the positions.

    Example
    -------
    >>> RoomScene("0.tar::0", torch.zeros(2, 2, 800), {"t60": 0.3}).key
    '0.tar::0'
    """

    key: str
    responses: Tensor
    about: dict


class BRIRBank:
    """A bank on a disk, whose scenes are read one by one.

    Arguments
    ---------
    folder : str or Path
        The bank: a folder of train/ and test/ with tar shards; to train, a
        folder of tar shards will do.
    sample_rate : int
        Rate in Hz that the responses must have.
    split : str
        "train" or "test". The rooms of one are not those of the other.
    receivers : sequence of str
        Which responses to give, in this order: "left" and "right" for two
        ears, "omni" for a microphone at the place of the head.

    Raises
    ------
    ValueError
        If there is no such bank, or its rate or receivers are others.

    Example
    -------
    >>> from speechbrain_wavjepa.dataio.writer import write_shard
    >>> folder = getfixture("tmp_path") / "train"
    >>> folder.mkdir()
    >>> about = {"sample_rate": 16000, "receivers": ["left", "right"]}
    >>> scene = encode_responses(np.ones((3, 2, 800)))
    >>> path = folder / "scenes-000000.tar"
    >>> entry = write_shard(path, [("0", scene, about)], ".npy")
    >>> bank = BRIRBank(folder.parent)
    >>> len(bank), bank[0].responses.shape
    (1, torch.Size([3, 2, 800]))
    """

    def __init__(
        self,
        folder: Union[str, Path],
        sample_rate: int = 16000,
        split: str = "train",
        receivers: Sequence[str] = EARS,
    ):
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        self.receivers = list(receivers)
        self._places = []  # (shard, name, {suffix: place})
        for shard in _find_shards(self.folder, split):
            places = _index_shard(shard)
            self._places.extend(places)
            _, _, about = self._read(*places[0])
            self._check_rate(about, places[0])

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._places)

    def __getitem__(self, index: int) -> RoomScene:
        """Read a scene.

        Raises
        ------
        ValueError
            If it is damaged, of another form, silent, or holds no noise
            position.
        OSError
            If its shard is not there any more.
        """
        place = self._places[index]
        key, responses, about = self._read(*place)
        self._check_rate(about, place)
        known = receivers_of(about)
        if responses.ndim != 3 or responses.shape[1] != len(known):
            raise ValueError(
                f"{key} has responses of shape {list(responses.shape)}, not "
                f"[1 + noise positions, {len(known)}, samples]."
            )
        # one number tells: not finite if a value is not, or is absurdly large
        if not np.isfinite(np.vdot(responses, responses)):
            raise ValueError(f"{key} has responses that are not finite.")
        if len(responses) < 2:
            raise ValueError(f"{key} lists no noise position.")
        rows = [known.index(receiver) for receiver in self.receivers]
        responses = responses[:, rows]
        if not responses[0].any():
            raise ValueError(f"{key} has a source that is silent.")
        return RoomScene(key, torch.from_numpy(responses), about)

    def _read(
        self, shard: Path, name: str, files: dict[str, TarPlace]
    ) -> tuple[str, np.ndarray, dict]:
        """Read the files of a scene: key, responses, about."""
        key = f"{shard.name}::{name}"
        if set(files) != {"npy", "json"}:
            raise ValueError(
                f"{key} of {shard.parent} needs a .npy and a .json file, has "
                f"{sorted(files)}: bring the bank into this form with "
                "scenes_prepare.py --from_bank."
            )
        try:
            about = decode_json(read_member(shard, name, files["json"]))
            receivers_of(about)
            responses = decode_array(read_member(shard, name, files["npy"]))
        except ValueError as error:
            raise ValueError(f"{key} cannot be used: {error}") from error
        with np.errstate(over="ignore"):  # found as not finite
            return key, responses.astype(np.float32, copy=False), about

    def _check_rate(self, about: dict, place: tuple) -> None:
        """Refuse responses of another rate or without the receivers."""
        shard, name, _ = place
        rate = about.get("sample_rate")
        if rate != self.sample_rate:
            raise ValueError(
                f"{name} of {shard} has responses at {rate} Hz, the model "
                f"needs {self.sample_rate}: resample the bank once, with "
                f"scenes_prepare.py --from_bank {self.folder} --output NEW "
                f"--sample_rate {self.sample_rate}."
            )
        known = receivers_of(about)
        missing = set(self.receivers) - set(known)
        if missing:
            raise ValueError(
                f"{name} of {shard} has the receivers {known}, not "
                f"{self.receivers}: make another bank with "
                "scenes_prepare.py."
            )


def receivers_of(about: dict) -> list[str]:
    """Read from a scene's metadata what its responses were received with.

    Arguments
    ---------
    about : dict
        The metadata.

    Returns
    -------
    list of str
        A name for each response of a source; two ears by default.

    Raises
    ------
    ValueError
        If they are no list of different names.

    Example
    -------
    >>> receivers_of({})
    ['left', 'right']
    """
    names = about.get("receivers", list(EARS))
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < max(len(names), 1)
    ):
        raise ValueError(f"its receivers are {names!r}, no list of names")
    return names


def encode_responses(responses: np.ndarray) -> bytes:
    """Encode responses as the bytes of a .npy file in float32.

    Arguments
    ---------
    responses : [1 + P, C, R]
        The responses of the source and of each noise position.

    Returns
    -------
    bytes
        The file.

    Example
    -------
    >>> encode_responses(np.zeros((2, 2, 4)))[:6]
    b'\\x93NUMPY'
    """
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(responses, dtype=np.float32))
    return file.getvalue()


def _find_shards(folder: Path, split: str) -> list[Path]:
    """List the shards of a split."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
    if not folder.is_dir():
        raise ValueError(
            f"There is no bank of room impulse responses at {folder}: make "
            "one with scenes_prepare.py, or begin with "
            "hparams/wavjepa_nat_mini.yaml, which makes its own."
        )
    inner = folder / split if (folder / split).is_dir() else folder
    if split == "test" and inner == folder:
        raise ValueError(
            f"{folder} has no part test/, whose rooms were not trained on: "
            "bring the bank into this form with scenes_prepare.py --from_bank."
        )
    shards = sorted(inner.glob("*.tar"))
    if not shards:
        raise ValueError(
            f"{inner} holds no tar shards of scenes: make a bank with "
            "scenes_prepare.py, or bring one into this form with its "
            "--from_bank."
        )
    return shards


def _index_shard(shard: Path) -> list[tuple[Path, str, dict]]:
    """List where the files of each scene lie in a shard."""
    scenes: dict[str, dict[str, TarPlace]] = {}
    for member, place in index_tar(shard).items():
        name, _, suffix = member.partition(".")
        scenes.setdefault(name, {})[suffix] = place
    if not scenes:
        raise ValueError(f"{shard} is empty: delete it and make it again.")
    return [(shard, name, files) for name, files in scenes.items()]
