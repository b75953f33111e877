"""The authors' checkpoints to pretrained folders, and back.

Every key of the authors' released code
(https://github.com/labhamlet/wavjepa) must be known and every weight of ours
must be there.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import torch

from speechbrain_wavjepa.inference.config import build_wavjepa, check_sizes
from speechbrain_wavjepa.lobes.wavjepa import WavJEPA
from speechbrain_wavjepa.official import list_keys, read_official
from speechbrain_wavjepa.official_keys import (
    map_official_state,
    map_to_official_state,
)
from speechbrain_wavjepa.official_sizes import check_tables, derive_settings


def load_official(
    path: Union[str, Path],
    key_prefix: Optional[str] = None,
    strides: Optional[Sequence[int]] = None,
    encoder_heads: Optional[int] = None,
    predictor_heads: Optional[int] = None,
) -> tuple[WavJEPA, dict[str, Any]]:
    """Build our model with the weights of a file of the authors.

    Arguments
    ---------
    path : str or Path
        A file or folder that ``official.read_official`` reads.
    key_prefix : str, optional
        What stands before each key (default: what all have in common).
    strides : Sequence[int], optional
        Strides of the convolutions (default: the released models').
    encoder_heads : int, optional
        Attention heads of the encoder, if the file does not tell.
    predictor_heads : int, optional
        The same for the predictor.

    Returns
    -------
    model : WavJEPA
        The model.
    report : dict[str, Any]
        "settings"; "mapped", their keys and ours; "tables", position tables
        that equal ours and were dropped; "assumed", what the file does not
        tell.

    Raises
    ------
    ValueError
        If the file is damaged or of another model; keys that are unknown or
        missing are listed.

    Example
    -------
    >>> load_official("nowhere.ckpt")
    Traceback (most recent call last):
    ...
    ValueError: There is no file nowhere.ckpt.
    """
    weights, hyper_parameters = read_official(path, key_prefix)
    names = map_official_state({key: key for key in weights})
    settings, assumed = derive_settings(
        weights, hyper_parameters, strides, encoder_heads, predictor_heads
    )
    check_sizes(settings, sum(map(torch.numel, weights.values())))
    tables = check_tables(weights, settings)
    model = build_wavjepa(settings)
    expected = set(model.state_dict())
    if missing := sorted(expected - set(names)):
        theirs = map_to_official_state(dict.fromkeys(missing))
        raise ValueError(
            f"{path} lacks {len(missing)} keys: {list_keys(list(theirs))}."
        )
    if unknown := sorted(set(names) - expected):
        raise ValueError(
            f"{path} has {len(unknown)} keys that a model of its size does "
            f"not have: {list_keys([names[key] for key in unknown])}."
        )
    try:
        model.load_state_dict(map_official_state(weights))
    except RuntimeError as error:
        raise ValueError(
            f"{path} has weights of unequal sizes: "
            f"{' '.join(str(error).split())[:400]}"
        ) from error
    mapped = {theirs: ours for ours, theirs in names.items()}
    return model, {
        "settings": settings,
        "mapped": mapped,
        "tables": tables,
        "assumed": assumed,
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Write what was mapped as a table, part by part.

    Arguments
    ---------
    report : Mapping[str, Any]
        The report of ``load_official``.

    Returns
    -------
    str
        A few lines.

    Example
    -------
    >>> mapped = {"encoder.norm.bias": "context_encoder.norm.bias"}
    >>> report = {"mapped": mapped, "tables": [], "assumed": []}
    >>> print(format_report(report))
    encoder                   -> context_encoder     1 tensors
    position tables           none in the file
    taken from the released models: nothing
    """
    parts = Counter(
        (theirs.split(".")[0], ours.split(".")[0])
        for theirs, ours in report["mapped"].items()
    )
    lines = [
        f"{theirs:25s} -> {ours:15s} {count:5d} tensors"
        for (theirs, ours), count in parts.items()
    ]
    tables = "equal ours, dropped" if report["tables"] else "none in the file"
    assumed = ", ".join(report["assumed"]) or "nothing"
    lines += [
        f"{'position tables':25s} {tables}",
        f"taken from the released models: {assumed}",
    ]
    return "\n".join(lines)


def convert_official(
    source: Union[str, Path], folder: Union[str, Path], **options: Any
) -> dict[str, Any]:
    """Write a pretrained folder of a file of the authors.

    Arguments
    ---------
    source : str or Path
        The authors' file or folder.
    folder : str or Path
        The folder to write.
    **options : Any
        As of ``load_official``.

    Returns
    -------
    dict[str, Any]
        The report of ``load_official``.

    Raises
    ------
    ValueError
        If the file is damaged or of another model, or the folder cannot be
        written.

    Example
    -------
    >>> convert_official("nowhere.ckpt", "folder")
    Traceback (most recent call last):
    ...
    ValueError: There is no file nowhere.ckpt.
    """
    # here, because only this needs the toolkit
    from speechbrain_wavjepa.inference.pretrained import write_pretrained

    model, report = load_official(source, **options)
    runtime = ("sample_rate", "window_samples")
    write_pretrained(
        folder,
        model,
        {key: report["settings"][key] for key in runtime},
        {
            "notes": f"Converted from the authors' {Path(source).name}.",
            "training_data": "see the authors' page",
            "licence": None,
        },
    )
    return report
