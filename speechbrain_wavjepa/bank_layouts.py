"""The layouts of banks of room responses from elsewhere.

Understood are tar shards or a folder of arrays, one for each scene, and the
layout of the paper's bank: json files that list scenes, each with the paths
of its arrays.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

from speechbrain_wavjepa.rooms import EARS


class ForeignScene(NamedTuple):
    """A scene of another bank, not read yet.

    Arguments
    ---------
    key : str
        Its name.
    group : str
        What it must not be split from: its room, or the folder and name of
        its shard.
    read : callable
        Gives responses [1 + P, 2, R] and what is known about them.

    Example
    -------
    >>> ForeignScene("0", "house-1", lambda: (np.zeros((2, 2, 9)), {})).key
    '0'
    """

    key: str
    group: str
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
        If nothing that looks like a bank is there.

    Example
    -------
    >>> list_scenes(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere holds no bank: give tar shards, a folder of .npy ...
    """
    tars = (
        [source] if source.suffix == ".tar" else sorted(source.rglob("*.tar"))
    )
    arrays = sorted(source.glob("*.npy"))
    lists = [
        path
        for path in sorted(source.glob("*.json"))
        if "sampled_regions" in path.read_text(encoding="utf-8")
    ]
    if tars and all(path.exists() for path in tars):
        found = itertools.chain.from_iterable(map(_list_tar, tars))
    elif lists:
        found = _list_regions(lists, Path(array_folder or source))
    elif arrays:
        found = map(_list_array, arrays)
    else:
        raise ValueError(
            f"{source} holds no bank: give tar shards, a folder of .npy "
            "arrays, or of json files with sampled_regions."
        )
    return list(found)


def _list_tar(path: Path) -> Iterator[ForeignScene]:
    """List the arrays of a tar shard."""
    with tarfile.open(path) as tar:
        names = sorted(m.name for m in tar if m.name.endswith(".npy"))
    for name in names:

        def read(name=name):
            with tarfile.open(path) as tar:
                data = tar.extractfile(name).read()
                about_name = name.removesuffix(".npy") + ".json"
                about = {}
                if about_name in tar.getnames():
                    about = json.load(tar.extractfile(about_name))
            return np.load(io.BytesIO(data), allow_pickle=False), about

        key = f"{path.stem}-{Path(name).stem}".replace(".", "-")
        yield ForeignScene(key, f"{path.parent.name}/{path.stem}", read)


def _list_array(path: Path) -> ForeignScene:
    """Describe an array of a folder, with or without a json file."""

    def read():
        about_path = path.with_suffix(".json")
        about = {}
        if about_path.exists():
            about = json.loads(about_path.read_text(encoding="utf-8"))
        return np.load(path, allow_pickle=False), about

    return ForeignScene(path.stem.replace(".", "-"), path.stem, read)


def _list_regions(
    lists: list[Path], array_folder: Path
) -> Iterator[ForeignScene]:
    """List the scenes of the paper's json files, one file for each house."""
    for path in lists:
        regions = json.loads(path.read_text(encoding="utf-8"))
        for number, region in enumerate(regions["sampled_regions"]):
            scene = region["region"]["scene"]

            def read(scene=scene):
                places = [scene["source"], *scene["noise"]]
                arrays = []
                for place in places:
                    name = Path(place["rir"]["binaural_rir_path"]).name
                    arrays.append(np.load(array_folder / name))
                taps = max(array.shape[-1] for array in arrays)
                stacked = np.zeros((len(arrays), len(EARS), taps))
                for row, array in zip(stacked, arrays):
                    row[:, : array.shape[-1]] = array
                source, *noise = (
                    {k: v for k, v in place.items() if k != "rir"}
                    for place in places
                )
                return stacked, {"source": source, "noise": noise}

            yield ForeignScene(f"{path.stem}-{number:06d}", path.stem, read)
