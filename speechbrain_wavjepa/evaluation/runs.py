"""What a run of an evaluation recipe is called, and what it depends on.

An output folder belongs to a model and settings, each task in it to its data
(``utils.files.claim``).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain_wavjepa.inference.config import read_settings
from speechbrain_wavjepa.utils.experiment import read_made_with
from speechbrain_wavjepa.utils.files import atomic_folder, claim, fingerprint

NAMES = ("model_name", "data_name")  # in the default output folder
# What changes nothing in a task's figures, or is known by its content.
NOT_IN_FIGURES = {
    *NAMES,
    "__set_seed",  # the seed is
    "checkpointer",
    "data_folder",
    "dataset",
    "embeddings_folder",
    "encoder",  # but for its places
    "encoder_key",
    "epoch_counter",
    "folders",
    "irmas_parts",  # another test set, known as such
    "max_bad_fraction",
    "num_workers",
    "output_folder",
    "pretrained",
    "save_folder",
    "save_path",
    "source",
    "task",
    "tasks_dir",
    "train_logger",
}
PLACES = {"folder", "source", "save_path"}  # of an encoder


def name_run(
    hparams_file: Union[str, Path],
    overrides: str,
    data_key: str,
    hash_model: Callable[[Path], str],
) -> tuple[dict[str, Any], str]:
    """Name a run's model and data, if the command line does not.

    Arguments
    ---------
    hparams_file : str or Path
        The recipe's yaml.
    overrides : str
        What the command line changes in it.
    data_key : str
        The key of the folder that holds the data.
    hash_model : callable
        Hashes a pretrained folder: ``embed_files.hash_model``.

    Returns
    -------
    settings : dict[str, Any]
        The plain values of the yaml; nothing is built.
    overrides : str
        With ``model_name`` and ``data_name``.

    Raises
    ------
    ValueError
        If a setting was not given, or given twice, or there is no such model.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> text = "tasks: !PLACEHOLDER\\nmodel_name: null\\ndata_name: null\\n"
    >>> text += "source: null\\nout: !ref results/<data_name>/<model_name>\\n"
    >>> _ = path.write_text(text)
    >>> given = "tasks: my/tasks\\nsource: facebook/wav2vec2-base"
    >>> name_run(path, given, "tasks", None)[0]["out"]
    'results/tasks/wav2vec2-base'
    """
    try:
        settings = read_made_with(hparams_file, overrides, set(), {})
    except ValueError as error:
        raise ValueError(
            f"{hparams_file}: {error} Give it on the command line."
        ) from error
    except ruamel.yaml.error.YAMLError as error:  # such as an option twice
        problem = getattr(error, "problem", None) or error
        raise ValueError(f"The command line: {problem}.") from error
    wanted = {
        "model_name": lambda: _name_model(settings, hash_model),
        "data_name": lambda: (
            Path(os.path.abspath(str(settings[data_key]))).name
        ),
    }
    names = {k: name() for k, name in wanted.items() if settings[k] is None}
    if names:
        overrides = override(overrides, **names)
        settings = read_made_with(hparams_file, overrides, set(), {})
    return settings, overrides


def override(overrides: str, **values: Any) -> str:
    """Set values on top of what the command line changes.

    Arguments
    ---------
    overrides : str
        What the command line changes.
    **values : Any
        Plain values.

    Returns
    -------
    str
        Both.

    Example
    -------
    >>> override("lr: 2", name="{a}: b").splitlines()
    ['lr: 2', "name: '{a}: b'"]
    """
    reader, text = ruamel.yaml.YAML(), io.StringIO()  # which keeps tags
    reader.dump({**(reader.load(overrides) or {}), **values}, text)
    return text.getvalue()


def _name_model(
    settings: Mapping[str, Any], hash_model: Callable[[Path], str]
) -> str:
    """Name a model by its folder, its content and whether it is used."""
    if "pretrained" not in settings:
        return Path(os.path.abspath(str(settings["source"]))).name
    folder = Path(os.path.abspath(str(settings["pretrained"])))
    read_settings(folder)  # or say that it is no pretrained folder
    name = folder.parent.name if folder.name == "pretrained" else folder.name
    suffix = "-random" if settings["random_weights"] else ""
    return f"{name}-{hash_model(folder)[:8]}{suffix}"


def check_numbers(settings: Mapping[str, Any], **lowest: float) -> None:
    """Refuse settings that are no numbers, or too small.

    Arguments
    ---------
    settings : Mapping[str, Any]
        All settings.
    **lowest : int or float
        For some of them the smallest value; an integer asks for one.

    Raises
    ------
    ValueError
        If one is another.

    Example
    -------
    >>> check_numbers({"lr": 1, "batch_size": 0}, lr=0.0, batch_size=1)
    Traceback (most recent call last):
    ...
    ValueError: batch_size=0 must be an integer of 1 or more.
    """
    for name, low in lowest.items():
        value = settings[name]
        kinds = (int,) if isinstance(low, int) else (int, float)
        known = isinstance(value, kinds) and not isinstance(value, bool)
        if not known or not low <= value < math.inf:
            kind = "an integer" if isinstance(low, int) else "a number"
            raise ValueError(
                f"{name}={value!r} must be {kind} of {low} or more."
            )


def build(hparams_file: Union[str, Path], overrides: str) -> dict[str, Any]:
    """Build what a yaml describes; a wrong setting is a user's error.

    Arguments
    ---------
    hparams_file : str or Path
        The recipe's yaml.
    overrides : str
        What the command line changes in it.

    Returns
    -------
    dict[str, Any]
        As ``load_hyperpyyaml`` gives it.

    Raises
    ------
    ValueError
        If a setting is unknown or of a wrong kind.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("lr: 1\\n")
    >>> build(path, "lrr: 2")
    Traceback (most recent call last):
    ...
    ValueError: .../a.yaml: "Override 'lrr' not found in: ['lr']"
    """
    with open(hparams_file, encoding="utf-8") as file:
        try:
            return load_hyperpyyaml(file, overrides)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{hparams_file}: {error}") from error


def list_settings(
    settings: Mapping[str, Any], encoder_key: str
) -> dict[str, Any]:
    """List the model and all settings that figures depend on, but the data.

    Arguments
    ---------
    settings : Mapping[str, Any]
        The plain values of the yaml, as ``name_run`` gives them.
    encoder_key : str
        Tells pretrained models apart by their content.

    Returns
    -------
    dict[str, Any]
        Plain values for ``utils.files.claim``.

    Example
    -------
    >>> encoder = ["!apply:load", {"folder": "here", "random_weights": False}]
    >>> list_settings({"encoder": encoder, "lr": 1, "num_workers": 2}, "0a1b")
    {'lr': 1, 'encoder': ['!apply:load', {'random_weights': False}], ...}
    """
    tag, arguments = settings["encoder"]
    used = {k: v for k, v in arguments.items() if k not in PLACES}
    kept = {k: v for k, v in settings.items() if k not in NOT_IN_FIGURES}
    return {**kept, "encoder": [tag, used], "encoder_key": encoder_key}


def hash_encoder_settings(made_with: Mapping[str, Any]) -> str:
    """Tell encoders apart: the part of ``list_settings`` that embeddings need.

    Arguments
    ---------
    made_with : Mapping[str, Any]
        As ``list_settings`` gives it.

    Returns
    -------
    str
        64 hexadecimal digits. Only random weights depend on the seed.

    Example
    -------
    >>> settings = {"encoder": [], "encoder_key": "0a1b", "seed": 1}
    >>> first = hash_encoder_settings(settings)
    >>> first == hash_encoder_settings({**settings, "seed": 2})
    True
    >>> settings["random_weights"] = True
    >>> hash_encoder_settings(settings) == first
    False
    """
    names = ["encoder", "encoder_key", "pad_to_max_seconds"]
    if made_with.get("random_weights"):
        names.append("seed")
    return fingerprint([made_with.get(name) for name in names])


@contextlib.contextmanager
def finish(folder: Path, fingerprints: Mapping[str, str]) -> Iterator[Path]:
    """Write a task's figures: all of them, or no folder.

    Arguments
    ---------
    folder : Path
        Where they will be.
    fingerprints : Mapping[str, str]
        Of its labels and clips.

    Yields
    ------
    Path
        Where to write.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "esc50"
    >>> with finish(folder, {"clips": "0a1b"}) as aside:
    ...     (aside / "scores.json").touch()
    >>> sorted(path.name for path in folder.iterdir())
    ['made_with.json', 'scores.json']
    """
    with atomic_folder(folder) as aside:
        claim(aside, fingerprints)
        yield aside
