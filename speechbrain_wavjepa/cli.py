"""The command ``wavjepa``: embed, convert, info, export.

Nothing here evaluates a yaml.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from speechbrain_wavjepa import convert
from speechbrain_wavjepa.embed_files import embed_files
from speechbrain_wavjepa.export import export_program
from speechbrain_wavjepa.hyperparams import Tagged, read_settings
from speechbrain_wavjepa.weights import ENCODER_FILE, read_weights


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command.

    Arguments
    ---------
    arguments : Sequence[str], optional
        Command line (default: that of the process).

    Returns
    -------
    int
        0 if all went well, 1 if some files could not be read, 2 after an
        error, which is told in one line.

    Example
    -------
    >>> main(["info", "nowhere"])
    2
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["convert"]:
        return convert.main(arguments[1:])
    options = vars(_make_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        return command(**options)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _make_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = argparse.ArgumentParser(
        prog="wavjepa", description="Use pretrained WavJEPA folders."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    embed = commands.add_parser("embed", help="embeddings of files")
    embed.add_argument("places", nargs="+", metavar="FILES_OR_FOLDER")
    embed.add_argument("--model", required=True, help="a pretrained folder")
    embed.add_argument(
        "--output", required=True, help=".npz, .parquet or a folder"
    )
    embed.add_argument(
        "--timestamps",
        action="store_true",
        help="one embedding for each token instead of one for each file",
    )
    embed.add_argument("--device", default="cpu", help="cpu or cuda")
    embed.set_defaults(command=run_embed)

    commands.add_parser("convert", help="the authors' checkpoints, and back")

    info = commands.add_parser("info", help="what is in a pretrained folder")
    info.add_argument("folder")
    info.set_defaults(command=run_info)

    export = commands.add_parser(
        "export", help="the encoder as a torch.export or ONNX program"
    )
    export.add_argument("folder")
    export.add_argument("--output", required=True, help=".pt2 or .onnx")
    export.set_defaults(command=run_export)
    return parser


def run_embed(
    places: Sequence[str],
    model: str,
    output: str,
    timestamps: bool = False,
    device: str = "cpu",
) -> int:
    """Embed files and tell what could not be read.

    Arguments
    ---------
    places, model, output, timestamps, device
        As of ``embed_files.embed_files``.

    Returns
    -------
    int
        0, or 1 if some files could not be read.

    Example
    -------
    >>> folder = str(getfixture("pretrained_folder"))
    >>> output = str(getfixture("tmpdir").join("embeddings.npz"))
    >>> run_embed([folder], folder, output)
    Embedded 1 files: .../embeddings.npz
    0
    """
    report = embed_files(places, model, output, timestamps, device)
    print(f"Embedded {report.embedded} files: {output}")
    for reason in report.unreadable.values():
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if report.unreadable else 0


def run_info(folder: str) -> int:
    """Tell what is in a pretrained folder, without evaluating anything.

    Arguments
    ---------
    folder : str
        The folder, of whatever origin.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If it is not a pretrained folder.

    Example
    -------
    >>> run_info(str(getfixture("pretrained_folder")))
    channels               1
    ...
    parameters             8,688
    ...
    0
    """
    settings = read_settings(folder)
    weights = read_weights(Path(folder) / ENCODER_FILE)
    plain = {
        name: value
        for name, value in settings.items()
        if _is_plain(value) or name == "training"
    }
    training = plain.pop("training", {})
    plain["parameters"] = f"{sum(w.numel() for w in weights.values()):,}"
    if isinstance(training, Mapping):
        plain |= {
            f"training: {name}": value
            for name, value in training.items()
            if _is_plain(value)
        }
    classes = sorted(
        value.tag.partition(":")[2]
        for value in settings.values()
        if isinstance(value, Tagged)
    )
    for name, value in plain.items():
        print(f"{name:<22} {value}")
    print("from_hparams would run:")
    for name in classes:
        print(f"  {name}")
    return 0


def _is_plain(value) -> bool:
    """Tell whether a value is a setting: a number, a text or a list."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))


def run_export(folder: str, output: str) -> int:
    """Export the encoder and tell how near the program is.

    Arguments
    ---------
    folder, output
        As of ``export.export_program``.

    Returns
    -------
    int
        0.

    Example
    -------
    >>> output = str(getfixture("tmpdir").join("encoder.pt2"))
    >>> run_export(str(getfixture("pretrained_folder")), output)
    Wrote .../encoder.pt2.
    Largest difference from the model: ...
    0
    """
    errors = export_program(folder, output)
    print(f"Wrote {output}.")
    listed = ", ".join(f"{key} {error:.1e}" for key, error in errors.items())
    print(f"Largest difference from the model: {listed}")
    return 0
