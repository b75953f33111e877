"""The layouts of banks of room responses from elsewhere.

Understood are tar shards or a folder of arrays, one for each scene, and the
layout of the paper's bank: json files that list scenes, each with the paths
of its arrays.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional, Union

import numpy as np

from speechbrain_wavjepa.augment.brir import (
    EARS,
    MAX_BYTES,
    decode_array,
    decode_json,
    index_tar,
    read_file,
    read_member,
)
from speechbrain_wavjepa.utils.files import path_inside


class ForeignScene(NamedTuple):
    """A scene of another bank, whose responses are not read yet.

    Arguments
    ---------
    origin : str
        Where it lies in that bank.
    room : str
        What it must not be split from: its room, where the bank tells it,
        else its shard, array or json file.
    is_test : bool
        Whether it lies in a folder test/.
    files : dict of str to Path
        The files that it is read from, by their names in the bank.
    read : callable
        Gives responses [1 + P, C, R] and what is known about them.

    Example
    -------
    >>> scene = ForeignScene("0.npy", "house-1", False, {}, lambda: None)
    >>> scene.room
    'house-1'
    """

    origin: str
    room: str
    is_test: bool
    files: dict[str, Path]
    read: Callable[[], tuple[np.ndarray, dict]]


def list_scenes(
    source: Path, array_folder: Union[str, Path, None] = None
) -> list[ForeignScene]:
    """List the scenes of a bank, whatever its layout.

    Arguments
    ---------
    source : Path
        The bank.
    array_folder : str or Path, optional
        Where the arrays lie that json files name.

    Returns
    -------
    list of ForeignScene
        The scenes, sorted by name.

    Raises
    ------
    ValueError
        If nothing that looks like a bank is there, or a file is damaged.

    Example
    -------
    >>> list_scenes(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere holds no bank: give tar shards, a folder of .npy ...
    """
    if source.suffix == ".tar":
        source, tars = source.parent, [source]
    else:
        tars = sorted(source.rglob("*.tar"))
    arrays = sorted(source.glob("*.npy"))
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
    if arrays:
        return list(map(_list_array, arrays))
    raise ValueError(
        f"{source} holds no bank: give tar shards, a folder of .npy "
        "arrays, or of json files with sampled_regions."
    )


def _make_scene(
    origin: str,
    group: str,
    is_test: bool,
    files: dict[str, Path],
    read_array: Callable[[], bytes],
    read_about: Optional[Callable[[], bytes]],
) -> ForeignScene:
    """Describe a scene of one array, with or without a json file."""

    def read():
        about = {} if read_about is None else decode_json(read_about())
        return decode_array(read_array()), about

    room = None
    if read_about is not None:
        try:
            room = decode_json(read_about()).get("room")
        except (ValueError, OSError):
            pass  # raised again, and told, when the scene is read
    room = group if room is None else str(room)
    return ForeignScene(origin, room, is_test, files, read)


def _list_tar(source: Path, path: Path) -> Iterator[ForeignScene]:
    """List the arrays of a tar shard."""
    inside = path.relative_to(source).as_posix()
    places = index_tar(path)
    readers = {
        name: functools.partial(read_member, path, name, place)
        for name, place in places.items()
    }
    for name in sorted(readers):
        if name.endswith(".npy"):
            yield _make_scene(
                f"{inside}::{name}",
                inside,
                "test" in inside.split("/")[:-1],
                {inside: path},
                readers[name],
                readers.get(name.removesuffix(".npy") + ".json"),
            )


def _list_array(path: Path) -> ForeignScene:
    """Describe an array of a folder, with or without a json file."""
    files = {path.name: path}
    read_about = None
    about_path = path.with_suffix(".json")
    if about_path.exists():
        files[about_path.name] = about_path
        read_about = functools.partial(read_file, about_path)
    return _make_scene(
        path.name,
        path.stem,
        False,
        files,
        functools.partial(read_file, path),
        read_about,
    )


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
            pass  # raised again, and told, when the scene is read
        yield ForeignScene(
            f"{path.name}::{number}",
            path.stem,
            False,
            files,
            functools.partial(_read_region, region, folder),
        )


def _region_places(region: dict, folder: Path) -> list[tuple[Path, dict]]:
    """Find the array of the source and of each noise, and what is known."""
    try:
        scene = region["region"]["scene"]
        found = []
        for place in (scene["source"], *scene["noise"]):
            name = PurePosixPath(place["rir"]["binaural_rir_path"]).name
            about = {key: v for key, v in place.items() if key != "rir"}
            found.append((path_inside(folder, name), about))
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
    source, *noise = (about for _, about in places)
    return stacked, {"source": source, "noise": noise}
