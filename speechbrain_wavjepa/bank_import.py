"""Bring a bank of room responses from elsewhere into our form, once.

Shapes: P noise positions, C receivers (ears), R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa import __version__
from speechbrain_wavjepa.audio import resample
from speechbrain_wavjepa.bank_layouts import ForeignScene, list_scenes
from speechbrain_wavjepa.bank_maker import claim_folder
from speechbrain_wavjepa.data.shard_writer import write_shard
from speechbrain_wavjepa.rooms import EARS, encode_responses


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

    Arguments
    ---------
    source : str or Path
        The bank: tar shards, a folder of arrays, or of json files.
    folder : str or Path
        Where to write train/, test/ and manifest.json.
    sample_rate : int
        Rate in Hz that the responses are brought to.
    bank_rate : int, optional
        Rate of the bank, where its scenes do not tell.
    array_folder : str or Path, optional
        Where the arrays lie that json files name.
    test_fraction : float
        Part of the rooms (or shards) that is kept for testing, unless the
        bank has a folder test/.
    scenes_per_shard : int
        Scenes of a shard.

    Returns
    -------
    dict[str, str]
        The scenes that were left out, and why.

    Raises
    ------
    ValueError
        If there is no bank, its rate is unknown, or no scene can be used.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "from").mkdir()
    >>> np.save(folder / "from" / "0.npy", np.ones((3, 2, 640)))
    >>> import_bank(folder / "from", folder / "to", bank_rate=32000)
    {}
    """
    scenes = list_scenes(Path(source), array_folder)
    groups = list(dict.fromkeys(scene.group for scene in scenes))
    num_test = round(len(groups) * test_fraction)
    # shards in a folder test/ stay what they are
    test_groups = {group for group in groups if group.startswith("test/")}
    test_groups = test_groups or set(groups[len(groups) - num_test :])
    folder = Path(folder)
    claim_folder(
        folder,
        {
            "bank": "speechbrain_wavjepa.bank_import",
            "source": Path(source).name,
            "num_scenes": len(scenes),
            "test_groups": len(test_groups),
            "scenes_per_shard": scenes_per_shard,
            "sample_rate": sample_rate,
            "bank_rate": bank_rate,
        },
        {"speechbrain_wavjepa": __version__},
    )
    left_out: dict[str, str] = {}
    num_written = 0
    with tqdm(total=len(scenes), desc="scenes", unit=" scenes") as progress:
        for split in ("train", "test"):
            chosen = [
                scene
                for scene in scenes
                if (scene.group in test_groups) == (split == "test")
            ]
            if chosen:
                (folder / split).mkdir(exist_ok=True)
            for number in range(-(-len(chosen) // scenes_per_shard)):
                start = number * scenes_per_shard
                some = chosen[start : start + scenes_per_shard]
                path = folder / split / f"scenes-{number:06d}.tar"
                if not path.exists():
                    converted = _convert(some, sample_rate, bank_rate, left_out)
                    write_shard(path, converted, ".npy")
                num_written += path.exists()
                progress.update(len(some))
    if not num_written:
        raise ValueError(
            f"None of the {len(scenes)} scenes of {source} can be used. The "
            f"first: {next(iter(left_out.items()))}."
        )
    return left_out


def _convert(
    scenes: list[ForeignScene],
    sample_rate: int,
    bank_rate: Optional[int],
    left_out: dict[str, str],
) -> Iterator[tuple[str, bytes, dict]]:
    """Read, check and resample scenes; note why some are left out."""
    for scene in scenes:
        try:
            responses, about = scene.read()
            rate = about.get("sample_rate", bank_rate)
            if rate is None:
                raise ValueError(
                    "its rate is unknown: give it with --bank_rate"
                )
            responses = _clean(responses, about)
        except (ValueError, OSError, KeyError, EOFError) as error:
            left_out[scene.key] = str(error)
            continue
        count, receivers, taps = responses.shape
        flat = torch.from_numpy(responses.reshape(-1, taps).T).float()
        flat = resample(flat.contiguous(), rate, sample_rate)
        # a response is a density over time: its sum must stay the same
        flat = flat.T.reshape(count, receivers, -1) * (rate / sample_rate)
        about = {
            "receivers": list(EARS),
            "room": scene.group,
            **about,
            "sample_rate": sample_rate,
        }
        yield scene.key, encode_responses(flat.numpy()), about


def _clean(responses: np.ndarray, about: dict) -> np.ndarray:
    """Check responses; drop silent noise positions and the silent end."""
    receivers = len(about.get("receivers", EARS))
    if responses.ndim != 3 or responses.shape[1] != receivers:
        raise ValueError(
            f"it has the shape {list(responses.shape)}, not "
            f"[1 + noise positions, {receivers}, samples]"
        )
    if not np.isfinite(responses).all():
        raise ValueError("it is not finite")
    heard = np.abs(responses).max(axis=(1, 2)) > 0
    if not heard[0] or heard.sum() < 2:
        raise ValueError("its source or all of its noises are silent")
    last = np.nonzero(np.abs(responses).max(axis=(0, 1)))[0][-1]
    return responses[heard][:, :, : last + 1]
