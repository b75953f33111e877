"""The authors' checkpoints to pretrained folders, and back.

Every key of the authors' released code
(https://github.com/labhamlet/wavjepa) must be known and every weight of ours
must be there::

    python -m speechbrain_wavjepa.convert OFFICIAL.ckpt FOLDER
    python -m speechbrain_wavjepa.convert --reverse FOLDER OFFICIAL.ckpt

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from speechbrain_wavjepa.model_settings import build_wavjepa
from speechbrain_wavjepa.official import list_keys, read_official
from speechbrain_wavjepa.official_keys import (
    map_official_state,
    map_to_official_state,
)
from speechbrain_wavjepa.official_sizes import check_tables, derive_settings
from speechbrain_wavjepa.official_writer import write_official
from speechbrain_wavjepa.wavjepa import WavJEPA

__all__ = [
    "format_report",
    "load_official",
    "main",
    "map_official_state",
    "map_to_official_state",
]


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


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Arguments
    ---------
    arguments : Sequence[str], optional
        Command line (default: that of the process).

    Returns
    -------
    int
        0, or 2 after an error, which is told in one line.

    Example
    -------
    >>> main(["nowhere.ckpt", "folder"])
    2
    """
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_wavjepa.convert",
        description="Turn a checkpoint of WavJEPA's authors into a pretrained "
        "folder of SpeechBrain, or back.",
    )
    parser.add_argument("source", help="the authors' file, or our folder")
    parser.add_argument("target", help="the folder, or the file, to write")
    parser.add_argument(
        "--reverse",
        action="store_true",
        help="from a folder to the authors' names (.ckpt or .safetensors)",
    )
    parser.add_argument("--key_prefix", help="what stands before all keys")
    parser.add_argument("--strides", type=int, nargs="+")
    parser.add_argument("--encoder_heads", type=int)
    parser.add_argument("--predictor_heads", type=int)
    options = vars(parser.parse_args(arguments))
    source, target = options.pop("source"), options.pop("target")
    try:
        if options.pop("reverse"):
            count = write_official(source, target)
            print(f"Wrote {count} tensors to {target}.")
            return 0
        model, report = load_official(source, **options)
        print(format_report(report))
        # here, because only this needs the toolkit
        from speechbrain_wavjepa.pretrained import write_pretrained

        runtime = ("sample_rate", "window_samples")
        write_pretrained(
            target,
            model,
            {key: report["settings"][key] for key in runtime},
            {
                "notes": f"Converted from the authors' {Path(source).name}.",
                "training_data": "see the authors' page",
                "licence": None,
            },
        )
        print(f"Wrote {target}.")
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
