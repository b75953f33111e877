"""Bring a bank of room responses from elsewhere into our form, once.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa.augment.brir import (
    EARS,
    MAX_BYTES,
    encode_responses,
    index_tar,
    receivers_of,
)
from speechbrain_wavjepa.augment.room_simulation import check_settings
from speechbrain_wavjepa.bank_layouts import ForeignScene, list_scenes
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.processing.audio import resample
from speechbrain_wavjepa.utils.files import (
    MADE_WITH_FILE,
    claim,
    fingerprint,
    hash_file,
    hold,
)

MAX_SECONDS = 60.0  # a longer response is none

# The number of a scene, which is its key in our form, and the scene.
NumberedScene = tuple[int, ForeignScene]


def import_bank(
    source: Union[str, Path],
    folder: Union[str, Path],
    sample_rate: int = 16000,
    bank_rate: Optional[int] = None,
    array_folder: Union[str, Path, None] = None,
    test_fraction: float = 15 / 85,
    scenes_per_shard: int = 100,
) -> dict[str, str]:
    """Write another bank in our form; whole shards that are there are kept.

    Scenes of one room go to one part: to test/ if the bank has such a folder
    with shards, else by ``test_fraction``.

    Arguments
    ---------
    source : str or Path
        The bank: tar shards, a folder of arrays, or of json files.
    folder : str or Path
        Where to write train/ and test/.
    sample_rate : int
        Rate in Hz that the responses are brought to.
    bank_rate : int, optional
        Rate of the bank, where its scenes do not tell.
    array_folder : str or Path, optional
        Where the arrays lie that json files name.
    test_fraction : float
        Part of the rooms that is kept for testing. Where scenes do not tell
        their ``room``, it is their shard, array or json file.
    scenes_per_shard : int
        Scenes of a shard.

    Returns
    -------
    dict[str, str]
        The scenes that were left out, and why.

    Raises
    ------
    ValueError
        If there is no bank, or only a part of one, its rate is unknown, no
        scene can be used, or the folder holds something else.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "from").mkdir()
    >>> np.save(folder / "from" / "0.npy", np.ones((3, 2, 640)))
    >>> import_bank(folder / "from", folder / "to", bank_rate=32000)
    {}
    """
    check_settings(sample_rate, test_fraction, scenes_per_shard)
    source, folder = Path(source), Path(folder)
    _check_whole(source)
    scenes = list(enumerate(list_scenes(source, array_folder)))
    if folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"{folder} lies in {source}, the bank itself: choose another "
            "output folder."
        )
    test_rooms = _choose_test_rooms(scenes, test_fraction)
    left_out: dict[str, str] = {}
    if next(_convert(scenes, sample_rate, bank_rate, left_out), None) is None:
        raise ValueError(
            f"None of the {len(scenes)} scenes of {source} can be used. The "
            f"first: {next(iter(left_out.items()), None)}."
        )
    left_out = {}
    made_with = {
        "bank": "imported",
        "content": _hash_files(scenes),
        "test_rooms": len(test_rooms),
        "scenes_per_shard": scenes_per_shard,
        "sample_rate": sample_rate,
        "bank_rate": bank_rate,
    }
    shards = []
    for split, is_test in (("train", False), ("test", True)):
        part = [s for s in scenes if (s[1].room in test_rooms) == is_test]
        for number, start in enumerate(range(0, len(part), scenes_per_shard)):
            path = folder / split / f"scenes-{number:06d}.tar"
            shards.append((path, part[start : start + scenes_per_shard]))
    with hold(folder):
        claim(folder, made_with)
        with tqdm(shards, desc="writing", unit=" shards") as bar:
            for path, part in bar:
                path.parent.mkdir(exist_ok=True)
                if path.exists():
                    left_out.update(_missing(path, part))
                else:
                    converted = _convert(part, sample_rate, bank_rate, left_out)
                    write_shard(path, converted, ".npy")
    return left_out


def _check_whole(source: Path) -> None:
    """Refuse a part of a bank in our form: its rooms would be split again."""
    place = source.resolve()
    part = place.parent if place.suffix == ".tar" else place
    bank = part.parent
    if part.name in ("train", "test") and (bank / MADE_WITH_FILE).exists():
        raise ValueError(
            f"{source} is only a part of a bank, whose rooms for training and "
            f"testing must stay apart: give the bank, {bank}."
        )


def _choose_test_rooms(
    scenes: list[NumberedScene], test_fraction: float
) -> set[str]:
    """Choose rooms for testing: those in test/, else a part of all."""
    rooms = list(dict.fromkeys(scene.room for _, scene in scenes))
    test_rooms = {scene.room for _, scene in scenes if scene.is_test}
    if not test_rooms:
        num_test = round(len(rooms) * test_fraction)
        return set(rooms[len(rooms) - num_test :])
    for _, scene in scenes:
        if scene.room in test_rooms and not scene.is_test:
            raise ValueError(
                f"The room {scene.room!r} has scenes in test/ and elsewhere "
                f"({scene.origin}): no room may be in both parts. Put all "
                "shards into one folder, and its rooms will be split."
            )
    return test_rooms


def _hash_files(scenes: list[NumberedScene]) -> str:
    """Hash a bank by the names and contents of its files."""
    files = {}
    for _, scene in scenes:
        files.update(scene.files)
    contents = []
    for name, path in tqdm(
        sorted(files.items()), desc="reading the bank", unit=" files"
    ):
        size = path.stat().st_size if path.is_file() else -1
        is_read = path.suffix == ".tar" or 0 <= size <= MAX_BYTES
        contents.append([name, size, hash_file(path) if is_read else ""])
    return fingerprint(contents)[:16]


def _missing(path: Path, scenes: list[NumberedScene]) -> dict[str, str]:
    """Find the scenes that an earlier run left out of a shard."""
    names = index_tar(path)
    return {
        scene.origin: "an earlier run left it out"
        for number, scene in scenes
        if f"{number:06d}.npy" not in names
    }


def _convert(
    scenes: Iterable[NumberedScene],
    sample_rate: int,
    bank_rate: Optional[int],
    left_out: dict[str, str],
) -> Iterator[tuple[str, bytes, dict]]:
    """Read, check and resample scenes; note why some are left out."""
    for number, scene in scenes:
        try:
            responses, about = scene.read()
            rate = _check_rate(about.get("sample_rate", bank_rate))
            responses = _clean(responses, receivers_of(about), rate)
        except (ValueError, OSError) as error:
            left_out[scene.origin] = str(error)
            continue
        rows = [
            resample(row.T.contiguous(), rate, sample_rate).T
            for row in torch.from_numpy(responses)
        ]
        # a response is a density over time: its sum must stay the same
        resampled = torch.stack(rows) * (rate / sample_rate)
        about = {
            "receivers": list(EARS),
            **about,
            "room": scene.room,
            "origin": scene.origin,
            "sample_rate": sample_rate,
        }
        yield f"{number:06d}", encode_responses(resampled.numpy()), about


def _check_rate(rate) -> int:
    """Refuse rates that no response has."""
    if rate is None:
        raise ValueError("its rate is unknown: give it with --bank_rate")
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not is_number or not 1000 <= rate <= 768000 or rate != int(rate):
        raise ValueError(f"its rate is {rate!r}, not 1000 to 768000 Hz")
    return int(rate)


def _clean(
    responses: np.ndarray, receivers: list[str], rate: int
) -> np.ndarray:
    """Check responses; drop silent noise positions and the silent end."""
    if responses.ndim != 3 or responses.shape[1] != len(receivers):
        raise ValueError(
            f"it has the shape {list(responses.shape)}, not "
            f"[1 + noise positions, {len(receivers)}, samples]"
        )
    with np.errstate(over="ignore"):  # found as not finite
        responses = responses.astype(np.float32)
    if not np.isfinite(np.vdot(responses, responses)):
        raise ValueError("it is not finite")
    heard = np.abs(responses).max(axis=(1, 2), initial=0) > 0
    if not heard[:1].any() or heard.sum() < 2:
        raise ValueError("its source or all of its noises are silent")
    last = np.nonzero(np.abs(responses).max(axis=(0, 1)))[0][-1]
    if last >= MAX_SECONDS * rate:
        raise ValueError(f"it is longer than {MAX_SECONDS} s")
    return responses[heard][:, :, : last + 1]
