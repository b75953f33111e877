"""The command ``wavjepa``: embed, convert, info, filters, export.

Nothing here evaluates a yaml. What takes seconds to import is imported by the
command that needs it, so that help and errors come at once.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from speechbrain_wavjepa.utils.processes import (
    SignalExit,
    exit_by_signal,
    find_rank,
    on_end_signals,
)

LONGEST = 300  # characters of a value that info prints


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command line; give its exit code.

    0 if all went well, 1 if some files could not be read, 2 after an error,
    130 after Ctrl-C, 143 after SIGTERM: what stopped it is told in one line.
    """
    options = vars(_make_parser().parse_args(arguments))
    command, hint = options.pop("command"), options.pop("hint")
    try:
        with on_end_signals(exit_by_signal):
            return command(**options)
    except (ValueError, OSError) as error:
        text = _one_line(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text += f": make room. {hint.capitalize()}"
        print(f"error: {text}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SignalExit) as error:
        print(f"\nInterrupted: {hint}", file=sys.stderr)
        return error.code if isinstance(error, SignalExit) else 130


def _make_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = argparse.ArgumentParser(
        prog="wavjepa", description="Use pretrained WavJEPA folders."
    )
    parser.set_defaults(hint="nothing was written.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    flag: dict[str, Any] = {"action": "store_true"}

    embed = commands.add_parser("embed", help="embeddings of files")
    add = embed.add_argument
    add("places", nargs="+", metavar="FILES_OR_FOLDER")
    add("--model", required=True, help="a pretrained folder")
    add("--output", required=True, help=".npz, .parquet or a folder")
    tokens = "one embedding for each token instead of one for each file"
    add("--timestamps", **flag, help=tokens)
    add("--device", default="cpu", help="cpu or cuda")
    others = "replace an output of another model or of other sounds"
    add("--overwrite", **flag, help=others)
    which = "which of several processes this is, from 0"
    add("--rank", type=int, help=which)
    number = "how many processes embed a part each (default: as launched)"
    add("--world_size", type=int, help=number)
    hint = "start the same command again to resume."
    embed.set_defaults(command=run_embed, hint=hint)

    convert = commands.add_parser(
        "convert",
        help="the authors' checkpoints, and back",
        description="Turn a checkpoint of WavJEPA's authors into a pretrained "
        "folder, or back.",
    )
    add = convert.add_argument
    add("source", help="the authors' file, or our folder")
    add("target", help="the folder, or the file, to write")
    back = "from a folder to the authors' names (.ckpt or .safetensors)"
    add("--reverse", **flag, help=back)
    add("--overwrite", **flag, help="replace what is there")
    convert.set_defaults(command=run_convert)

    info = commands.add_parser("info", help="what is in a pretrained folder")
    info.add_argument("folder")
    info.set_defaults(command=run_info)

    filters = commands.add_parser(
        "filters", help="pictures of what front-ends have learned"
    )
    add = filters.add_argument
    add("folders", nargs="+", metavar="FOLDER")
    add("--output", required=True, metavar="DIR")
    add("--overwrite", **flag, help="replace pictures that are there")
    filters.set_defaults(command=run_filters)

    export = commands.add_parser(
        "export", help="the encoder as a torch.export or ONNX program"
    )
    add = export.add_argument
    add("folder")
    add("--output", required=True, help=".pt2 or .onnx")
    add("--overwrite", **flag, help="replace what is there")
    export.set_defaults(command=run_export)
    return parser


def run_embed(
    output: str,
    device: str,
    rank: Optional[int],
    world_size: Optional[int],
    **options: Any,
) -> int:
    """Embed files, options as of ``embed_files``; tell what is unreadable."""
    rank, world_size = find_rank(rank, world_size)
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # under torchrun
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    from speechbrain_wavjepa.inference.files import embed_files

    report = embed_files(
        output=output,
        device=device,
        rank=rank,
        world_size=world_size,
        **options,
    )
    if world_size > 1:
        output += f" (rank {rank} of {world_size})"
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
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return 0  # torchrun would end the other processes
    return 1 if report.unreadable else 0


def run_convert(
    source: str, target: str, reverse: bool, overwrite: bool
) -> int:
    """Convert the authors' files, or write them, and say what was found."""
    _refuse_existing(target, overwrite)
    from speechbrain_wavjepa.integrations import official

    if reverse:
        count = official.write_official(source, target)
        print(f"Wrote {count} tensors to {target}.")
        return 0
    print(official.convert_official(source, target))
    print(f"Wrote {target}.")
    return 0


def run_info(folder: str) -> int:
    """Tell what is in any folder, without evaluating anything."""
    from speechbrain_wavjepa.inference.config import list_code, read_settings
    from speechbrain_wavjepa.inference.pretrained import check_folder

    settings = read_settings(folder)
    for part in ("frontend_options", "training"):
        values = settings.pop(part, None)
        if isinstance(values, Mapping):
            settings |= {f"{part}: {key}": x for key, x in values.items()}
    for name, value in settings.items():
        if _is_plain(value):
            _print_row(name, value)
    # before anything that a damaged file could stop
    print("from_hparams would run:")
    for code in list_code(folder):
        print(f"  {_one_line(code)}")
    for name, value in check_folder(folder):
        _print_row(name, value)
    return 0


def run_filters(folders: Sequence[str], output: str, overwrite: bool) -> int:
    """Draw the filters of pretrained folders, and their answers to tones."""
    _refuse_existing(os.path.join(output, "filters.json"), overwrite)
    from speechbrain_wavjepa.evaluation import write_filters
    from speechbrain_wavjepa.evaluation.filter_analysis import (
        describe_channels,
    )
    from speechbrain_wavjepa.inference import load_pretrained

    # results/leaf/pretrained is told as results_leaf_pretrained
    names = {path: os.path.normpath(path) for path in folders}
    if len(names) > 1:
        names = {path: x.replace(os.sep, "_") for path, x in names.items()}
    frontends, initial, rates = {}, {}, set()
    for folder, name in names.items():
        encoder = load_pretrained(folder)
        frontend = encoder.embedding_model.model.frontend
        frontends[name] = frontend
        rates.add(rate := encoder.sample_rate)
        if frontend.settings().get("init") == "mel":  # not a matter of chance
            start = type(frontend)(**frontend.settings())
            initial |= describe_channels(name, start, rate)
    if len(rates) > 1 or len(frontends) < len(folders):
        raise ValueError(
            f"Give folders of one sample rate, and each once: {folders} have "
            f"{sorted(rates)} Hz."
        )
    write_filters(frontends, output, initial, rates.pop())
    print(f"Wrote filters.png, filters.json and tones to {output}.")
    return 0


def run_export(folder: str, output: str, overwrite: bool) -> int:
    """Export the encoder and tell how near the program is."""
    from speechbrain_wavjepa.inference.export import export_program

    _refuse_existing(output, overwrite)
    errors = export_program(folder, output)
    print(f"Wrote {output}.")
    listed = ", ".join(f"{key} {error:.1e}" for key, error in errors.items())
    print(f"Largest difference from the model: {listed}")
    return 0


def _refuse_existing(path: str, overwrite: bool) -> None:
    """Replace nothing unless that was asked for."""
    if os.path.lexists(path) and not overwrite:
        raise ValueError(
            f"{path} exists: choose another name, or replace it with "
            "--overwrite."
        )


def _print_row(name: Any, value: Any) -> None:
    """Print a name and a value, both of any origin."""
    print(f"{_one_line(name)[:LONGEST]:<22} {_one_line(value)[:LONGEST]}")


def _one_line(value: Any) -> str:
    """Write something in one line that a terminal shows as it is."""
    text = " ".join(str(value).split())
    return "".join(
        letter if letter.isprintable() else repr(letter)[1:-1]
        for letter in text
    )


def _is_plain(value: Any) -> bool:
    """Tell whether a value is a setting: a number, a text or a list."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))
