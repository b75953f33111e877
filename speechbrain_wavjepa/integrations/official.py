"""The sizes of the authors' models, from weights and hyper-parameters.

Shapes: N tokens of a channel, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

Reads the authors' files: Lightning checkpoints and published folders.

Source: the checkpoints of https://github.com/labhamlet/wavjepa. Nothing in a
file is run: of all classes a pickle may hold only tensors and GELU, which the
authors keep among their hyper-parameters.

Authors
 * The speechbrain_wavjepa developers 2026

The authors' checkpoint keys and ours.

One declarative map between the state dict of the authors' released code
(https://github.com/labhamlet/wavjepa) and :class:`WavJEPA`'s, strict both
ways.

Authors
 * The speechbrain_wavjepa developers 2026

Writes our weights under the authors' names, for their tools.

Authors
 * The speechbrain_wavjepa developers 2026

The authors' checkpoints to pretrained folders, and back.

Every key of the authors' released code
(https://github.com/labhamlet/wavjepa) must be known and every weight of ours
must be there.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import os.path
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.inference.config import (
    ENCODER_SETTINGS,
    PRETRAINING_SETTINGS,
    build_wavjepa,
    check_settings,
    check_sizes,
    get_checksum,
    read_settings,
)
from speechbrain_wavjepa.inference.pretrained import (
    ENCODER_FILE,
    PRETRAINING_FILE,
    check_archive,
    check_file,
    check_weights,
    read_weights,
)
from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.lobes.wavjepa import WavJEPA
from speechbrain_wavjepa.nnet.positions import channel_time_positions
from speechbrain_wavjepa.utils.files import atomic_file

SAFE_CLASS = torch.nn.modules.activation.GELU
SAFE_NAME = "torch.nn.modules.activation.GELU"
COMPILE_INFIX = "_orig_mod."
MAX_CONFIG_BYTES = 2**20


class OfficialFile(NamedTuple):
    """What a file of the authors holds.

    Arguments
    ---------
    weights : dict[str, Tensor]
        Weights under the authors' keys, without prefixes.
    hyper_parameters : dict
        Hyper-parameters of their training, or config.json.

    Example
    -------
    >>> OfficialFile({}, {"resample_sr": 16000}).hyper_parameters
    {'resample_sr': 16000}
    """

    weights: dict[str, Tensor]
    hyper_parameters: dict


def read_official(
    path: Union[str, Path], key_prefix: Optional[str] = None
) -> OfficialFile:
    """Read a checkpoint or a published folder of the authors.

    Arguments
    ---------
    path : str or Path
        A Lightning .ckpt, a .safetensors file, or a folder of
        model.safetensors and config.json.
    key_prefix : str, optional
        What stands before each of the authors' keys. By default it is what
        all keys have in common.

    Returns
    -------
    OfficialFile
        The weights and hyper-parameters.

    Raises
    ------
    ValueError
        If the file is damaged, holds other classes, or keys lack the prefix.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "tiny.ckpt"
    >>> weights = {"encoder._orig_mod.norm.bias": torch.zeros(2)}
    >>> weights |= {"mask_token": torch.zeros(1, 1, 2)}
    >>> torch.save({"state_dict": weights}, path)
    >>> list(read_official(path).weights)
    ['encoder.norm.bias', 'mask_token']
    """
    path = file = Path(path)
    if path.is_dir():
        file = path / "model.safetensors"
        weights, _ = _read_safetensors(file)
        hyper_parameters = _read_config(path / "config.json")
    elif path.suffix == ".safetensors":
        weights, hyper_parameters = _read_safetensors(path)
    else:
        content = _read_pickle(path)
        weights = content.get("state_dict")
        hyper_parameters = content.get("hyper_parameters", {})
    if not (
        isinstance(weights, Mapping)
        and isinstance(hyper_parameters, Mapping)
        and len(weights) > 0
        and all(isinstance(value, Tensor) for value in weights.values())
    ):
        raise ValueError(
            f"{path} holds no state_dict of tensors: give a Lightning "
            "checkpoint or a folder with model.safetensors."
        )
    check_weights(dict(weights), file)
    return OfficialFile(
        _plain_keys(weights, key_prefix), dict(hyper_parameters)
    )


def _read_pickle(path: Path) -> dict:
    """Load a checkpoint of tensors, plain values and GELU only."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    content = None
    try:
        check_archive(path)
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        refused = sorted(set(unsafe) - {SAFE_NAME})
        if not refused:
            with torch.serialization.safe_globals([SAFE_CLASS]):
                content = torch.load(path, "cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read, it is cut off or not a checkpoint of "
            f"torch.save: {_one_line(error)} Copy it again."
        ) from error
    if refused:
        raise ValueError(
            f"{path} holds objects of {', '.join(refused)}, which could run "
            "code: save it again with tensors and plain values only."
        )
    return content if isinstance(content, dict) else {}


def _read_safetensors(path: Path) -> tuple[dict, dict]:
    """Load tensors and the hyper-parameters that may stand beside them."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ValueError(
            f"Reading {path} needs the safetensors package: "
            "pip install speechbrain-wavjepa[official]"
        ) from error
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}
        return weights, json.loads(metadata.get("hyper_parameters", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read, it is missing, cut off or not a "
            f"safetensors file: {_one_line(error)} Copy it again."
        ) from error


def _read_config(path: Path) -> dict:
    """Read the config.json of a published folder."""
    try:
        check_file(path)
        with open(path, "rb") as file:
            return json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read: {_one_line(error)} A published folder "
            "has model.safetensors and config.json."
        ) from error


def _one_line(error: Exception) -> str:
    """Shorten an error to one line."""
    return f"{' '.join(str(error).split())[:200].rstrip('.')}."


def _plain_keys(weights: Mapping, key_prefix: Optional[str]) -> dict:
    """Take away what torch.compile and wrappers put before the keys."""
    plain = {
        key.replace(COMPILE_INFIX, ""): value for key, value in weights.items()
    }
    if len(plain) != len(weights):
        raise ValueError(
            f"Keys are there both with and without {COMPILE_INFIX!r}: keep "
            "one set."
        )
    if key_prefix is None:
        common = os.path.commonprefix(list(plain))
        key_prefix = common[: common.rfind(".") + 1] if len(plain) > 1 else ""
    others = [key for key in plain if not key.startswith(key_prefix)]
    if others:
        raise ValueError(
            f"{len(others)} keys do not begin with {key_prefix!r}: "
            f"{list_keys(others)}. Give what stands before 'mask_token'."
        )
    return {key[len(key_prefix) :]: value for key, value in plain.items()}


def list_keys(keys: Sequence[str], most: int = 20) -> str:
    """Write keys in a row, not more than a reader can take in.

    Arguments
    ---------
    keys : Sequence[str]
        The keys.
    most : int
        How many to write.

    Returns
    -------
    str
        The keys, and how many more there are.

    Example
    -------
    >>> list_keys(["one", "two", "three"], most=2)
    'one, two and 1 more'
    """
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


# authors' pattern -> ours, tried in this order; {} stands for a number.
# None: a table that WavJEPA computes itself.
OFFICIAL_KEYS = {
    "pos_encoding_encoder": None,
    "pos_encoding_decoder": None,
    "mask_token": "predictor.mask_token",
    "extract_audio.cnn.0.2.": "frontend.stacks.0.norm.",
    "extract_audio.cnn.{}.0.": "frontend.stacks.0.layers.{}.",
    "extract_audio.cnns.{}.0.2.": "frontend.stacks.{}.norm.",
    "extract_audio.cnns.{}.{}.0.": "frontend.stacks.{}.layers.{}.",
    "feature_norms.": "token_norm.",
    "post_extraction_mapper.": "token_projection.",
    "encoder_to_decoder_mapper.": "predictor.input_projection.",
    "decoder_to_encoder_mapper.": "predictor.output_projection.",
}
ENCODERS = {
    "encoder.": "context_encoder.",
    "teacher_encoder.": "target_encoder.encoder.",
    "decoder.": "predictor.encoder.",
}
ENCODER_KEYS = {
    "layers.{}.self_attn.in_proj_": "layers.{}.attention.query_key_value.",
    "layers.{}.self_attn.out_proj.": "layers.{}.attention.projection.",
    "layers.{}.linear1.": "layers.{}.mlp.0.",
    "layers.{}.linear2.": "layers.{}.mlp.2.",
    "layers.{}.norm1.": "layers.{}.norm1.",
    "layers.{}.norm2.": "layers.{}.norm2.",
    "norm.": "norm.",
}
OFFICIAL_KEYS.update(
    (theirs + their_key, ours + our_key)
    for theirs, ours in ENCODERS.items()
    for their_key, our_key in ENCODER_KEYS.items()
)


def map_official_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' weights to ours.

    Arguments
    ---------
    state_dict : Mapping[str, Tensor]
        Weights under the authors' keys; the infix that torch.compile leaves
        (``_orig_mod.``) is ignored.

    Returns
    -------
    dict[str, Tensor]
        The same tensors for ``WavJEPA.load_state_dict``, which is strict.
        The position tables are left out.

    Raises
    ------
    ValueError
        If a key is unknown.

    Example
    -------
    >>> import torch
    >>> list(map_official_state({"encoder.norm.bias": torch.zeros(2)}))
    ['context_encoder.norm.bias']
    """
    plain = {
        key.replace(COMPILE_INFIX, ""): value
        for key, value in state_dict.items()
    }
    return _rename(plain, OFFICIAL_KEYS, "the authors' code")


def map_to_official_state(
    state_dict: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Rename our weights to the authors'; the inverse of the above.

    Arguments
    ---------
    state_dict : Mapping[str, Tensor]
        ``WavJEPA.state_dict()``.

    Returns
    -------
    dict[str, Tensor]
        The same tensors under the authors' keys, without the position
        tables, which are not weights.

    Raises
    ------
    ValueError
        If a key is unknown.

    Example
    -------
    >>> import torch
    >>> ours = {"context_encoder.norm.bias": torch.zeros(2)}
    >>> list(map_to_official_state(ours))
    ['encoder.norm.bias']
    """
    binaural = any(key.startswith("frontend.stacks.1.") for key in state_dict)
    unused = "extract_audio.cnn." if binaural else "extract_audio.cnns."
    inverse = {
        ours: theirs
        for theirs, ours in OFFICIAL_KEYS.items()
        if ours is not None and not theirs.startswith(unused)
    }
    return _rename(state_dict, inverse, "WavJEPA")


def _rename(
    state_dict: Mapping[str, Tensor], keys: Mapping[str, str], origin: str
) -> dict[str, Tensor]:
    """Apply the first pattern that matches the head of each key."""
    patterns = [
        (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), new)
        for old, new in keys.items()
    ]
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        for pattern, new in patterns:
            match = pattern.match(key)
            if match:
                if new is not None:
                    name = new.format(*match.groups()) + key[match.end() :]
                    if name in renamed:
                        raise ValueError(
                            f"{key} and another key both stand for {name}."
                        )
                    renamed[name] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys are not those of {origin}: "
            f"{list_keys(unknown)}. Is this a WavJEPA checkpoint?"
        )
    return renamed


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


KINDS = (
    *ENCODER_SETTINGS,
    *PRETRAINING_SETTINGS,
    "sample_rate",
    "window_samples",
)


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
    check_settings(settings, KINDS)
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
