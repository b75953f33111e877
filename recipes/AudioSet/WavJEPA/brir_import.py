"""Bring a bank of room responses from elsewhere into our form, once.

Understood are tar shards or a folder of arrays, one for each scene, and the
layout of the paper's bank: json files that list scenes, each with the paths
of its arrays.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional, Union

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa.augment.brir import (
    EARS,
    MAX_BYTES,
    decode_array,
    decode_json,
    encode_responses,
    index_tar,
    read_file,
    read_member,
    receivers_of,
)
from speechbrain_wavjepa.augment.room_simulation import (
    check_settings,
    plan_shards,
)
from speechbrain_wavjepa.dataio.writer import write_shard
from speechbrain_wavjepa.processing import resample
from speechbrain_wavjepa.utils.files import (
    MADE_WITH_FILE,
    claim,
    fingerprint,
    hash_file,
    hold,
    path_inside,
)

MAX_SECONDS = 60.0  # a longer response is none


class ForeignScene(NamedTuple):
    """A scene of another bank, whose responses are not read yet."""

    origin: str  # where it lies in that bank
    room: str  # where the bank tells it, else its shard, array or json file
    is_test: bool  # whether it lies in a folder test/
    files: dict[str, Path]  # by their names in the bank
    # gives responses [1 + P, C, R] and metadata
    read: Optional[Callable[[], tuple[np.ndarray, dict]]] = None


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
    with shards, else by ``test_fraction``. The scenes that were left out, and
    why, are returned. ``bank_rate`` is for scenes that do not tell theirs,
    ``array_folder`` holds the arrays that json files name.
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
    left_out.clear()
    made_with = {
        "bank": "imported",
        "content": _hash_files(scenes),
        "test_rooms": len(test_rooms),
        "scenes_per_shard": scenes_per_shard,
        "sample_rate": sample_rate,
        "bank_rate": bank_rate,
    }
    parts = [
        [scene for scene in scenes if (scene[1].room in test_rooms) == is_test]
        for is_test in (False, True)
    ]
    shards = plan_shards(folder, *parts, scenes_per_shard)
    with hold(folder):
        claim(folder, made_with)
        for path, part in tqdm(shards, "writing", unit=" shards"):
            path.parent.mkdir(exist_ok=True)
            if path.exists():
                names = index_tar(path)
                for number, scene in part:
                    if f"{number:06d}.npy" not in names:
                        left_out[scene.origin] = "an earlier run left it out"
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


def list_scenes(
    source: Path, array_folder: Union[str, Path, None] = None
) -> list[ForeignScene]:
    """List the scenes of a bank, whatever its layout, sorted by name."""
    if source.suffix == ".tar":
        source, tars = source.parent, [source]
    else:
        tars = sorted(source.rglob("*.tar"))
    if tars and all(path.exists() for path in tars):
        scenes = [scene for path in tars for scene in _list_tar(source, path)]
        if not scenes:
            raise ValueError(f"The tar shards of {source} hold no .npy array.")
        return scenes
    lists = [
        path
        for path in sorted(source.glob("*.json"))
        if b'"sampled_regions"' in read_file(path)
    ]
    if lists:
        folder = Path(array_folder or source)
        return [s for path in lists for s in _list_regions(path, folder)]
    if arrays := sorted(source.glob("*.npy")):
        return list(map(_list_array, arrays))
    raise ValueError(
        f"{source} holds no bank: give tar shards, a folder of .npy "
        "arrays, or of json files with sampled_regions."
    )


def _list_tar(source: Path, path: Path) -> Iterator[ForeignScene]:
    """List the arrays of a tar shard."""
    inside = path.relative_to(source).as_posix()
    readers = {
        name: functools.partial(read_member, path, name, place)
        for name, place in index_tar(path).items()
    }
    is_test = "test" in inside.split("/")[:-1]
    for name in sorted(readers):
        if name.endswith(".npy"):
            beside = readers.get(name.removesuffix(".npy") + ".json")
            origin, files = f"{inside}::{name}", {inside: path}
            scene = ForeignScene(origin, inside, is_test, files)
            yield _make_scene(scene, readers[name], beside)


def _list_array(path: Path) -> ForeignScene:
    """Describe an array of a folder, with or without a json file."""
    files, read_metadata = {path.name: path}, None
    beside = path.with_suffix(".json")
    if beside.exists():
        files[beside.name] = beside
        read_metadata = functools.partial(read_file, beside)
    scene = ForeignScene(path.name, path.stem, False, files)
    return _make_scene(scene, functools.partial(read_file, path), read_metadata)


def _make_scene(
    scene: ForeignScene,
    read_array: Callable[[], bytes],
    read_metadata: Optional[Callable[[], bytes]],
) -> ForeignScene:
    """Complete a scene of one array, with or without a json file."""

    def read():
        metadata = decode_json(read_metadata()) if read_metadata else {}
        return decode_array(read_array()), metadata

    room = None
    try:
        room = (
            decode_json(read_metadata()).get("room") if read_metadata else None
        )
    except (ValueError, OSError):
        pass  # raised again, and reported, when the scene is read
    room = scene.room if room is None else str(room)
    return scene._replace(room=room, read=read)


def _list_regions(path: Path, folder: Path) -> Iterator[ForeignScene]:
    """List the scenes of one of the paper's json files, that of a house."""
    try:
        regions = decode_json(read_file(path)).get("sampled_regions")
        if not isinstance(regions, list):
            raise ValueError("its sampled_regions are no list")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be used: {error}.") from error
    for number, region in enumerate(regions):
        files = {path.name: path}
        try:
            arrays = [file for file, _ in _region_places(region, folder)]
            files.update((file.name, file) for file in arrays)
        except ValueError:
            pass  # raised again, and reported, when the scene is read
        origin = f"{path.name}::{number}"
        read = functools.partial(_read_region, region, folder)
        yield ForeignScene(origin, path.stem, False, files, read)


def _region_places(region: dict, folder: Path) -> list[tuple[Path, dict]]:
    """Find the array of the source and of each noise, and their metadata."""
    try:
        scene = region["region"]["scene"]
        found = []
        for place in (scene["source"], *scene["noise"]):
            name = PurePosixPath(place["rir"]["binaural_rir_path"]).name
            metadata = {key: v for key, v in place.items() if key != "rir"}
            found.append((path_inside(folder, name), metadata))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not as in the paper: {error!r}") from error
    return found


def _read_region(region: dict, folder: Path) -> tuple[np.ndarray, dict]:
    """Read the arrays of a scene, and stack them."""
    places = _region_places(region, folder)
    arrays = []
    for path, _ in places:
        array = decode_array(read_file(path))
        if array.ndim != 2 or len(array) != len(EARS):
            raise ValueError(
                f"{path.name!r} has the shape {list(array.shape)}, not "
                f"[{len(EARS)}, samples]"
            )
        arrays.append(array)
    shape = (len(arrays), len(EARS), max(array.shape[1] for array in arrays))
    if 4 * math.prod(shape) > MAX_BYTES:
        raise ValueError(f"it has the shape {list(shape)}, which is too large")
    stacked = np.zeros(shape, dtype=np.float32)
    for row, array in zip(stacked, arrays):
        row[:, : array.shape[1]] = array
    source, *noise = (metadata for _, metadata in places)
    return stacked, {"source": source, "noise": noise}


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
                f"({scene.origin}): put all shards into one folder, and its "
                "rooms will be split."
            )
    return test_rooms


def _hash_files(scenes: list[NumberedScene]) -> str:
    """Hash a bank by the names and contents of its files."""
    files = {}
    for _, scene in scenes:
        files.update(scene.files)
    contents = []
    for name, path in tqdm(sorted(files.items()), "reading the bank"):
        size = path.stat().st_size if path.is_file() else -1
        is_read = path.suffix == ".tar" or 0 <= size <= MAX_BYTES
        contents.append([name, size, hash_file(path) if is_read else ""])
    return fingerprint(contents)[:16]


def _convert(
    scenes: Iterable[NumberedScene],
    sample_rate: int,
    bank_rate: Optional[int],
    left_out: dict[str, str],
) -> Iterator[tuple[str, bytes, dict]]:
    """Read, check and resample scenes; note why some are left out."""
    for number, scene in scenes:
        try:
            responses, metadata = scene.read()
            rate = _check_rate(metadata.get("sample_rate", bank_rate))
            responses = _clean(responses, receivers_of(metadata), rate)
        except (ValueError, OSError) as error:
            left_out[scene.origin] = str(error)
            continue
        rows = [
            resample(row.T.contiguous(), rate, sample_rate).T
            for row in torch.from_numpy(responses)
        ]
        # a response is a density over time: its sum must stay the same
        resampled = torch.stack(rows) * (rate / sample_rate)
        metadata = {
            "receivers": list(EARS),
            **metadata,
            "room": scene.room,
            "origin": scene.origin,
            "sample_rate": sample_rate,
        }
        yield f"{number:06d}", encode_responses(resampled.numpy()), metadata


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
    audible = np.abs(responses).max(axis=(1, 2), initial=0) > 0
    if not audible[:1].any() or audible.sum() < 2:
        raise ValueError("its source or all of its noises are silent")
    last = np.nonzero(np.abs(responses).max(axis=(0, 1)))[0][-1]
    if last >= MAX_SECONDS * rate:
        raise ValueError(f"it is longer than {MAX_SECONDS} s")
    return responses[audible][:, :, : last + 1]
