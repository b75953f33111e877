"""Settings of a model: read off it, checked, built; written and read.

A pretrained folder keeps them in hyperparams.yaml, which a template of
``templates/`` gives its form. SpeechBrain's ``from_hparams`` evaluates it as
HyperPyYAML (https://github.com/speechbrain/HyperPyYAML), which can run code;
here it is parsed and nothing is evaluated.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Union

import ruamel.yaml
import yaml
from ruamel.yaml.constructor import SafeConstructor

from speechbrain_wavjepa.dataio.clips import MAX_RATE
from speechbrain_wavjepa.lobes.filterbanks import (
    LeafFrontend,
    MelFrontend,
    SincFrontend,
)
from speechbrain_wavjepa.lobes.frontends import ConvFrontend, Frontend
from speechbrain_wavjepa.lobes.wavjepa import (
    Predictor,
    TargetEncoder,
    WavJEPA,
    WavJEPAEncoder,
)
from speechbrain_wavjepa.nnet.transformer import TransformerEncoder
from speechbrain_wavjepa.processing.audio import MAX_CHANNELS, MIN_RATE


class Setting(NamedTuple):
    """What a setting must be, and its default if it has one."""

    kind: type
    low: float = -math.inf
    high: float = math.inf
    default: Any = None


# no audio model needs more: a stranger's folder cannot ask for all memory
_DIM, _RATIO = Setting(int, 1, 2**20), Setting(float, 1e-6, 2**10)
SIZES = {"dim": _DIM, "depth": Setting(int, 1, 2**10)}  # of a transformer
SIZES |= {"heads": _DIM, "mlp_ratio": _RATIO}
ENCODER_SETTINGS = {
    "channels": Setting(int, 1, MAX_CHANNELS),
    "share_weights": Setting(bool),
    "frontend_dim": _DIM,
    "frontend_layers": Setting(list),
    **{f"encoder_{size}": setting for size, setting in SIZES.items()},
    "encoder_norm_first": Setting(bool),
}
# of a front-end of filters, which has these two instead of frontend_layers
FRONTENDS = (ConvFrontend, LeafFrontend, SincFrontend, MelFrontend)
FRONTENDS = {kind.__name__: kind for kind in FRONTENDS}
FILTER_SETTINGS = {
    "frontend_class": Setting(str),
    "frontend_options": Setting(dict),
}
_SAMPLES, _HZ = Setting(int, 1, 2**14), Setting(float, 1e-3, MAX_RATE)
FILTER_OPTIONS = {
    "num_filters": Setting(int, 1, 2**12),
    "init": Setting(str),
    "compression": Setting(str),
    **dict.fromkeys(("taps", "stride", "token_samples", "frame"), _SAMPLES),
    "filter_stride": _SAMPLES,
    "n_fft": Setting(int, 1, 2**12),
    **dict.fromkeys(("min_hz", "max_hz", "min_low_hz", "min_band_hz"), _HZ),
}
PRETRAINING_SETTINGS = {
    "top_k_layers": Setting(int),
    "target_norm": Setting(str),
    **{f"predictor_{size}": setting for size, setting in SIZES.items()},
}
# How clips are embedded; anything here may be changed when loading.
RUNTIME_SETTINGS = {
    "sample_rate": Setting(int, MIN_RATE, MAX_RATE, 16000),
    "channel_policy": Setting(str, default="first"),
    "level_db": Setting(float, -200, 200, -14.0),
    "window_samples": Setting(int, 1, 2**24, 32160),
    "padding_in_statistics": Setting(bool, default=False),
    "pooling": Setting(str, default="mean"),
    "window_batch": Setting(int, 1, 2**12, 16),
    "overlap": Setting(float, default=0.0),
    "precision": Setting(str, default="fp32"),
    "layer_weights": Setting(bool, default=False),  # of a LayerSum
}
SETTINGS = {**ENCODER_SETTINGS, **PRETRAINING_SETTINGS, **RUNTIME_SETTINGS}
SETTINGS |= {**FILTER_SETTINGS, **FILTER_OPTIONS}
SETTINGS["target_frontend"] = Setting(str)  # "shared" where it is missing

SETTINGS_FILE = "hyperparams.yaml"
MAX_BYTES = 2**20  # of a yaml; ours have a few thousand
CARD_ENTRIES = {"name", "training_data", "licence", "notes", "figures"}

REFERENCE = re.compile(r"<[^>]*>")  # as HyperPyYAML finds them
# Whole references without a dot, which would ask an object for an attribute.
PLAIN_REFERENCE = re.compile(r"<[^<>.]*>")
# What HyperPyYAML fills in or leaves out, without running anything.
KINDS = "null bool int float str timestamp binary seq map merge set omap pairs"
PLAIN_TAGS = {"!ref", "!copy", "!PLACEHOLDER", "!tuple"}
PLAIN_TAGS |= {f"tag:yaml.org,2002:{kind}" for kind in KINDS.split()}


def describe_model(model: WavJEPAEncoder) -> dict[str, Any]:
    """Read the settings off a model; of a WavJEPA those of pretraining too."""
    frontend = model.frontend
    kind = type(frontend)
    if FRONTENDS.get(kind.__name__) is not kind:
        raise ValueError(
            f"A model with a {kind.__name__} cannot be written to a folder: "
            f"use one of {[*FRONTENDS]}, or its checkpoint."
        )
    options = frontend.settings()
    settings = {
        "channels": options.pop("channels"),
        "share_weights": options.pop("share_weights"),
        "frontend_dim": options.pop("dim"),
    }
    if kind is ConvFrontend:
        settings["frontend_layers"] = options["layers"]
    else:
        settings["frontend_class"] = kind.__name__
        settings["frontend_options"] = options
    settings |= {
        **_describe_transformer("encoder", model.context_encoder),
        "encoder_norm_first": model.context_encoder.layers[0].norm_first,
    }
    if isinstance(model, WavJEPA):
        settings |= {
            "top_k_layers": model.target_encoder.top_k_layers,
            "target_norm": model.target_encoder.target_norm,
            **_describe_transformer("predictor", model.predictor.encoder),
        }
        if model.target_frontend is not None:
            settings["target_frontend"] = "ema"
    return settings


def _describe_transformer(part: str, encoder: TransformerEncoder) -> dict:
    """Read the sizes off a stack of blocks."""
    block = encoder.layers[0]
    ratio = block.mlp[0].out_features / encoder.dim
    assert int(encoder.dim * ratio) == block.mlp[0].out_features
    values = (encoder.dim, encoder.depth, block.attention.num_heads, ratio)
    return {f"{part}_{size}": value for size, value in zip(SIZES, values)}


def list_encoder_settings(settings: Mapping[str, Any]) -> list[str]:
    """Name the settings that an encoder with this front-end has."""
    if "frontend_class" not in settings:
        return [*ENCODER_SETTINGS]
    names = [*ENCODER_SETTINGS, *FILTER_SETTINGS]
    names.remove("frontend_layers")
    return names


def build_frontend(settings: Mapping[str, Any]) -> Frontend:
    """Build a front-end, with new weights; see ``describe_model``."""
    names = "channels", "share_weights"
    options = {name: settings[name] for name in names}
    options["dim"] = settings["frontend_dim"]
    if "frontend_class" not in settings:
        return ConvFrontend(layers=settings["frontend_layers"], **options)
    name, given = settings["frontend_class"], settings["frontend_options"]
    if name not in FRONTENDS or name == "ConvFrontend":
        raise ValueError(
            f"frontend_class={name!r:.200} must be one of {[*FRONTENDS][1:]}."
        )
    known = set(inspect.signature(FRONTENDS[name]).parameters) - set(options)
    if set(given) != known:
        raise ValueError(
            f"frontend_options of a {name} are {sorted(known)}, got "
            f"{sorted(map(str, given))}."
        )
    check_settings(given, given)
    return FRONTENDS[name](**given, **options)


def build_encoder(settings: Mapping[str, Any]) -> WavJEPAEncoder:
    """Build the part that embeds, with new weights; see ``describe_model``."""
    check_settings(settings, list_encoder_settings(settings))
    sizes = [settings[f"encoder_{size}"] for size in SIZES]
    norm_first = settings["encoder_norm_first"]
    return WavJEPAEncoder(
        build_frontend(settings),
        TransformerEncoder(*sizes, norm_first=norm_first),
    )


def build_wavjepa(settings: Mapping[str, Any]) -> WavJEPA:
    """Build the whole model as for pretraining, with new weights."""
    check_settings(settings, PRETRAINING_SETTINGS)
    part = build_encoder(settings)
    top_k, norm = settings["top_k_layers"], settings["target_norm"]
    sizes = [settings[f"predictor_{size}"] for size in SIZES]
    return WavJEPA(
        part.frontend,
        part.context_encoder,
        TargetEncoder(part.context_encoder, top_k, norm),
        Predictor(settings["encoder_dim"], *sizes),
        settings.get("target_frontend", "shared"),
    )


def complete_runtime(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give all ``RUNTIME_SETTINGS``, changed as asked for, and check them."""
    if unknown := sorted(set(changes) - set(RUNTIME_SETTINGS)):
        raise ValueError(
            f"Unknown settings {unknown}: there are {[*RUNTIME_SETTINGS]}."
        )
    runtime = {key: entry.default for key, entry in RUNTIME_SETTINGS.items()}
    runtime.update(changes)
    check_settings(runtime, RUNTIME_SETTINGS)
    return runtime


def check_settings(settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse settings that are missing, of another kind or out of range."""
    for name in names:
        if name not in settings:
            raise ValueError(f"The setting {name} is missing: add it.")
        kind, low, high, _ = SETTINGS[name]
        value, must = settings[name], ""
        whole = kind is float and type(value) is int  # -14 instead of -14.0
        if type(value) is not kind and not whole:
            must = f"be of type {kind.__name__}"
        elif kind in (int, float) and not low <= value <= high:  # nor NaN
            must = f"lie between {low} and {high}"
        elif kind is list and not _are_layers(value):
            must = "be a list of [dim, kernel, stride]"
        if must:
            raise ValueError(f"{name} must {must}, got {repr(value)[:200]}.")


def _are_layers(value: list) -> bool:
    """Tell whether a list has the form [[dim, kernel, stride], ...]."""
    return 1 <= len(value) <= 2**10 and all(
        type(layer) is list
        and len(layer) == 3
        and all(type(size) is int and 1 <= size < 2**20 for size in layer)
        for layer in value
    )


def check_sizes(settings: Mapping[str, Any], num_values: int) -> None:
    """Refuse settings that do not fit, or ask for more weights than there are.

    Before anything is built: even without memory that can take 20 s.
    """
    check_settings(settings, list_encoder_settings(settings))
    check_settings(settings, [name for name in SETTINGS if name in settings])
    dim, wanted, below = settings["encoder_dim"], 0, 1
    stacks = 1 if settings["share_weights"] else settings["channels"]
    options = settings.get("frontend_options", {})
    check_settings(
        options, [name for name in FILTER_OPTIONS if name in options]
    )
    wanted += stacks * options.get("num_filters", 0) * settings["frontend_dim"]
    for size, kernel, _ in settings.get("frontend_layers", ()):
        wanted, below = wanted + stacks * below * size * kernel, size
    hidden = int(dim * settings["encoder_mlp_ratio"])
    wanted += settings["encoder_depth"] * (4 * dim + 2 * hidden) * dim
    if wanted > num_values:
        raise ValueError(
            "The file of weights does not fit the model: settings ask for over "
            f"{wanted} values and it has no more than {num_values}."
        )


def fill_template(name: str, values: Mapping[str, Any]) -> str:
    """Fill in each $name; a line that ends in "# if name" needs that value."""
    template = resources.files("speechbrain_wavjepa.inference") / "templates"
    lines = []
    for line in (template / name).read_text(encoding="utf-8").splitlines():
        line, _, condition = line.partition("  # if ")
        if not condition or values.get(condition):
            parts = re.split(r"\$(\w+)", line)
            parts[1::2] = [str(values[part]) for part in parts[1::2]]
            lines.append("".join(parts))
    return "\n".join(lines) + "\n"


def write_hyperparams(
    settings: Mapping[str, Any], classifier: str, num_classes: int
) -> str:
    """Write hyperparams.yaml; ``classifier`` is a public name of this room."""
    values = {name: _to_yaml(value) for name, value in settings.items()}
    values |= {"classifier": classifier, "num_classes": num_classes}
    values["layer_sum"] = settings["layer_weights"]
    values.setdefault("frontend_class", None)
    values["frontend"] = settings.get("frontend_class", "ConvFrontend")
    arguments = "\n".join(
        f"  {name}: !ref <frontend_options[{name}]>"
        for name in settings.get("frontend_options", ())
    )
    # the template has the first one's name, to be yaml by itself
    values["num_filters_and_others"] = arguments.removeprefix("  num_filters: ")
    text = fill_template(SETTINGS_FILE, values)
    return text.replace(": \n", ":\n")  # before a mapping


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice."""

    def ignore_aliases(self, data) -> bool:
        return True


def _to_yaml(value: Any) -> str:
    """Write a plain value for its place after a key."""
    is_block = isinstance(value, Mapping)
    value = dict(value) if is_block else value
    style = {"sort_keys": False, "default_flow_style": not is_block}
    try:
        text = yaml.dump(value, Dumper=_Dumper, width=math.inf, **style)
    except yaml.YAMLError as error:
        kinds = "plain numbers, texts and lists"
        raise ValueError(f"Settings must be {kinds}: {error}") from error
    if is_block:
        return "".join(f"\n  {line}" for line in text.splitlines())
    return text.removesuffix("...\n").strip()


class Tagged(NamedTuple):
    """A value of a yaml that would be code, by its tag; it was not run."""

    tag: str


class _PlainConstructor(SafeConstructor):
    """Takes every unknown tag as a mark and evaluates none."""


_PlainConstructor.add_constructor(None, lambda loader, node: Tagged(node.tag))
# what texts in parentheses are once HyperPyYAML has read anything
_PlainConstructor.add_constructor("!tuple", SafeConstructor.construct_scalar)


def read_settings(folder: Union[str, Path]) -> dict[str, Any]:
    """Read hyperparams.yaml of any folder; what would be code is ``Tagged``."""
    return _read(folder)[0]


def get_checksum(
    folder: Union[str, Path], settings: Mapping[str, Any], name: str
) -> str:
    """Find the SHA-256 of a file in what ``read_settings`` gave."""
    known = settings.get("checksums")
    checksum = isinstance(known, Mapping) and known.get(Path(name).stem)
    if not isinstance(checksum, str):
        raise ValueError(
            f"The {SETTINGS_FILE} of {folder} has no checksum of {name}: make "
            "the folder again, with its recipe or by converting."
        )
    return checksum


def list_code(folder: Union[str, Path]) -> list[str]:
    """List what ``from_hparams`` would run of any folder, at any depth.

    All tags that are not plain; every text with an exclamation mark, since
    HyperPyYAML reads texts in parentheses as yaml again and runs Python's own
    tags; and every text with a reference among other letters, since it is
    evaluated as Python's arithmetic, which can write such a tag unmarked.
    """
    found = set()
    for node in _read(folder)[1]:
        if node.tag not in PLAIN_TAGS:
            found.add(node.tag.replace("tag:yaml.org,2002:", "!!"))
        if isinstance(node, ruamel.yaml.ScalarNode):
            is_reference = node.tag in ("!ref", "!copy")
            is_plain = is_reference and PLAIN_REFERENCE.fullmatch(node.value)
            if (
                "!" in node.value
                or REFERENCE.search(node.value)
                and not is_plain
            ):
                kind = node.tag if is_reference else "the text"
                found.add(f"{kind} {node.value}")
    return sorted(found)


def _read(folder: Union[str, Path]) -> tuple[dict, list[ruamel.yaml.Node]]:
    """Read hyperparams.yaml: its plain values, and all of its nodes."""
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():  # whoever opens a fifo waits for ever
        raise ValueError(f"{folder} has no {SETTINGS_FILE}: give another.")
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} has over {MAX_BYTES} bytes: no settings do.")
    # HyperPyYAML's own parser, so that both see the same
    parser = ruamel.yaml.YAML(typ="safe", pure=True)
    parser.Constructor = _PlainConstructor
    try:
        tree = parser.compose(data.decode())
        if not isinstance(tree, ruamel.yaml.MappingNode):
            raise ValueError("it holds no settings: is it another file?")
        nodes = _list_nodes(tree)
        return parser.constructor.construct_document(tree), nodes
    except (ruamel.yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as yaml: {reason}") from error


def _list_nodes(tree: ruamel.yaml.Node) -> list[ruamel.yaml.Node]:
    """List all nodes; refuse aliases, by which a yaml grows without bound."""
    nodes, seen = [tree], set()
    for node in nodes:  # the list grows meanwhile
        if id(node) in seen:
            raise ValueError(
                "it repeats a part by an alias (*a): write it out."
            )
        seen.add(id(node))
        if not isinstance(node, ruamel.yaml.ScalarNode):
            for child in node.value:
                nodes += child if isinstance(child, tuple) else [child]
    return nodes


def write_card(
    settings: Mapping[str, Any],
    card: Mapping[str, Any],
    num_parameters: int,
    labels: Sequence[str] = (),
) -> str:
    """Write the model card; ``card`` has any of ``CARD_ENTRIES``."""
    if unknown := set(card) - CARD_ENTRIES:
        raise ValueError(
            f"A model card has {sorted(CARD_ENTRIES)}, not {sorted(unknown)}."
        )
    rows = {"encoder's parameters": f"{num_parameters:,}"}
    for name, value in settings.items():
        rows |= value if isinstance(value, Mapping) else {name: value}
    rows |= card.get("figures", {})
    if options := settings.get("frontend_options"):
        stride = options["stride"]
    else:
        stride = math.prod(layer[2] for layer in settings["frontend_layers"])
    values = {"name": "WavJEPA", "training_data": "not stated", **card}
    values |= {
        "kind": "Binaural" if settings["channels"] == 2 else "Mono",
        "token_ms": f"{1000 * stride / settings['sample_rate']:g}",
        "licence_row": card.get("licence") or "not stated",
        "rows": "\n".join(f"| {key} | {x} |" for key, x in rows.items()),
        "num_classes": len(labels),
        "labels": ", ".join([*labels[:20], *["..."] * (len(labels) > 20)]),
    }
    return fill_template("model_card.md", {**settings, **values})
