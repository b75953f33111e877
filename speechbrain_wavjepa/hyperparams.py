"""The hyperparams.yaml of a pretrained folder: written and read.

SpeechBrain's ``from_hparams`` evaluates this file, and a yaml of HyperPyYAML
(https://github.com/speechbrain/HyperPyYAML) can run code. Here it is only
read.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import ruamel.yaml
import yaml
from ruamel.yaml.constructor import SafeConstructor

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
audio_normalizer: !new:speechbrain_wavjepa.preparation.FileNormalizer
  sample_rate: !ref <sample_rate>

compute_features: !new:speechbrain_wavjepa.preparation.RawWaveform
  channels: !ref <channels>
  policy: !ref <channel_policy>

mean_var_norm: !new:speechbrain_wavjepa.preparation.LevelNorm
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
encoder: !new:speechbrain_wavjepa.token_encoder.TokenEncoder
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
pretrainer: !new:speechbrain_wavjepa.pretrained.FolderPretrainer
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
    >>> name = "speechbrain_wavjepa.classifiers_old.MissingClassifier"
    >>> text = write_hyperparams({"channels": 1}, name, {}, 0)
    >>> "classifier: !new:speechbrain_wavjepa.classifiers_old" in text
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
