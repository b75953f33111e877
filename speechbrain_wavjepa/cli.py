"""The command ``wavjepa``: embed, convert, info, export.

Nothing here evaluates a yaml. What takes seconds to import is imported by the
command that needs it, so that help and errors come at once.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

RESUME = {
    "embed": "start the same command again to resume.",
    "convert": "nothing was written.",
    "info": "nothing was written.",
    "export": "nothing was written.",
}
LONGEST = 300  # characters of a value that info prints


class _Terminated(KeyboardInterrupt):
    """The process was asked to end, by SIGTERM."""


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
        error, 130 after Ctrl-C and 143 after SIGTERM, which are told in one
        line.

    Example
    -------
    >>> main(["info", "nowhere"])
    2
    """
    parser = _make_parser()
    options = vars(parser.parse_args(arguments))
    name, command = options.pop("name"), options.pop("command")
    try:
        with _sigterm_is_ctrl_c():
            return command(**options)
    except (ValueError, OSError) as error:
        text = _one_line(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text += f": make room. {RESUME[name].capitalize()}"
        print(f"error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\nInterrupted: {RESUME[name]}", file=sys.stderr)
        return 143 if isinstance(error, _Terminated) else 130


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, with all files put away."""

    def stop(*_) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _one_line(value: Any) -> str:
    """Write something in one line that a terminal shows as it is."""
    text = " ".join(str(value).split())
    return "".join(
        letter if letter.isprintable() else repr(letter)[1:-1]
        for letter in text
    )


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
    embed.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output of another model or of other sounds",
    )
    embed.set_defaults(name="embed", command=run_embed)

    convert = commands.add_parser(
        "convert",
        help="the authors' checkpoints, and back",
        description="Turn a checkpoint of WavJEPA's authors into a pretrained "
        "folder, or back.",
    )
    convert.add_argument("source", help="the authors' file, or our folder")
    convert.add_argument("target", help="the folder, or the file, to write")
    convert.add_argument(
        "--reverse",
        action="store_true",
        help="from a folder to the authors' names (.ckpt or .safetensors)",
    )
    convert.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    convert.set_defaults(name="convert", command=run_convert)

    info = commands.add_parser("info", help="what is in a pretrained folder")
    info.add_argument("folder")
    info.set_defaults(name="info", command=run_info)

    export = commands.add_parser(
        "export", help="the encoder as a torch.export or ONNX program"
    )
    export.add_argument("folder")
    export.add_argument("--output", required=True, help=".pt2 or .onnx")
    export.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    export.set_defaults(name="export", command=run_export)
    return parser


def run_embed(
    places: Sequence[str],
    model: str,
    output: str,
    timestamps: bool = False,
    device: str = "cpu",
    overwrite: bool = False,
) -> int:
    """Embed files and tell what could not be read.

    Arguments
    ---------
    places, model, output, timestamps, device, overwrite
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
    from speechbrain_wavjepa.inference.files import embed_files

    report = embed_files(places, model, output, timestamps, device, overwrite)
    if report.computed or not report.embedded:
        print(f"Embedded {report.embedded} files: {output}")
    else:
        print(
            f"{output} holds the embeddings of these {report.embedded} files "
            "already: nothing to do."
        )
    for name, reason in report.doubtful.items():
        print(f"warning: {_one_line(name)} is {reason}", file=sys.stderr)
    for reason in report.unreadable.values():
        print(f"skipped: {_one_line(reason)}", file=sys.stderr)
    return 1 if report.unreadable else 0


def run_convert(
    source: str,
    target: str,
    reverse: bool = False,
    overwrite: bool = False,
) -> int:
    """Convert the authors' files and tell what was found.

    Arguments
    ---------
    source : str
        The authors' file, or our folder.
    target : str
        The folder, or the file, to write.
    reverse : bool
        From our folder to the authors' file.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If the source does not fit, or the target exists.

    Example
    -------
    >>> run_convert("nowhere.ckpt", str(getfixture("tmpdir")))
    Traceback (most recent call last):
    ...
    ValueError: ... exists: choose another name, or replace it with ...
    """
    _refuse_existing(target, overwrite)
    if reverse:
        from speechbrain_wavjepa.integrations.official import write_official

        print(f"Wrote {write_official(source, target)} tensors to {target}.")
        return 0
    from speechbrain_wavjepa.integrations.official import convert_official

    print(convert_official(source, target))
    print(f"Wrote {target}.")
    return 0


def _refuse_existing(path: str, overwrite: bool) -> None:
    """Replace nothing unless that was asked for."""
    if os.path.lexists(path) and not overwrite:
        raise ValueError(
            f"{path} exists: choose another name, or replace it with "
            "--overwrite."
        )


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
        If it is not a pretrained folder, or a file that has a checksum is
        missing or differs from it.

    Example
    -------
    >>> run_info(str(getfixture("pretrained_folder")))
    channels               1
    ...
    from_hparams would run:
    ...
    parameters             8,688
    checksums              match
    0
    """
    from speechbrain_wavjepa.inference.config import (
        get_checksum,
        list_code,
        read_settings,
    )
    from speechbrain_wavjepa.inference.pretrained import (
        ENCODER_FILE,
        PRETRAINING_FILE,
        check_file,
        read_weights,
    )
    from speechbrain_wavjepa.utils.files import path_inside

    settings = read_settings(folder)
    training = settings.pop("training", None)
    if isinstance(training, Mapping):
        settings |= {f"training: {key}": x for key, x in training.items()}
    for name, value in settings.items():
        if _is_plain(value):
            _print_row(name, value)
    # before anything that a damaged file could stop
    print("from_hparams would run:")
    for code in list_code(folder):
        print(f"  {_one_line(code)}")
    weights = read_weights(Path(folder) / ENCODER_FILE)
    _print_row("parameters", f"{sum(w.numel() for w in weights.values()):,}")
    get_checksum(folder, settings, ENCODER_FILE)  # or there is no list
    listed = [f"{name}.ckpt" for name in settings["checksums"]]
    for name in listed:
        path = path_inside(folder, name)
        if name == PRETRAINING_FILE and not path.exists():
            _print_row("left out", f"{name}, which only pretraining needs")
        else:
            check_file(path, get_checksum(folder, settings, name))
    _print_row("checksums", "match")
    unlisted = {path.name for path in Path(folder).glob("*.ckpt")} - {*listed}
    for name in sorted(unlisted):
        _print_row("without checksum", name)
    return 0


def _print_row(name: Any, value: Any) -> None:
    """Print a name and a value, both of any origin."""
    print(f"{_one_line(name)[:LONGEST]:<22} {_one_line(value)[:LONGEST]}")


def _is_plain(value: Any) -> bool:
    """Tell whether a value is a setting: a number, a text or a list."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))


def run_export(folder: str, output: str, overwrite: bool = False) -> int:
    """Export the encoder and tell how near the program is.

    Arguments
    ---------
    folder, output
        As of ``export.export_program``.
    overwrite : bool
        Replace what is there.

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
    from speechbrain_wavjepa.inference.export import export_program

    _refuse_existing(output, overwrite)
    errors = export_program(folder, output)
    print(f"Wrote {output}.")
    listed = ", ".join(f"{key} {error:.1e}" for key, error in errors.items())
    print(f"Largest difference from the model: {listed}")
    return 0
