"""Writes our weights under the authors' names, for their tools.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import torch

from speechbrain_wavjepa.inference.config import (
    ENCODER_SETTINGS,
    PRETRAINING_SETTINGS,
    check_kinds,
    check_sizes,
    get_checksum,
    read_settings,
)
from speechbrain_wavjepa.inference.pretrained import (
    ENCODER_FILE,
    PRETRAINING_FILE,
    read_weights,
)
from speechbrain_wavjepa.official_keys import map_to_official_state
from speechbrain_wavjepa.official_sizes import OUR_NAMES, make_tables
from speechbrain_wavjepa.utils.files import atomic_file

KINDS = {
    **ENCODER_SETTINGS,
    **PRETRAINING_SETTINGS,
    "sample_rate": int,
    "window_samples": int,
}


def write_official(folder: Union[str, Path], path: Union[str, Path]) -> int:
    """Write a pretrained folder's weights as the authors' files have them.

    Arguments
    ---------
    folder : str or Path
        A pretrained folder with pretraining.ckpt.
    path : str or Path
        The file, .safetensors or, like Lightning's, .ckpt.

    Returns
    -------
    int
        How many tensors were written, position tables included.

    Raises
    ------
    ValueError
        If the folder has only an encoder, or a setting that the authors'
        code cannot have.

    Example
    -------
    >>> write_official("nowhere", "tiny.ckpt")
    Traceback (most recent call last):
    ...
    ValueError: nowhere has no hyperparams.yaml: give a pretrained folder.
    """
    folder, path = Path(folder), Path(path)
    if path.suffix not in (".ckpt", ".safetensors"):
        raise ValueError(f"The file {path} must end in .ckpt or .safetensors.")
    settings = read_settings(folder)
    if not (folder / PRETRAINING_FILE).exists():
        raise ValueError(
            f"{folder} has no {PRETRAINING_FILE}: the authors' files hold the "
            "target encoder and the predictor, so export a pretraining run."
        )
    check_kinds(settings, KINDS)
    shared = settings["channels"] > 1 and settings["share_weights"]
    summed = settings.get("layer_weights", False)
    if shared or summed or settings["encoder_norm_first"]:
        raise ValueError(
            f"{folder} has share_weights, layer_weights or "
            "encoder_norm_first, which the authors' code cannot have: it "
            "cannot be written for it."
        )
    weights = {}
    for name in (ENCODER_FILE, PRETRAINING_FILE):
        checksum = get_checksum(folder, settings, name)
        weights |= read_weights(folder / name, checksum)
    num_values = sum(value.numel() for value in weights.values())
    check_sizes({name: settings[name] for name in KINDS}, num_values)
    state = {**map_to_official_state(weights), **make_tables(settings)}
    with atomic_file(path) as aside:
        if path.suffix == ".safetensors":
            options = _hyper_parameters(settings, "gelu")
            _save_safetensors(state, options, aside)
        else:
            # their code hands these to PyTorch's layers, default ReLU
            options = _hyper_parameters(settings, torch.nn.GELU())
            content = {"state_dict": state, "hyper_parameters": options}
            torch.save(content, aside)
    return len(state)


def _save_safetensors(state: Mapping, options: Mapping, path: Path) -> None:
    """Write tensors, with the hyper-parameters beside them."""
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise ValueError(
            f"Writing {path} needs the safetensors package: "
            "pip install speechbrain-wavjepa[official]"
        ) from error
    save_file(
        {key: value.contiguous() for key, value in state.items()},
        path,
        {"format": "pt", "hyper_parameters": json.dumps(options)},
    )


def _hyper_parameters(settings: Mapping, activation: Any) -> dict[str, Any]:
    """Write the settings in the authors' words."""
    options = {
        "average_top_k_layers": settings["top_k_layers"],
        "resample_sr": settings["sample_rate"],
        "process_audio_seconds": (
            settings["window_samples"] / settings["sample_rate"]
        ),
    }
    for theirs, ours in OUR_NAMES.items():
        dim = settings[f"{ours}_dim"]
        options[f"transformer_{theirs}_layers_cfg"] = {
            "d_model": dim,
            "nhead": settings[f"{ours}_heads"],
            "batch_first": True,
            "norm_first": False,
            "bias": True,
            "dim_feedforward": int(dim * settings[f"{ours}_mlp_ratio"]),
            "dropout": 0.0,
            "activation": activation,
            "layer_norm_eps": 1e-6,
        }
        options[f"transformer_{theirs}_cfg"] = {
            "num_layers": settings[f"{ours}_depth"]
        }
    return options
