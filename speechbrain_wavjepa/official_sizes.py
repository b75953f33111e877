"""The sizes of the authors' models, from weights and hyper-parameters.

Shapes: N tokens of a channel, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Optional

import torch
from torch import Tensor

from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.nnet.positions import channel_time_positions

STRIDES = (5, 2, 2, 2, 2, 2)  # no file tells them
# Heads of the released models, by dim: shapes do not tell them either.
RELEASED_HEADS = {768: 12, 384: 12}
TABLES = {
    "pos_encoding_encoder": "encoder_dim",
    "pos_encoding_decoder": "predictor_dim",
}
MAX_TABLES = 2**27  # values of them; the released models have 2**18
OUR_NAMES = {"encoder": "encoder", "decoder": "predictor"}
# What our blocks do, so what their layers must say if they say anything.
LAYER_CHOICES = {"norm_first": False, "bias": True, "layer_norm_eps": 1e-6}


def derive_settings(
    weights: Mapping[str, Tensor],
    hyper_parameters: Mapping[str, Any],
    strides: Optional[Sequence[int]] = None,
    encoder_heads: Optional[int] = None,
    predictor_heads: Optional[int] = None,
) -> tuple[dict, list[str]]:
    """Find the settings of the model that weights belong to.

    Arguments
    ---------
    weights : Mapping[str, Tensor]
        The authors' weights under their own keys.
    hyper_parameters : Mapping[str, Any]
        Their hyper-parameters; may be empty.
    strides : Sequence[int], optional
        Strides of the convolutions (default: the released models').
    encoder_heads : int, optional
        Attention heads of the encoder, if the hyper-parameters lack them.
    predictor_heads : int, optional
        The same for the predictor.

    Returns
    -------
    settings : dict
        Settings for ``model_settings.build_wavjepa``.
    assumed : list[str]
        What the file does not say and was taken from the released models.

    Raises
    ------
    ValueError
        If weights are missing, or the hyper-parameters describe a model that
        is not WavJEPA.

    Example
    -------
    >>> derive_settings({"mask_token": torch.zeros(1, 1, 8)}, {})
    Traceback (most recent call last):
    ...
    ValueError: The weights lack extract_audio.cnn.0.0.weight: ...
    """
    assumed = []
    settings = _derive_frontend(weights, strides, assumed)
    heads = {"encoder": encoder_heads, "decoder": predictor_heads}
    for theirs, given in heads.items():
        settings |= _derive_transformer(
            theirs, weights, hyper_parameters, given, assumed
        )
    rate = _take(hyper_parameters, "resample_sr", 16000, assumed)
    seconds = _take(hyper_parameters, "process_audio_seconds", 2.01, assumed)
    top_k = _take(hyper_parameters, "average_top_k_layers", 8, assumed)
    return {
        **settings,
        "encoder_norm_first": False,
        "top_k_layers": top_k,
        "target_norm": "joint",
        "sample_rate": rate,
        # theirs is cut to 32,159 samples for 2.01 s, which gives as many
        # tokens
        "window_samples": round(seconds * rate),
    }, assumed


def _derive_frontend(
    weights: Mapping[str, Tensor],
    strides: Optional[Sequence[int]],
    assumed: list[str],
) -> dict:
    """Read the convolutions of all channels off their weights."""
    ears = {
        match[1]
        for key in weights
        if (match := re.match(r"extract_audio\.cnns\.(\d+)\.", key))
    }
    stem = "extract_audio.cnns.0" if ears else "extract_audio.cnn"
    _shape(weights, f"{stem}.0.0.weight")
    kernels = []
    while (key := f"{stem}.{len(kernels)}.0.weight") in weights:
        shape = _shape(weights, key)
        kernels.append((shape[0], shape[-1]))
    if strides is None:
        strides = STRIDES
        assumed.append(f"strides {list(strides)}")
    if len(strides) != len(kernels) or min(strides) < 1:
        raise ValueError(
            f"The front-end has {len(kernels)} convolutions and there are "
            f"{len(strides)} strides, {list(strides)}: give one for each, 1 or "
            "more."
        )
    layers = [
        [dim, kernel, int(stride)]
        for (dim, kernel), stride in zip(kernels, strides)
    ]
    return {
        "channels": len(ears) or 1,
        "share_weights": False,
        "frontend_dim": layers[-1][0],
        "frontend_layers": layers,
    }


def _derive_transformer(
    theirs: str,
    weights: Mapping[str, Tensor],
    hyper_parameters: Mapping[str, Any],
    num_heads: Optional[int],
    assumed: list[str],
) -> dict:
    """Read one transformer's sizes, and compare what both places say."""
    ours = OUR_NAMES[theirs]
    dim = _shape(weights, f"{theirs}.norm.weight")[0]
    hidden = _shape(weights, f"{theirs}.layers.0.linear1.weight")[0]
    pattern = re.compile(rf"{theirs}\.layers\.(\d+)\.")
    depth = len({match[1] for key in weights if (match := pattern.match(key))})
    said = {}
    for name in (
        f"transformer_{theirs}_layers_cfg",
        f"transformer_{theirs}_cfg",
    ):
        said |= _take(hyper_parameters, name, {}, [], Mapping)
    found = {"d_model": dim, "num_layers": depth, "dim_feedforward": hidden}
    for name, value in {**found, **LAYER_CHOICES}.items():
        if said.get(name, value) != value:
            raise ValueError(
                f"The hyper-parameters say {name}={said[name]} of the "
                f"{theirs}, the weights and WavJEPA {value}: is the file of "
                "another model?"
            )
    activation = said.get("activation", torch.nn.GELU())
    if getattr(activation, "approximate", activation) not in ("none", "gelu"):
        raise ValueError(
            f"WavJEPA has exact GELUs, the {theirs} {activation}: is the "
            "file of another model?"
        )
    num_heads = said.get("nhead", num_heads)
    if num_heads is None:
        if dim not in RELEASED_HEADS:
            raise ValueError(
                f"The file does not tell the attention heads of the {theirs} "
                f"of dim {dim}: give {ours}_heads."
            )
        num_heads = RELEASED_HEADS[dim]
        assumed.append(f"{ours}_heads {num_heads}")
    return {
        f"{ours}_dim": dim,
        f"{ours}_depth": depth,
        f"{ours}_heads": num_heads,
        f"{ours}_mlp_ratio": hidden / dim,
    }


def _shape(weights: Mapping[str, Tensor], key: str) -> torch.Size:
    """Return the shape of a weight that must be there."""
    if key not in weights:
        raise ValueError(
            f"The weights lack {key}: is this a whole WavJEPA checkpoint, and "
            "key_prefix right?"
        )
    shape = weights[key].shape
    if not shape or 0 in shape:
        raise ValueError(f"The weight {key} has the shape {list(shape)}.")
    return shape


def _take(
    hyper_parameters: Mapping[str, Any],
    name: str,
    released: Any,
    assumed: list[str],
    kind: type = Real,
) -> Any:
    """Return a hyper-parameter, or the released models' and note that."""
    if name not in hyper_parameters:
        assumed.append(f"{name} {released}")
    value = hyper_parameters.get(name, released)
    if not isinstance(value, kind):
        raise ValueError(f"The hyper-parameter {name} is {value!r}.")
    return value


def make_tables(settings: Mapping) -> dict[str, Tensor]:
    """Make the position tables that the authors' code keeps as weights.

    Arguments
    ---------
    settings : Mapping
        Settings of a model.

    Returns
    -------
    dict[str, Tensor]
        Their keys and the tables [1, C*N, D].

    Raises
    ------
    ValueError
        If they would not fit into memory.

    Example
    -------
    >>> tables = make_tables(
    ...     {
    ...         "channels": 1,
    ...         "frontend_dim": 8,
    ...         "frontend_layers": [[8, 160, 160]],
    ...         "window_samples": 32000,
    ...         "encoder_dim": 16,
    ...         "predictor_dim": 4,
    ...     }
    ... )
    >>> tables["pos_encoding_encoder"].shape
    torch.Size([1, 200, 16])
    """
    channels, num_tokens = settings["channels"], _count_tokens(settings)
    dims = sum(settings[dim] for dim in TABLES.values())
    if channels * num_tokens * dims > MAX_TABLES:
        raise ValueError(
            f"The settings ask for position tables of {channels} channel(s) "
            f"of {num_tokens} tokens, which no model of sound has: is "
            f"window_samples={settings['window_samples']} right?"
        )
    return {
        key: channel_time_positions(num_tokens, settings[dim], channels)[None]
        for key, dim in TABLES.items()
    }


def _count_tokens(settings: Mapping) -> int:
    """Count the tokens of a window and channel."""
    frontend = ConvFrontend(
        settings["frontend_dim"], settings["frontend_layers"]
    )
    return frontend.num_tokens(settings["window_samples"])


def check_tables(weights: Mapping[str, Tensor], settings: Mapping) -> list[str]:
    """Compare the authors' position tables with ours.

    Arguments
    ---------
    weights : Mapping[str, Tensor]
        The authors' weights.
    settings : Mapping
        Settings of the model.

    Returns
    -------
    list[str]
        The tables that are there and equal ours; they need not be kept.

    Raises
    ------
    ValueError
        If one differs.

    Example
    -------
    >>> check_tables({"mask_token": torch.zeros(1)}, {})
    []
    """
    present = [key for key in TABLES if key in weights]
    if not present:
        return []
    rows = settings["channels"] * _count_tokens(settings)
    for key in present:
        # first, since a file can ask for windows without end
        shape = [1, rows, settings[TABLES[key]]]
        if list(weights[key].shape) != shape:
            raise ValueError(
                f"The position table {key} has shape "
                f"{list(weights[key].shape)}, not {shape}: a model with other "
                "positions cannot be converted."
            )
    tables = make_tables(settings)
    for key in present:
        # half-precision files round the table to that precision
        tolerance = max(1e-6, torch.finfo(weights[key].dtype).eps)
        error = (weights[key].float() - tables[key]).abs().max().item()
        if error > tolerance:
            raise ValueError(
                f"The position table {key} has values that differ from ours "
                f"by {error:.2g}: a model with other positions cannot be "
                "converted."
            )
    return present
