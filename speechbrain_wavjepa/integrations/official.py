"""The authors' checkpoints: read as our models, written from our folders.

Source: https://github.com/labhamlet/wavjepa, the released base and Nat-base
models, as a Lightning checkpoint (.ckpt), a .safetensors file, or a published
folder of model.safetensors and config.json. Every key of theirs must be known
and every weight of ours must be there. Nothing in a file is run: besides
tensors and plain values a pickle may hold only GELU, which the authors keep
among their hyper-parameters.

Shapes: N tokens of a channel, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import json
import os.path
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.inference import config, pretrained
from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.lobes.wavjepa import WavJEPA
from speechbrain_wavjepa.nnet.positions import channel_time_positions
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import atomic_file

# authors' pattern -> ours, tried in this order; {} stands for a number.
OFFICIAL_KEYS = {
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
OFFICIAL_KEYS |= {
    theirs + their_key: ours + our_key
    for theirs, ours in ENCODERS.items()
    for their_key, our_key in ENCODER_KEYS.items()
}
COMPILE_INFIX = "_orig_mod."

# No file tells the strides; some leave out heads (here by dim) or others.
STRIDES = [5, 2, 2, 2, 2, 2]
HEADS = {768: 12, 384: 12}
RELEASED = {
    "resample_sr": 16000,
    "process_audio_seconds": 2.01,
    "average_top_k_layers": 8,
    "transformer_encoder_layers_cfg": {},
    "transformer_encoder_cfg": {},
    "transformer_decoder_layers_cfg": {},
    "transformer_decoder_cfg": {},
}
OUR_NAMES = {"encoder": "encoder", "decoder": "predictor"}
# What our blocks do, so what their layers must say if they say anything.
LAYER_CHOICES = {
    "norm_first": False,
    "bias": True,
    "layer_norm_eps": 1e-6,
    "activation": "gelu",
}
# Position tables [1, C*N, D] among their weights; WavJEPA computes them.
TABLES = {
    "pos_encoding_encoder": "encoder_dim",
    "pos_encoding_decoder": "predictor_dim",
}
MAX_TABLES = 2**24  # values of them; the released models have 2**18
MAX_CONFIG_BYTES = 2**20
RUNTIME = ("sample_rate", "window_samples")


def load_official(path: Union[str, Path]) -> tuple[WavJEPA, dict[str, Any]]:
    """Build our model with the weights of a file of the authors.

    Arguments
    ---------
    path : str or Path
        A Lightning .ckpt, a .safetensors file, or a folder of
        model.safetensors and config.json.

    Returns
    -------
    model : WavJEPA
        The model.
    report : dict[str, Any]
        "settings"; "mapped", their keys and ours; "tables", position tables
        that equal ours and were dropped; "assumed", what the file does not
        tell and was taken from the released models.

    Raises
    ------
    ValueError
        If the file is damaged, holds objects that could run code, or is of
        another model; keys that do not fit are listed.

    Example
    -------
    >>> model, report = load_official(getfixture("official_checkpoint"))
    >>> report["settings"]["encoder_depth"], report["assumed"]
    (3, ['strides [5, 2, 2, 2, 2, 2]'])
    """
    weights, options = _read(Path(path))
    try:
        settings, assumed = _derive_settings(weights, options)
    except (LookupError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is no whole WavJEPA: {error!r}") from error
    config.check_sizes(settings, sum(map(torch.numel, weights.values())))
    tables = _check_tables(weights, settings)
    model = config.build_wavjepa(settings)
    try:
        model.load_state_dict(map_official_state(weights))
    except RuntimeError as error:
        raise ValueError(
            f"{path} is of another model: {str(error)[:600]}"
        ) from error
    mapped = map_to_official_state({key: key for key in model.state_dict()})
    report = {"settings": settings, "mapped": mapped}
    return model, {**report, "tables": tables, "assumed": assumed}


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
        code cannot have or their files cannot tell.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import write_pretrained
    >>> model, _ = load_official(getfixture("official_checkpoint"))
    >>> folder = getfixture("tmp_path") / "folder"
    >>> write_pretrained(folder, model)
    >>> write_official(folder, folder.with_name("back.ckpt"))
    109
    """
    folder, path = Path(folder), Path(path)
    if path.suffix not in (".ckpt", ".safetensors"):
        raise ValueError(f"The file {path} must end in .ckpt or .safetensors.")
    settings = config.read_settings(folder)
    if not (folder / pretrained.PRETRAINING_FILE).exists():
        raise ValueError(
            f"{folder} has no {pretrained.PRETRAINING_FILE}, which the "
            "authors' files hold: export a pretraining run."
        )
    target_frontend = settings.get("target_frontend", "shared")
    if "frontend_class" in settings or target_frontend != "shared":
        raise ValueError(
            f"{folder} has a front-end of filters or an averaged one, for "
            "which the authors' files have no place."
        )
    names = [*config.ENCODER_SETTINGS, *config.PRETRAINING_SETTINGS, *RUNTIME]
    config.check_settings(settings, names)
    weights = {}
    for name in (pretrained.ENCODER_FILE, pretrained.PRETRAINING_FILE):
        checksum = config.get_checksum(folder, settings, name)
        weights |= pretrained.read_weights(folder / name, checksum)
    num_values = sum(value.numel() for value in weights.values())
    config.check_sizes({name: settings[name] for name in names}, num_values)
    if (
        (settings["channels"] > 1 and settings["share_weights"])
        or settings.get("layer_weights", False)
        or settings["encoder_norm_first"]
        or STRIDES != [layer[2] for layer in settings["frontend_layers"]]
    ):
        raise ValueError(
            f"{folder} does not fit the authors' code, which has strides "
            f"{STRIDES} and no share_weights, layer_weights and "
            "encoder_norm_first: it cannot be written for it."
        )
    state = {**map_to_official_state(weights), **make_tables(settings)}
    with atomic_file(path) as aside:
        if path.suffix == ".ckpt":
            # their code hands the activation to PyTorch's layers, default ReLU
            options = _make_options(settings, torch.nn.GELU())
            content = {"state_dict": state, "hyper_parameters": options}
            torch.save(content, aside)
        else:
            options = json.dumps(_make_options(settings, "gelu"))
            state = {key: value.contiguous() for key, value in state.items()}
            metadata = {"format": "pt", "hyper_parameters": options}
            safetensors = require("safetensors.torch", "official")
            safetensors.save_file(state, aside, metadata)
    return len(state)


def map_official_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' weights to ours; an unknown key is a ValueError.

    Arguments
    ---------
    state_dict : Mapping[str, Tensor]
        Weights under the authors' keys; the infix that torch.compile leaves
        (``_orig_mod.``) is ignored.

    Returns
    -------
    dict[str, Tensor]
        The same tensors for ``WavJEPA.load_state_dict``, without the position
        tables.

    Example
    -------
    >>> list(map_official_state({"encoder.norm.bias": torch.zeros(2)}))
    ['context_encoder.norm.bias']
    """
    plain = _plain_keys(state_dict)
    plain = {key: plain[key] for key in plain if key not in TABLES}
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

    Example
    -------
    >>> ours = {"context_encoder.norm.bias": torch.zeros(2)}
    >>> list(map_to_official_state(ours))
    ['encoder.norm.bias']
    """
    binaural = any(key.startswith("frontend.stacks.1.") for key in state_dict)
    unused = "extract_audio.cnn." if binaural else "extract_audio.cnns."
    inverse = {
        ours: theirs
        for theirs, ours in OFFICIAL_KEYS.items()
        if not theirs.startswith(unused)
    }
    return _rename(state_dict, inverse, "WavJEPA")


def _rename(state_dict: Mapping, keys: Mapping, origin: str) -> dict:
    """Apply the first pattern that matches the head of each key."""
    patterns = {
        re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")): new
        for old, new in keys.items()
    }
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        for pattern, new in patterns.items():
            if match := pattern.match(key):
                name = new.format(*match.groups()) + key[match.end() :]
                if name not in renamed:
                    renamed[name] = value
                    break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys are not those of {origin}: "
            f"{', '.join(unknown[:20])}. Is this a WavJEPA checkpoint?"
        )
    return renamed


def _plain_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away what torch.compile puts into keys."""
    plain = {key.replace(COMPILE_INFIX, ""): x for key, x in weights.items()}
    if len(plain) != len(weights):
        raise ValueError(f"Keys are there with and without {COMPILE_INFIX}.")
    return plain


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read weights under the authors' plain keys, and hyper-parameters."""
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix == ".safetensors":
        safe_open = require("safetensors", "official").safe_open
        with _explain(file), safe_open(file, framework="pt") as opened:
            weights = {key: opened.get_tensor(key) for key in opened.keys()}
            text = (opened.metadata() or {}).get("hyper_parameters", "{}")
            options = json.loads(text)
    else:
        weights, options = _read_pickle(file)
    if path.is_dir():
        with _explain(path / "config.json") as place, open(place, "rb") as text:
            options = json.loads(text.read(MAX_CONFIG_BYTES))
    pretrained.check_weights(weights, file)
    plain = _plain_keys(weights)
    # what wrappers put before all keys: mask_token and the others share none
    start = os.path.commonprefix(list(plain)).rfind(".") + 1
    return {key[start:]: value for key, value in plain.items()}, options


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[Path]:
    """Say which file cannot be read, whatever damaged bytes raise."""
    if not path.is_file():  # whoever opens a pipe waits for ever
        raise ValueError(f"There is no file {path}.")
    try:
        yield path
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: {str(error)[:200]}. It must be a whole "
            "file of tensors and plain values."
        ) from error


def _read_pickle(path: Path) -> tuple[Any, Any]:
    """Load a checkpoint of tensors, plain values and GELU only."""
    with _explain(path), torch.serialization.safe_globals([torch.nn.GELU]):
        pretrained.check_archive(path)
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if unsafe:
            raise ValueError(f"its {', '.join(sorted(unsafe))} could run code")
        content = torch.load(path, "cpu", weights_only=True)
        if not isinstance(content, dict) or "state_dict" not in content:
            raise ValueError("it holds no state_dict")
    return content["state_dict"], content.get("hyper_parameters", {})


def _derive_settings(
    weights: Mapping[str, Tensor], options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Find a model's settings, and list what the file does not tell."""
    if not isinstance(options, Mapping):
        raise ValueError(f"The hyper-parameters are {str(options)[:200]}.")
    given = {**RELEASED, **options}
    for name, example in RELEASED.items():
        if not isinstance(given[name], type(example)):
            raise ValueError(
                f"The setting {name} must be of type {type(example).__name__}, "
                f"got {repr(given[name])[:200]}."
            )
    left_out = {name: x for name, x in RELEASED.items() if name not in options}
    assumed = [f"{name} {value}" for name, value in left_out.items() if value]
    ear = re.compile(r"extract_audio\.cnns\.(\d+)\.")
    ears = {match[1] for key in weights if (match := ear.match(key))}
    stem = "extract_audio.cnns.0" if ears else "extract_audio.cnn"
    layers = []
    for number, stride in enumerate(STRIDES):
        shape = weights[f"{stem}.{number}.0.weight"].shape
        layers.append([shape[0], shape[-1], stride])
    rate = given["resample_sr"]
    return {
        "channels": len(ears) or 1,
        "share_weights": False,
        "frontend_dim": layers[-1][0],
        "frontend_layers": layers,
        **_derive_transformer("encoder", weights, given, assumed),
        "encoder_norm_first": False,
        **_derive_transformer("decoder", weights, given, assumed),
        "top_k_layers": given["average_top_k_layers"],
        "target_norm": "joint",
        "sample_rate": rate,
        # theirs is cut to 32,159 samples for 2.01 s, which gives as many tokens
        "window_samples": round(given["process_audio_seconds"] * rate),
    }, [f"strides {STRIDES}", *assumed]


def _derive_transformer(
    theirs: str, weights: Mapping, given: Mapping, assumed: list[str]
) -> dict[str, Any]:
    """Read one transformer's sizes, and compare what both places say."""
    ours, name = OUR_NAMES[theirs], f"transformer_{theirs}"
    dim = weights[f"{theirs}.norm.weight"].shape[0]
    hidden = weights[f"{theirs}.layers.0.linear1.weight"].shape[0]
    layer = re.compile(rf"{theirs}\.layers\.(\d+)\.")
    depth = len({match[1] for key in weights if (match := layer.match(key))})
    said = {**given[f"{name}_layers_cfg"], **given[f"{name}_cfg"]}
    if getattr(said.get("activation"), "approximate", None) == "none":
        said["activation"] = "gelu"
    found = {"d_model": dim, "num_layers": depth, "dim_feedforward": hidden}
    for key, value in {**found, **LAYER_CHOICES}.items():
        if said.get(key, value) != value:
            raise ValueError(
                f"The hyper-parameters say {key}={said[key]} of the {theirs}, "
                f"the weights and WavJEPA {value}: is it of another model?"
            )
    num_heads = said.get("nhead", HEADS.get(dim))
    if "nhead" not in said:
        assumed.append(f"{ours}_heads {num_heads}")
    return {
        f"{ours}_dim": dim,
        f"{ours}_depth": depth,
        f"{ours}_heads": num_heads,
        f"{ours}_mlp_ratio": hidden / dim,
    }


def make_tables(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Make the position tables [1, C*N, D] that the authors keep as weights."""
    dim, layers = settings["frontend_dim"], settings["frontend_layers"]
    frontend, channels = ConvFrontend(dim, layers), settings["channels"]
    num_tokens = frontend.num_tokens(settings["window_samples"])
    dims = {key: settings[name] for key, name in TABLES.items()}
    if channels * num_tokens * sum(dims.values()) > MAX_TABLES:
        raise ValueError(
            f"No model of sound has position tables of {num_tokens} tokens: is "
            f"window_samples={settings['window_samples']} right?"
        )
    return {
        key: channel_time_positions(num_tokens, dim, channels)[None]
        for key, dim in dims.items()
    }


def _check_tables(weights: Mapping[str, Tensor], settings: Mapping) -> list:
    """List the position tables that are there, which must equal ours."""
    present = [key for key in TABLES if key in weights]
    for key in present:
        theirs, ours = weights[key], make_tables(settings)[key]
        # half-precision files round the table to that precision
        error = max(1e-6, torch.finfo(theirs.dtype).eps)
        if theirs.shape != ours.shape or not torch.allclose(
            theirs.float(), ours, rtol=0, atol=error
        ):
            raise ValueError(
                f"The position table {key} {list(theirs.shape)} differs from "
                f"ours {list(ours.shape)}: a model with other positions "
                "cannot be converted."
            )
    return present


def _make_options(settings: Mapping[str, Any], activation: Any) -> dict:
    """Write the settings as the authors' hyper-parameters."""
    seconds = settings["window_samples"] / settings["sample_rate"]
    values = (settings["sample_rate"], seconds, settings["top_k_layers"])
    options = dict(zip(RELEASED, values))
    for theirs, ours in OUR_NAMES.items():
        dim = settings[f"{ours}_dim"]
        options[f"transformer_{theirs}_layers_cfg"] = {
            "d_model": dim,
            "nhead": settings[f"{ours}_heads"],
            "dim_feedforward": int(dim * settings[f"{ours}_mlp_ratio"]),
            "batch_first": True,
            "dropout": 0.0,
            **LAYER_CHOICES,
            "activation": activation,
        }
        depth = settings[f"{ours}_depth"]
        options[f"transformer_{theirs}_cfg"] = {"num_layers": depth}
    return options


def convert_official(source: Union[str, Path], folder: Union[str, Path]) -> str:
    """Write a pretrained folder of a file of the authors; describe it."""
    model, report = load_official(source)
    card = {
        "notes": f"Converted from the authors' {Path(source).name}.",
        "training_data": "see the authors' page",
        "licence": None,
    }
    settings = {key: report["settings"][key] for key in RUNTIME}
    pretrained.write_pretrained(folder, model, settings, card)
    return format_report(report)


def format_report(report: Mapping[str, Any]) -> str:
    """Write what ``load_official`` found."""
    return (
        f"{len(report['mapped'])} weights were read; position tables that "
        f"equal ours: {len(report['tables'])}.\nTaken from the released "
        f"models: {', '.join(report['assumed'])}."
    )
