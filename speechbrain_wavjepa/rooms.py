"""Banks of binaural room impulse responses (BRIRs): read them at random.

A bank is a folder of tar shards, in a subfolder for each split. A scene is
one array of responses, first the source's, then those of its noise
positions, and what is known about the room. ``bank_maker.py`` makes a bank,
``bank_import.py`` brings another one into this form.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

from speechbrain_wavjepa.bank_files import (
    TarPlace,
    decode_array,
    decode_json,
    index_tar,
    read_member,
)

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
