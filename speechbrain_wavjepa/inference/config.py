"""The hyperparams.yaml of a pretrained folder: written and read.

SpeechBrain's ``from_hparams`` evaluates this file, and a yaml of HyperPyYAML
(https://github.com/speechbrain/HyperPyYAML) can run code. Here it is only
read.

Authors
 * The speechbrain_wavjepa developers 2026

The settings of a model: read off it, and built into one again.

Authors
 * The speechbrain_wavjepa developers 2026

The settings of a classifier: read off it, and built into one again.

Authors
 * The speechbrain_wavjepa developers 2026

The model card of a pretrained folder, README.md.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import ruamel.yaml
import yaml
from ruamel.yaml.constructor import SafeConstructor
from torch import nn

from speechbrain_wavjepa.dataio.clips import MAX_RATE
from speechbrain_wavjepa.inference.classifiers import (
    LinearClassifier,
    MissingClassifier,
    MultilabelClassifier,
)
from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.lobes.wavjepa import (
    Predictor,
    TargetEncoder,
    WavJEPA,
    WavJEPAEncoder,
)
from speechbrain_wavjepa.nnet.transformer import TransformerEncoder
from speechbrain_wavjepa.processing.audio import MAX_CHANNELS, MIN_RATE

# How clips are embedded; anything here may be changed when loading.
RUNTIME_SETTINGS = {
    "sample_rate": 16000,
    "channel_policy": "first",
    "level_db": -14.0,
    "window_samples": 32160,
    "padding_in_statistics": False,
    "pooling": "mean",
    "window_batch": 16,
    "overlap": 0.0,
    "precision": "fp32",
    "layer_weights": False,  # of a LayerSum; the last layer is taken without
}
ENCODER_SETTINGS = {
    "channels": int,
    "share_weights": bool,
    "frontend_dim": int,
    "frontend_layers": list,
    "encoder_dim": int,
    "encoder_depth": int,
    "encoder_heads": int,
    "encoder_mlp_ratio": float,
    "encoder_norm_first": bool,
}
PRETRAINING_SETTINGS = {
    "top_k_layers": int,
    "target_norm": str,
    "predictor_dim": int,
    "predictor_depth": int,
    "predictor_heads": int,
    "predictor_mlp_ratio": float,
}

# What no model of sound needs more of: a strange folder cannot ask for all
# memory, nor for more weights than it has.
LIMITS = {
    "channels": (1, MAX_CHANNELS),
    "sample_rate": (MIN_RATE, MAX_RATE),
    "window_samples": (1, 2**24),
    "window_batch": (1, 2**12),
    "level_db": (-200, 200),
    "frontend_dim": (1, 2**20),
    "encoder_dim": (1, 2**20),
    "encoder_depth": (1, 2**10),
    "encoder_heads": (1, 2**20),
    "encoder_mlp_ratio": (1e-6, 2**10),
    "predictor_dim": (1, 2**20),
    "predictor_heads": (1, 2**20),
    "predictor_mlp_ratio": (1e-6, 2**10),
}


def describe_model(model: WavJEPAEncoder) -> dict:
    """Read all sizes off a model.

    Arguments
    ---------
    model : WavJEPAEncoder
        A model; of a WavJEPA also the predictor and the targets.

    Returns
    -------
    dict
        Plain values from which ``build_encoder`` or ``build_wavjepa`` makes
        the same model again.

    Raises
    ------
    ValueError
        If the front-end is not a ConvFrontend.

    Example
    -------
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> settings = describe_model(model)
    >>> settings["frontend_layers"], settings["encoder_heads"]
    ([[8, 160, 160]], 4)
    """
    frontend = model.frontend
    if not isinstance(frontend, ConvFrontend):
        raise ValueError(
            f"A model with a {type(frontend).__name__} cannot be written as a "
            "pretrained folder, only one with a ConvFrontend: keep its "
            "training checkpoint."
        )
    settings = {
        "channels": frontend.channels,
        "share_weights": frontend.share_weights,
        "frontend_dim": frontend.dim,
        "frontend_layers": [
            [layer.out_channels, layer.kernel_size[0], layer.stride[0]]
            for layer in frontend.stacks[0].layers
        ],
        **_describe_transformer("encoder", model.context_encoder),
        "encoder_norm_first": model.context_encoder.layers[0].norm_first,
    }
    if isinstance(model, WavJEPA):
        settings |= {
            "top_k_layers": model.target_encoder.top_k_layers,
            "target_norm": model.target_encoder.target_norm,
            **_describe_transformer("predictor", model.predictor.encoder),
        }
    return settings


def _describe_transformer(name: str, encoder: TransformerEncoder) -> dict:
    """Read the sizes off a stack of blocks."""
    block = encoder.layers[0]
    hidden = block.mlp[0].out_features
    assert int(encoder.dim * (hidden / encoder.dim)) == hidden
    return {
        f"{name}_dim": encoder.dim,
        f"{name}_depth": encoder.depth,
        f"{name}_heads": block.attention.num_heads,
        f"{name}_mlp_ratio": hidden / encoder.dim,
    }


def build_encoder(settings: Mapping) -> WavJEPAEncoder:
    """Build the part of the model that makes embeddings.

    Arguments
    ---------
    settings : Mapping
        Sizes as ``describe_model`` gives them; other entries are ignored.

    Returns
    -------
    WavJEPAEncoder
        The model, with new weights.

    Raises
    ------
    ValueError
        If a size is missing or of the wrong kind.

    Example
    -------
    >>> encoder = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> build_encoder(describe_model(encoder)).context_encoder.depth
    2
    """
    check_kinds(settings, ENCODER_SETTINGS)
    return WavJEPAEncoder(
        ConvFrontend(
            settings["frontend_dim"],
            settings["frontend_layers"],
            settings["channels"],
            settings["share_weights"],
        ),
        TransformerEncoder(
            settings["encoder_dim"],
            settings["encoder_depth"],
            settings["encoder_heads"],
            settings["encoder_mlp_ratio"],
            settings["encoder_norm_first"],
        ),
    )


def build_wavjepa(settings: Mapping) -> WavJEPA:
    """Build the whole model, as for pretraining.

    Arguments
    ---------
    settings : Mapping
        Sizes as ``describe_model`` gives them for a WavJEPA.

    Returns
    -------
    WavJEPA
        The model, with new weights.

    Raises
    ------
    ValueError
        If a size is missing or of the wrong kind.

    Example
    -------
    >>> encoder = TransformerEncoder(16, 2, 4)
    >>> model = WavJEPA(
    ...     ConvFrontend(8, [[8, 160, 160]]),
    ...     encoder,
    ...     TargetEncoder(encoder, 2),
    ...     Predictor(16, 8, 1, 2),
    ... )
    >>> again = build_wavjepa(describe_model(model))
    >>> again.state_dict().keys() == model.state_dict().keys()
    True
    """
    check_kinds(settings, PRETRAINING_SETTINGS)
    part = build_encoder(settings)
    return WavJEPA(
        part.frontend,
        part.context_encoder,
        TargetEncoder(
            part.context_encoder,
            settings["top_k_layers"],
            settings["target_norm"],
        ),
        Predictor(
            settings["encoder_dim"],
            settings["predictor_dim"],
            settings["predictor_depth"],
            settings["predictor_heads"],
            settings["predictor_mlp_ratio"],
        ),
    )


def check_kinds(settings: Mapping, kinds: Mapping[str, type]) -> None:
    """Check that settings are there and of the right kind.

    Arguments
    ---------
    settings : Mapping
        Settings from a file or a user.
    kinds : Mapping[str, type]
        What each of them must be.

    Raises
    ------
    ValueError
        If one is not, with its name.

    Example
    -------
    >>> check_kinds({"channels": "two"}, {"channels": int})
    Traceback (most recent call last):
    ...
    ValueError: The setting channels must be of type int, got 'two'.
    """
    for name, kind in kinds.items():
        if name not in settings:
            raise ValueError(f"The setting {name} is missing: add it.")
        value = settings[name]
        whole = kind is float and type(value) is int  # -14 instead of -14.0
        if type(value) is not kind and not whole:
            raise ValueError(
                f"The setting {name} must be of type {kind.__name__}, got "
                f"{value!r}."
            )


def check_sizes(settings: Mapping, num_values: int) -> None:
    """Refuse settings of a model that cannot be, before it is built.

    Arguments
    ---------
    settings : Mapping
        Settings from a file, of ``RUNTIME_SETTINGS`` and of an encoder.
    num_values : int
        How many values the weights have that are there for it.

    Raises
    ------
    ValueError
        If a size is missing, of the wrong kind or out of its range, or the
        model has more weights than there are.

    Example
    -------
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> settings = {**RUNTIME_SETTINGS, **describe_model(model)}
    >>> check_sizes({**settings, "encoder_depth": 10**9}, 5000)
    Traceback (most recent call last):
    ...
    ValueError: The setting encoder_depth must lie between 1 and 1024, ...
    """
    check_kinds(settings, ENCODER_SETTINGS)
    layers = settings["frontend_layers"]
    sizes = [size for layer in layers if type(layer) is list for size in layer]
    if (
        not 1 <= len(layers) <= 2**10
        or any(type(layer) is not list or len(layer) != 3 for layer in layers)
        or any(type(size) is not int or not 1 <= size < 2**20 for size in sizes)
    ):
        raise ValueError(
            "The setting frontend_layers must be a list of [dim, kernel, "
            f"stride], got {str(layers)[:200]}."
        )
    for name, (low, high) in LIMITS.items():
        if not low <= settings.get(name, low) <= high:
            raise ValueError(
                f"The setting {name} must lie between {low} and {high}, got "
                f"{settings[name]}."
            )
    below = [1, *(dim for dim, _, _ in layers)]
    stacks = 1 if settings["share_weights"] else settings["channels"]
    wanted = stacks * sum(
        dim_below * dim * kernel
        for dim_below, (dim, kernel, _) in zip(below, layers)
    )
    dim = settings["encoder_dim"]
    hidden = int(dim * settings["encoder_mlp_ratio"])
    wanted += settings["encoder_depth"] * (4 * dim + 2 * hidden) * dim
    if wanted > num_values:
        raise ValueError(
            "The file of weights does not fit the model: the settings ask for "
            f"over {wanted} values and it holds {num_values}."
        )


KNOWN = (LinearClassifier, MultilabelClassifier)


def describe_classifier(
    classifier: Optional[nn.Module],
    labels: Optional[Sequence[str]],
    given: Mapping[str, Any],
) -> tuple[str, dict]:
    """Name a classifier's class and arguments.

    Arguments
    ---------
    classifier : nn.Module or None
        The classifier, if there is one.
    labels : Sequence[str] or None
        Its classes.
    given : Mapping[str, Any]
        "class" and plain arguments of one that is not of this package.

    Returns
    -------
    name : str
        Dotted name of its class.
    arguments : dict
        What the class is built with.

    Raises
    ------
    ValueError
        If classifier and labels do not belong together, or nobody knows how
        the classifier is built.

    Example
    -------
    >>> name, arguments = describe_classifier(
    ...     LinearClassifier(16, 2), ["dog", "rain"], {}
    ... )
    >>> name.rsplit(".")[-1], arguments
    ('LinearClassifier', {'dim': 16, 'num_classes': 2})
    """
    if (classifier is None) != (not labels):
        raise ValueError("Give a classifier together with its labels.")
    if labels and len(set(labels)) != len(labels):
        raise ValueError(f"Some labels are there twice: {list(labels)}.")
    kind = MissingClassifier if classifier is None else type(classifier)
    name, arguments = f"{kind.__module__}.{kind.__name__}", dict(given)
    if kind in KNOWN:
        dim, num_classes = classifier.linear.weight.T.shape
        arguments = {"dim": dim, "num_classes": num_classes}
    elif classifier is not None and "class" not in given:
        raise ValueError(
            f"How is a {kind.__name__} built? Give "
            'settings["classifier"] = {"class": "dotted.name", arguments}.'
        )
    return arguments.pop("class", name), arguments


SETTINGS_FILE = "hyperparams.yaml"
MAX_BYTES = 2**20  # of a yaml; ours have a few thousand
HYPERPARAMS = """\
# ############################################################################
# Model: WavJEPA (https://arxiv.org/abs/2509.23238), pretrained
# Load with speechbrain.inference: EncoderClassifier, WaveformEncoder
# Needs the package speechbrain_wavjepa
# ############################################################################

{values}
frontend: !new:speechbrain_wavjepa.lobes.ConvFrontend
  dim: !ref <frontend_dim>
  layers: !ref <frontend_layers>
  channels: !ref <channels>
  share_weights: !ref <share_weights>

context_encoder: !new:speechbrain_wavjepa.nnet.TransformerEncoder
  dim: !ref <encoder_dim>
  depth: !ref <encoder_depth>
  num_heads: !ref <encoder_heads>
  mlp_ratio: !ref <encoder_mlp_ratio>
  norm_first: !ref <encoder_norm_first>

wavjepa: !new:speechbrain_wavjepa.lobes.WavJEPAEncoder
  frontend: !ref <frontend>
  context_encoder: !ref <context_encoder>

# keeps all channels of a file: their mean may be silence
audio_normalizer: !new:speechbrain_wavjepa.inference.AudioNormalizer
  sample_rate: !ref <sample_rate>

compute_features: !new:speechbrain_wavjepa.inference.ChannelSelector
  channels: !ref <channels>
  policy: !ref <channel_policy>

mean_var_norm: !new:speechbrain_wavjepa.inference.RMSNormalizer
  level_db: !ref <level_db>

{layer_sum}embedding_model: !new:speechbrain_wavjepa.lobes.WavJEPAEmbedding
  model: !ref <wavjepa>
  window_samples: !ref <window_samples>
  padding_in_statistics: !ref <padding_in_statistics>
  pooling: !ref <pooling>
  window_batch: !ref <window_batch>
  overlap: !ref <overlap>
  precision: !ref <precision>
  sample_rate: !ref <sample_rate>
{layer_sum_argument}
encoder: !new:speechbrain_wavjepa.inference.TokenEncoder
  compute_features: !ref <compute_features>
  mean_var_norm: !ref <mean_var_norm>
  embedding_model: !ref <embedding_model>
  sample_rate: !ref <sample_rate>

classifier: !new:{classifier}
{labels}
modules:
  compute_features: !ref <compute_features>
  mean_var_norm: !ref <mean_var_norm>
  embedding_model: !ref <embedding_model>
  encoder: !ref <encoder>
  classifier: !ref <classifier>

# strict, unlike the toolkit's own
pretrainer: !new:speechbrain_wavjepa.inference.FolderPretrainer
  loadables:
{loadables}
  checksums: !ref <checksums>
"""
LAYER_SUM = """\
layer_sum: !new:speechbrain_wavjepa.nnet.LayerSum
  num_layers: !ref <encoder_depth>

"""
LABELS = """
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
expected_labels: !apply:speechbrain.dataio.encoder.CategoricalEncoder.expect_len
  - !ref <label_encoder>
  - {count}
"""
# The classes that a folder may ask for as its classifier.
ALLOWED_CLASS = re.compile(r"speechbrain(_wavjepa)?(\.[A-Za-z_]\w*)+")


def write_hyperparams(
    settings: Mapping, classifier: str, arguments: Mapping, num_labels: int
) -> str:
    """Write the text of hyperparams.yaml.

    Arguments
    ---------
    settings : Mapping
        All plain settings.
    classifier : str
        Dotted name of the classifier's class.
    arguments : Mapping
        Its plain arguments.
    num_labels : int
        How many labels are in the label encoder's file; 0 for no file.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the classifier is neither SpeechBrain's nor this package's, or a
        setting is not a plain value.

    Example
    -------
    >>> name = "speechbrain_wavjepa.inference.classifiers.MissingClassifier"
    >>> text = write_hyperparams({"channels": 1}, name, {}, 0)
    >>> "classifier: !new:speechbrain_wavjepa.inference.classifiers" in text
    True
    """
    if not ALLOWED_CLASS.fullmatch(classifier):
        raise ValueError(
            f"The classifier's class is {classifier!r}: a pretrained folder "
            "names classes of speechbrain and speechbrain_wavjepa only."
        )
    lines = [classifier]
    if arguments:
        lines += _to_yaml(dict(arguments)).splitlines()
    layer_sum = settings.get("layer_weights", False)
    loadables = ["wavjepa"] + ["layer_sum"] * layer_sum
    if not classifier.endswith(".MissingClassifier"):
        loadables.append("classifier")
    loadables += ["label_encoder"] * (num_labels > 0)
    checksums = settings.get("checksums", {})
    others = {key: settings[key] for key in settings if key != "checksums"}
    return HYPERPARAMS.format(
        values=_to_yaml(others) + _to_yaml({"checksums": checksums}, False),
        layer_sum=LAYER_SUM if layer_sum else "",
        layer_sum_argument="  layer_sum: !ref <layer_sum>\n" * layer_sum,
        classifier="\n  ".join(lines),
        labels=LABELS.format(count=num_labels) if num_labels else "",
        loadables="\n".join(f"    {key}: !ref <{key}>" for key in loadables),
    )


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice."""

    def ignore_aliases(self, data) -> bool:
        return True


def _to_yaml(values: dict, flow: Optional[bool] = None) -> str:
    """Write plain values; unless told otherwise, lists in one line."""
    try:
        return yaml.dump(
            values, Dumper=_Dumper, sort_keys=False, default_flow_style=flow
        )
    except yaml.YAMLError as error:
        raise ValueError(
            f"Settings must be plain numbers, texts and lists: {error}"
        ) from error


class Tagged(NamedTuple):
    """A value of a yaml that would be code, which was not run.

    Arguments
    ---------
    tag : str
        For example "!new:torch.nn.Linear".

    Example
    -------
    >>> Tagged("!ref").tag
    '!ref'
    """

    tag: str


class _PlainConstructor(SafeConstructor):
    """Takes every unknown tag as a mark and evaluates none."""


_PlainConstructor.add_constructor(None, lambda loader, node: Tagged(node.tag))
# what texts in parentheses are once HyperPyYAML has read anything
_PlainConstructor.add_constructor("!tuple", SafeConstructor.construct_scalar)

REFERENCE = re.compile(r"<[^>]*>")  # as HyperPyYAML finds them
# Whole references without a dot, which would ask an object for an attribute.
PLAIN_REFERENCE = re.compile(r"<[^<>.]*>")
# What HyperPyYAML fills in or leaves out, without running anything.
PLAIN_TAGS = {"!ref", "!copy", "!PLACEHOLDER", "!tuple"} | {
    f"tag:yaml.org,2002:{kind}"
    for kind in (
        *("null", "bool", "int", "float", "str", "timestamp", "binary"),
        *("seq", "map", "merge", "set", "omap", "pairs"),
    )
}


def read_settings(folder: Union[str, Path]) -> dict:
    """Read the plain values of a pretrained folder; nothing is evaluated.

    Arguments
    ---------
    folder : str or Path
        A pretrained folder, of whatever origin.

    Returns
    -------
    dict
        The entries of hyperparams.yaml; what evaluating would construct or
        call is a ``Tagged`` there, with the name of the class or function.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a yaml of settings.

    Example
    -------
    >>> folder = Path(getfixture("tmpdir"))
    >>> text = "channels: 2\\nfrontend: !new:os.remove [precious]\\n"
    >>> _ = (folder / "hyperparams.yaml").write_text(text)
    >>> read_settings(folder)
    {'channels': 2, 'frontend': Tagged(tag='!new:os.remove')}
    """
    return _read(folder)[0]


def get_checksum(
    folder: Union[str, Path], settings: Mapping[str, Any], name: str
) -> str:
    """Find the checksum of a file in a pretrained folder's settings.

    Arguments
    ---------
    folder : str or Path
        The folder, for the message.
    settings : Mapping[str, Any]
        What ``read_settings`` gave.
    name : str
        The name of the file.

    Returns
    -------
    str
        Its SHA-256.

    Raises
    ------
    ValueError
        If there is none.

    Example
    -------
    >>> get_checksum("folder", {"checksums": {"wavjepa": "0a"}}, "wavjepa.ckpt")
    '0a'
    """
    checksums = settings.get("checksums")
    checksum = None
    if isinstance(checksums, Mapping):
        checksum = checksums.get(Path(name).stem)
    if not isinstance(checksum, str):
        raise ValueError(
            f"The {SETTINGS_FILE} of {folder} has no checksum of {name}: make "
            "the folder again with its recipe, or convert the authors' "
            "checkpoint again."
        )
    return checksum


def list_code(folder: Union[str, Path]) -> list[str]:
    """List what ``from_hparams`` would run of a folder, at any depth.

    Arguments
    ---------
    folder : str or Path
        A pretrained folder, of whatever origin.

    Returns
    -------
    list of str
        The tags of all keys and values that are no plain values. Also every
        text with an exclamation mark: HyperPyYAML reads texts in parentheses
        as yaml again, with the loader that runs Python's own tags. And every
        text with a reference among other letters, tagged or not: it is put
        together and evaluated as Python's arithmetic, which can write such a
        tag without its mark.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a yaml of settings.

    Example
    -------
    >>> folder = Path(getfixture("tmpdir"))
    >>> text = "notes: {date: !apply:os.system [a]}\\nb: (!!python/name:os.a)"
    >>> _ = (folder / "hyperparams.yaml").write_text(text)
    >>> list_code(folder)
    ['!apply:os.system', 'the text (!!python/name:os.a)']
    """
    return sorted(set(_find_code(_read(folder)[1])))


def _find_code(node: ruamel.yaml.Node) -> Iterator[str]:
    """Find what would run in a tree of nodes."""
    if node.tag not in PLAIN_TAGS:
        yield node.tag.replace("tag:yaml.org,2002:", "!!")
    if isinstance(node, ruamel.yaml.ScalarNode):
        is_reference = node.tag in ("!ref", "!copy")
        is_plain = is_reference and PLAIN_REFERENCE.fullmatch(node.value)
        computed = REFERENCE.search(node.value) and not is_plain
        if "!" in node.value or computed:
            yield f"{node.tag if is_reference else 'the text'} {node.value}"
        return
    for child in _children(node):
        yield from _find_code(child)


def _children(node: ruamel.yaml.Node) -> Iterator[ruamel.yaml.Node]:
    """Yield what a mapping or sequence holds."""
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)


def _read(folder: Union[str, Path]) -> tuple[dict, ruamel.yaml.Node]:
    """Read hyperparams.yaml: its plain values, and all of its nodes."""
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():  # whoever opens a fifo waits for ever
        raise ValueError(
            f"{folder} has no {SETTINGS_FILE}: give a pretrained folder."
        )
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
        _refuse_aliases(tree, set())
        return parser.constructor.construct_document(tree), tree
    except (ruamel.yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as yaml: {' '.join(str(error).split())}"
        ) from error


def _refuse_aliases(node: ruamel.yaml.Node, seen: set[int]) -> None:
    """Refuse nodes that stand in several places: they grow without bound."""
    if id(node) in seen:
        raise ValueError("it repeats a part by an alias (*name): write it out.")
    seen.add(id(node))
    if not isinstance(node, ruamel.yaml.ScalarNode):
        for child in _children(node):
            _refuse_aliases(child, seen)


CARD = """\
---
library_name: speechbrain
tags: [audio, self-supervised, wavjepa]{licence_line}
---
# {name}

{kind} WavJEPA encoder (https://arxiv.org/abs/2509.23238) in the format of
SpeechBrain's pretrained models. It takes waveforms of {channels} at
{sample_rate} Hz and of any length, and gives one embedding of {encoder_dim}
numbers for a clip, or one every {token_ms:g} ms.

| | |
|---|---|
| training data | {training_data} |
| licence | {licence} |
{rows}
{notes}
## Use

```python
from speechbrain.inference.classifiers import EncoderClassifier

encoder = EncoderClassifier.from_hparams(source="FOLDER")
clip = encoder.load_audio("FOLDER/example.wav")
embedding = encoder.encode_batch(clip[None])  # [1, 1, {encoder_dim}]
```
{classify}
Tokens: `speechbrain.inference.encoders.WaveformEncoder` from the same folder;
`encode_file(path)` gives [1, N, {encoder_dim}].

`from_hparams` evaluates hyperparams.yaml, as always in SpeechBrain: inspect
folders from untrusted sources first, `wavjepa info FOLDER` lists what would
run. `speechbrain_wavjepa.inference.load_pretrained` loads the encoder
without evaluating it. The yaml holds checksums of all weights; every loader
of `speechbrain_wavjepa` compares them.
"""


def write_card(
    settings: Mapping,
    card: Mapping,
    parameters: int,
    labels: Optional[Sequence[str]] = None,
) -> str:
    """Write the model card, README.md.

    Arguments
    ---------
    settings : Mapping
        The model's settings.
    card : Mapping
        Any of name, training_data, licence, notes (texts) and figures (a
        mapping of names to values).
    parameters : int
        How many parameters the encoder has.
    labels : Sequence[str], optional
        The classifier's labels.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the card has another entry.

    Example
    -------
    >>> settings = {"channels": 2, "sample_rate": 16000, "encoder_dim": 8}
    >>> settings["frontend_layers"] = [[8, 160, 160]]
    >>> text = write_card(settings, {"licence": "cc-by-4.0"}, 1000)
    >>> print(text.splitlines()[3])
    license: cc-by-4.0
    """
    known = {"name", "training_data", "licence", "notes", "figures"}
    if unknown := set(card) - known:
        raise ValueError(
            f"A model card has {sorted(known)}, not {sorted(unknown)}."
        )
    rows = {"encoder's parameters": f"{parameters:,}"}
    for name, value in settings.items():
        rows |= value if isinstance(value, Mapping) else {name: value}
    rows |= card.get("figures", {})
    notes = card.get("notes", "")
    classify = ""
    if labels:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        classify = (
            f"\n`encoder.classify_file(path)` tells {len(labels)} classes "
            f"apart: {shown}.\n"
        )
    licence = card.get("licence")
    strides = [layer[2] for layer in settings["frontend_layers"]]
    return CARD.format(
        token_ms=1000 * math.prod(strides) / settings["sample_rate"],
        **{key: settings[key] for key in ("sample_rate", "encoder_dim")},
        name=card.get("name", "WavJEPA"),
        kind="Binaural" if settings["channels"] == 2 else "Mono",
        channels=f"{settings['channels']} channel(s)",
        training_data=card.get("training_data", "not stated"),
        licence=licence or "not stated",
        licence_line=f"\nlicense: {licence}" if licence else "",
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        notes=f"\n{notes}\n" if notes else "",
        classify=classify,
    )
