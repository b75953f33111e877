"""What the evaluation recipes share: settings, names of runs, and the suite.

An output folder belongs to an encoder and settings, each task in it to its
data (``utils.files.claim``).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

from speechbrain_wavjepa.inference.config import read_settings
from speechbrain_wavjepa.inference.files import hash_model
from speechbrain_wavjepa.utils.experiment import (
    explain_settings,
    override,
    read_made_with,
)
from speechbrain_wavjepa.utils.files import (
    atomic_folder,
    claim,
    fingerprint,
    is_made,
)

# What changes nothing in a task's figures, or is known by its content: a model
# by its key, other parts of IRMAS by their labels.
NOT_IN_FIGURES = {
    "__set_seed", "checkpointer", "data_folder", "data_name", "dataset",
    "embeddings_folder", "encoder", "encoders", "epoch_counter", "folders",
    "irmas_parts", "max_bad_fraction", "model_name", "num_workers",
    "output_folder", "pretrained", "save_folder", "save_path", "source",
    "task", "tasks_dir", "train_logger",
}  # fmt: skip
PLACES = {"folder", "source", "save_path"}  # of an encoder


def name_run(
    hparams_file: Union[str, Path], overrides: str, data_key: str
) -> tuple[dict[str, Any], str]:
    """Name a run's model and data, if the command line does not.

    Returns the plain values of the yaml, with the chosen encoder as [tag,
    arguments], and the overrides with ``model_name`` and ``data_name``.
    """
    with explain_settings(hparams_file):
        settings = read_made_with(hparams_file, overrides, set(), {})
    chosen, names = _choose(settings), {}
    if settings["model_name"] is None:
        names["model_name"] = _name_model(settings["encoder"], chosen)
    if settings["data_name"] is None:
        names["data_name"] = _last_name(settings[data_key])
    overrides = override(overrides, **names)
    settings = read_made_with(hparams_file, overrides, set(), {})
    return {**settings, "encoder": chosen}, overrides


def _choose(settings: Mapping[str, Any]) -> Any:
    """Find the encoder of a yaml, one of several where it has several."""
    encoder, encoders = settings["encoder"], settings.get("encoders")
    if encoders is None:
        return encoder
    if encoder not in encoders:
        raise ValueError(f"encoder={encoder!r} is none of {list(encoders)}.")
    chosen = encoders[encoder]
    if chosen[1].get("folder", "") is None:
        raise ValueError("No model is given: --pretrained FOLDER.")
    return chosen


def _name_model(kind: Any, encoder: list) -> str:
    """Name a model by its folder, its content and whether it is used."""
    arguments = encoder[1]
    if "source" in arguments:
        return _last_name(arguments["source"])
    if "folder" not in arguments:
        return str(kind)
    folder = Path(os.path.abspath(str(arguments["folder"])))
    read_settings(folder)  # or say that it is no pretrained folder
    name = folder.parent.name if folder.name == "pretrained" else folder.name
    suffix = "-random" if arguments["random_weights"] else ""
    return f"{name}-{hash_model(folder)[:8]}{suffix}"


def _last_name(folder: Any) -> str:
    """Name a folder, also one that is given as ``..``."""
    return Path(os.path.abspath(str(folder))).name


def load_encoder(encoders: Mapping[str, Callable], name: str) -> Any:
    """Load one of a yaml's encoders; a wrong argument is a user's error."""
    try:
        return encoders[name]().eval()
    except TypeError as error:
        raise ValueError(f"encoder={name}: {error}") from error


def list_settings(
    settings: Mapping[str, Any], encoder_key: Optional[str] = None
) -> dict[str, Any]:
    """List the model and all settings that figures depend on, but the data.

    The key tells models apart by content; pretrained folders are hashed here.
    """
    tag, arguments = settings["encoder"]
    if encoder_key is None and "folder" in arguments:
        encoder_key = hash_model(arguments["folder"])
    used = {k: v for k, v in arguments.items() if k not in PLACES}
    kept = {k: v for k, v in settings.items() if k not in NOT_IN_FIGURES}
    return {**kept, "encoder": [tag, used], "encoder_key": encoder_key}


def hash_encoder_settings(made_with: Mapping[str, Any]) -> str:
    """Hash the part of ``list_settings`` that embeddings depend on."""
    names = ["encoder", "encoder_key", "pad_to_max_seconds"]
    if made_with.get("random_weights"):
        names.append("seed")  # only random weights depend on it
    return fingerprint([made_with.get(name) for name in names])


def check_numbers(settings: Mapping[str, Any], **lowest: float) -> None:
    """Refuse settings that are no numbers, no integers (as 1), or too small."""
    for name, low in lowest.items():
        value = settings[name]
        kinds = (int,) if isinstance(low, int) else (int, float)
        known = isinstance(value, kinds) and not isinstance(value, bool)
        if not known or not low <= value < math.inf:
            kind = "an integer" if isinstance(low, int) else "a number"
            raise ValueError(
                f"{name}={value!r} must be {kind} of {low} or more."
            )


def run_suite(
    folders: Mapping[str, Path],
    output_folder: Union[str, Path],
    open_task: Callable[[str, Path], tuple[Mapping, Callable[[Path], None]]],
    show: Callable[[str, Path], str],
) -> int:
    """Evaluate tasks one by one and show them; 1 if one could not be done.

    ``open_task`` gives fingerprints of a task's data, and what writes its
    figures into a folder, which appears when all are there and is not redone.
    """
    output_folder, failed = Path(output_folder), []
    width = max(map(len, folders))
    for name, folder in folders.items():
        output = output_folder / name
        try:
            fingerprints, evaluate = open_task(name, folder)
            if not is_made(output, fingerprints):
                with atomic_folder(output) as aside:
                    claim(aside, fingerprints)
                    evaluate(aside)
            print(f"{name:<{width}} {show(name, output)}")
        except (OSError, ValueError) as error:
            print(f"{name:<{width}} error: {error}", file=sys.stderr)
            failed.append(name)
    print(f"Figures and embeddings: {output_folder}")
    if failed:
        print(f"Not done: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))
