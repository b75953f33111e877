"""Banks of binaural room impulse responses (BRIRs), read in any order.

A bank is a folder of tar shards, in a subfolder for each split. A scene is a
.npy array of responses, the source's first and then those of its noise
positions, and a json file of metadata. Shards may be a stranger's: nothing
runs, and what is allocated depends on the bytes that are there, never on a
size that a header claims.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import math
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

from speechbrain_wavjepa.utils.tables import check_there, parse_json

EARS = ("left", "right")
# Of a bank that was simulated: both ears, and a microphone in their place.
RECEIVERS = (*EARS, "omni")
WAY_OUT = "make one with scenes_prepare.py, or import yours by its --from_bank"
MAX_BYTES = 256 * 1024**2  # of an array
MAX_JSON = 2**24  # bytes; parsed it can take thirty times as many
MAX_HEADER_BYTES = 1024**2  # of a tar member: what holds its long name


class RoomScene(NamedTuple):
    """A scene: its key "shard::name", responses [1 + P, C, R] and metadata."""

    key: str
    responses: Tensor
    metadata: dict


class TarPlace(NamedTuple):
    """First byte and size of a tar member; size -1 if it is no regular file."""

    offset: int
    size: int


class BRIRBank:
    """A bank on a disk, whose scenes are read one by one.

    Arguments
    ---------
    folder : str or Path
        Holds train/ and test/ with tar shards; to train, shards will do.
    sample_rate : int
        Rate in Hz that the responses must have.
    split : str
        "train" or "test". The rooms of one are not those of the other.
    receivers : sequence of str
        "left" and "right" ear, "omni" microphone in the head's place.

    Example
    -------
    >>> from speechbrain_wavjepa.augment import make_bank
    >>> folder = getfixture("tmp_path")
    >>> make_bank(folder, num_rooms=2, scenes_per_room=1, workers=1)
    >>> BRIRBank(folder)[0].metadata["room"]
    'room-0000'
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
            scenes: dict[str, dict[str, TarPlace]] = {}
            for member, place in index_tar(shard).items():
                name, _, suffix = member.partition(".")
                scenes.setdefault(name, {})[suffix] = place
            if not scenes:
                raise ValueError(f"{shard} is empty: delete and make it again.")
            places = [(shard, *scene) for scene in scenes.items()]
            self._places.extend(places)
            self._read(*places[0])  # another bank is refused at once

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._places)

    def __getitem__(self, index: int) -> RoomScene:
        """Read a scene; a ValueError or OSError if it cannot be used."""
        key, responses, metadata = self._read(*self._places[index])
        known = receivers_of(metadata)
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
        responses = responses[:, [known.index(name) for name in self.receivers]]
        if not responses[0].any():
            raise ValueError(f"{key} has a source that is silent.")
        return RoomScene(key, torch.from_numpy(responses), metadata)

    def _read(
        self, shard: Path, name: str, files: dict[str, TarPlace]
    ) -> tuple[str, np.ndarray, dict]:
        """Read a scene; refuse another rate and missing receivers."""
        key = f"{shard.name}::{name}"
        if set(files) != {"npy", "json"}:
            raise ValueError(f"{key} needs a .npy and a .json file: {WAY_OUT}.")
        try:
            metadata = decode_json(read_member(shard, name, files["json"]))
            known = receivers_of(metadata)
            responses = decode_array(read_member(shard, name, files["npy"]))
        except ValueError as error:
            raise ValueError(f"{key} cannot be used: {error}") from error
        rate = metadata.get("sample_rate")
        if rate != self.sample_rate:
            raise ValueError(
                f"{key} has {rate} Hz, the model needs {self.sample_rate}: "
                f"run scenes_prepare.py --from_bank {self.folder} --output NEW "
                f"--sample_rate {self.sample_rate}."
            )
        if not set(self.receivers) <= set(known):
            raise ValueError(
                f"{key} has receivers {known}, not {self.receivers}: {WAY_OUT}."
            )
        with np.errstate(over="ignore"):  # found as not finite
            return key, responses.astype(np.float32, copy=False), metadata


def _find_shards(folder: Path, split: str) -> list[Path]:
    """List the shards of a split."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
    if not folder.is_dir():
        raise ValueError(
            f"There is no bank of room responses at {folder}: make one with "
            "scenes_prepare.py, or begin with hparams/wavjepa_nat_mini.yaml."
        )
    inner = folder / split
    if not inner.is_dir():
        if split == "test":
            raise ValueError(f"{folder} has no part test/: {WAY_OUT}.")
        inner = folder
    if shards := sorted(inner.glob("*.tar")):
        return shards
    raise ValueError(f"{inner} holds no tar shards of scenes: {WAY_OUT}.")


def receivers_of(metadata: dict) -> list[str]:
    """Read what a scene's responses were received with; default: two ears."""
    names = metadata.get("receivers", list(EARS))
    is_list = isinstance(names, list) and all(isinstance(x, str) for x in names)
    if not is_list or not 0 < len(set(names)) == len(names):
        raise ValueError(f"its receivers are {names!r}, no list of names")
    return names


def encode_responses(responses: np.ndarray) -> bytes:
    """Encode responses [1 + P, C, R] as a .npy file in float32."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(responses, dtype=np.float32))
    return file.getvalue()


def decode_array(data: bytes) -> np.ndarray:
    """Decode a .npy file of numbers; the array shares its memory."""
    file = io.BytesIO(data)
    try:
        major, minor = np.lib.format.read_magic(file)
        header = getattr(np.lib.format, f"read_array_header_{major}_{minor}")
        shape, in_columns, dtype = header(file)
    except Exception as error:  # NumPy's parser raises half a dozen kinds
        raise ValueError(f"it is no .npy file: {error}") from error
    if dtype.kind not in "fiu":
        raise ValueError(f"it holds {dtype}, not numbers")
    count, there = math.prod(shape), len(data) - file.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize > there:
        raise ValueError(f"{there} bytes, too few for its shape {list(shape)}")
    flat = np.frombuffer(data, dtype, count, file.tell())
    return flat.reshape(shape, order="F" if in_columns else "C")


def decode_json(data: bytes) -> dict:
    """Decode a json file of bounded size that holds an object."""
    if len(data) > MAX_JSON:
        raise ValueError(f"its json has {len(data)} bytes, over {MAX_JSON}")
    found = parse_json(data, "its metadata")
    if not isinstance(found, dict):
        raise ValueError("its json holds no object")
    return found


def read_file(path: Path) -> bytes:
    """Read a regular file of bounded size; what else it is could block."""
    check_there(path)
    return read_member(path, str(path), TarPlace(0, path.stat().st_size))


def read_member(path: Path, name: str, place: TarPlace) -> bytes:
    """Read a tar member of bounded size; its name is for messages."""
    if place.size < 0:
        raise ValueError(f"{name!r} is no regular file.")
    if place.size > MAX_BYTES:
        raise ValueError(f"{name!r} has {place.size} bytes, over {MAX_BYTES}.")
    with open(path, "rb") as file:
        file.seek(place.offset)
        data = file.read(place.size)
    if len(data) < place.size:
        raise ValueError(f"{str(path)!r} ends within {name!r}: get it again.")
    return data


def index_tar(path: Path) -> dict[str, TarPlace]:
    """List where the members of a tar file lie, without reading them."""
    check_there(path)
    places: dict[str, TarPlace] = {}
    try:
        with open(path, "rb") as file:
            for member in tarfile.open(fileobj=_HeaderReader(file), mode="r:"):
                if member.isdir():
                    continue
                name, is_file = member.name, member.isreg()
                if name in places:
                    raise ValueError(
                        f"{str(path)!r} has two members of the name {name!r}."
                    )
                size = -1 if member.issparse() or not is_file else member.size
                places[name] = TarPlace(member.offset_data, size)
    except tarfile.TarError as error:
        raise ValueError(
            f"{str(path)!r} is not a whole tar file ({error}): get it again."
        ) from error
    return places


class _HeaderReader:
    """Gives a tar file's headers: small pieces, from front to back.

    tarfile allocates the sizes it finds, and circles after a negative one.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.tell = file.tell

    def read(self, size: int) -> bytes:  # noqa: D102
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)

    def seek(self, position: int) -> int:  # noqa: D102
        if not self.tell() - 1 <= position < 2**62:
            raise tarfile.ReadError("a header with an absurd size")
        return self.file.seek(position)
