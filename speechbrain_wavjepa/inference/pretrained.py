"""Pretrained folders: written whole or not at all, loaded strictly.

A folder holds hyperparams.yaml with a SHA-256 of every .ckpt, README.md,
example.wav, wavjepa.ckpt (front-end and context encoder), pretraining.ckpt
(target encoder and predictor, to pretrain on or to convert back), and if there
are such layer_sum.ckpt, classifier.ckpt and label_encoder.ckpt. Every loader
compares the checksums; only ``from_hparams`` evaluates the yaml.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import soundfile
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.fetching import (
    FetchConfig,
    FetchFrom,
    fetch,
    guess_source,
)
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

from speechbrain_wavjepa.dataio.synthetic import SyntheticCorpus
from speechbrain_wavjepa.inference.classifiers import (
    LinearClassifier,
    MissingClassifier,
    MultilabelClassifier,
)
from speechbrain_wavjepa.inference.config import (
    RUNTIME_SETTINGS,
    SETTINGS_FILE,
    build_encoder,
    check_settings,
    check_sizes,
    complete_runtime,
    describe_model,
    get_checksum,
    list_encoder_settings,
    read_settings,
    write_card,
    write_hyperparams,
)
from speechbrain_wavjepa.inference.encoder import (
    ChannelSelector,
    RMSNormalizer,
    TokenEncoder,
)
from speechbrain_wavjepa.lobes.embedding import WavJEPAEmbedding
from speechbrain_wavjepa.lobes.wavjepa import WavJEPAEncoder
from speechbrain_wavjepa.nnet.transformer import LayerSum
from speechbrain_wavjepa.processing.audio import resample
from speechbrain_wavjepa.utils.files import (
    atomic_folder,
    hash_file,
    path_inside,
)

ENCODER_FILE = "wavjepa.ckpt"
LAYER_SUM_FILE = "layer_sum.ckpt"
PRETRAINING_FILE = "pretraining.ckpt"
FILES = {ENCODER_FILE, LAYER_SUM_FILE, PRETRAINING_FILE, SETTINGS_FILE}
FILES |= {"README.md", "classifier.ckpt", "example.wav", "label_encoder.ckpt"}
PRETRAINING_PARTS = ("target_encoder.", "target_frontend.", "predictor.")


def write_pretrained(
    folder: Union[str, Path],
    wavjepa: WavJEPAEncoder,
    settings: Optional[Mapping[str, Any]] = None,
    model_card: Optional[Mapping[str, Any]] = None,
    classifier: Optional[LinearClassifier] = None,
    labels: Optional[Sequence[str]] = None,
    layer_sum: Optional[LayerSum] = None,
) -> None:
    """Write a folder that SpeechBrain's ``from_hparams`` loads.

    It is tried before it gets its name: a killed export leaves none that
    loads. A ValueError if something does not fit or weights are not finite.
    In distributed runs only the main process should call this.

    Arguments
    ---------
    folder : str or Path, which replaces none but a pretrained folder
    wavjepa : WavJEPAEncoder
        The model; of a WavJEPA what pretraining needs is kept too.
    settings : Mapping[str, Any], optional
        Changes to the defaults of ``config.RUNTIME_SETTINGS``; and
        "training", a mapping of plain values to keep with the model.
    model_card : Mapping[str, Any], optional
        Any of name, training_data, licence, notes and figures.
    classifier : LinearClassifier or MultilabelClassifier, optional
    labels : Sequence[str], optional, in the classifier's order
    layer_sum : LayerSum, optional
        How layers are summed (default: the last one is taken).

    Example
    -------
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
    >>> folder = Path(getfixture("tmpdir")) / "tiny"
    >>> write_pretrained(folder, encoder.embedding_model.model)
    >>> sorted(path.name for path in folder.iterdir())
    ['README.md', 'example.wav', 'hyperparams.yaml', 'wavjepa.ckpt']
    """
    folder, labels = Path(folder), list(labels or [])
    others = [folder.name] * folder.exists()
    if folder.is_dir():
        others = sorted({item.name for item in folder.iterdir()} - FILES)
    if others:
        raise ValueError(
            f"{folder} exists and {', '.join(others[:5])} is not of a "
            "pretrained folder, which would be replaced: choose another name."
        )
    _check_classifier(classifier, labels, wavjepa.context_encoder.dim)
    runtime, sums = dict(settings or {}), layer_sum is not None
    training = runtime.pop("training", None)
    if runtime.setdefault("layer_weights", sums) != sums:
        raise ValueError("Give layer_weights: True and layer_sum, or neither.")
    values = {**describe_model(wavjepa), **complete_runtime(runtime)}
    if training:
        values["training"] = training
    state = wavjepa.state_dict()
    rest = {k: v for k, v in state.items() if k.startswith(PRETRAINING_PARTS)}
    encoder = {key: state[key] for key in state if key not in rest}
    num_parameters = sum(value.numel() for value in encoder.values())
    weights = {ENCODER_FILE: encoder, PRETRAINING_FILE: rest}
    if sums:
        weights[LAYER_SUM_FILE] = layer_sum.state_dict()
    if labels:
        weights["classifier.ckpt"] = classifier.state_dict()
    rate = values["sample_rate"]
    corpus = SyntheticCorpus(1, sample_rate=max(rate, 16000))
    example = resample(corpus[0][0][:, None], corpus.sample_rate, rate)
    example = example.expand(-1, values["channels"])
    with atomic_folder(folder) as aside:
        for name in filter(weights.get, weights):
            write_weights(weights[name], aside / name)
            read_weights(aside / name)  # refuses what is not finite
        if labels:
            label_encoder = CategoricalEncoder()
            label_encoder.update_from_iterable(labels)
            label_encoder.save(aside / "label_encoder.ckpt")
        card = write_card(values, model_card or {}, num_parameters, labels)
        (aside / "README.md").write_text(card, encoding="utf-8")
        soundfile.write(aside / "example.wav", example.numpy(), rate)
        values["checksums"] = {
            path.stem: hash_file(path) for path in sorted(aside.glob("*.ckpt"))
        }
        # the last, because nothing loads a folder without it
        kind = type(classifier) if labels else MissingClassifier
        text = write_hyperparams(values, kind.__name__, len(labels))
        (aside / SETTINGS_FILE).write_text(text, encoding="utf-8")
        load_pretrained(aside).embed(example[None])


def _check_classifier(
    classifier: Optional[nn.Module], labels: list[str], dim: int
) -> None:
    """Refuse a classifier that does not fit its labels or the encoder."""
    if (classifier is None) != (not labels):
        raise ValueError("Give a classifier together with its labels.")
    if classifier is None:
        return
    if len(set(labels)) != len(labels):
        raise ValueError(f"Some labels are there twice: {labels}.")
    if type(classifier) not in (LinearClassifier, MultilabelClassifier):
        raise ValueError(
            f"A {type(classifier).__name__} cannot be written to a folder: "
            "give a LinearClassifier or MultilabelClassifier."
        )
    shape, wanted = [*classifier.linear.weight.shape], [len(labels), dim]
    if shape != wanted:
        raise ValueError(
            f"The classifier's weights are {shape} and must be {wanted}."
        )


def load_pretrained(
    folder: Union[str, Path], random_weights: bool = False, **changes: Any
) -> TokenEncoder:
    """Load the encoder of a local folder, to embed; evaluate nothing in it.

    Arguments
    ---------
    folder : str or Path
    random_weights : bool
        New weights instead of the folder's: the baseline of pretraining.
    **changes : Any
        Settings to change, names as in ``config.RUNTIME_SETTINGS``.

    Example
    -------
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
    >>> encoder.embed(torch.randn(3, 16000)).shape
    torch.Size([3, 1, 16])
    """
    found = read_settings(folder)
    kept = {key: found[key] for key in RUNTIME_SETTINGS if key in found}
    runtime = complete_runtime({**kept, **changes})
    names = list_encoder_settings(found)
    check_settings(found, names)
    path = Path(folder) / ENCODER_FILE
    check_file(path, get_checksum(folder, found, ENCODER_FILE))
    sizes = {name: found[name] for name in names}
    check_sizes(sizes, os.path.getsize(path))  # a byte or more for each value
    model = build_encoder(found)
    if not random_weights:
        load_weights(model, path)
    policy, level = runtime.pop("channel_policy"), runtime.pop("level_db")
    layer_sum = None
    if runtime.pop("layer_weights"):
        layer_sum = LayerSum(found["encoder_depth"]).requires_grad_(False)
        if not random_weights and found.get("layer_weights"):
            path = Path(folder) / LAYER_SUM_FILE
            checksum = get_checksum(folder, found, LAYER_SUM_FILE)
            load_weights(layer_sum, path, checksum)
    return TokenEncoder(
        ChannelSelector(found["channels"], policy),
        RMSNormalizer(level),
        WavJEPAEmbedding(model, layer_sum=layer_sum, **runtime),
        runtime["sample_rate"],
    ).eval()


class FolderPretrainer(Pretrainer):
    """Loads the files of a pretrained folder, strictly and by checksum.

    Refuses a ``savedir`` with the files of another model, which SpeechBrain's
    ``from_hparams`` takes for those of the source.

    Arguments
    ---------
    loadables : Mapping[str, Any]
        Modules and label encoders by the stems of their files.
    checksums : Mapping[str, str]
        The SHA-256 of each file; one that is missing is a ValueError.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> found = read_settings(folder)
    >>> parts = {"wavjepa": build_encoder(found)}
    >>> pretrainer = FolderPretrainer(parts, found["checksums"])
    >>> _ = pretrainer.collect_files(str(folder))
    >>> pretrainer.load_collected()
    """

    def __init__(
        self, loadables: Mapping[str, Any], checksums: Mapping[str, str]
    ):
        if missing := set(loadables) - set(checksums):
            raise ValueError(f"There are no checksums of {sorted(missing)}.")
        hooks = {}
        for name, item in loadables.items():
            hook = load_weights if isinstance(item, nn.Module) else _load_labels
            hooks[name] = functools.partial(hook, sha256=checksums[name])
        super().__init__(loadables=loadables, custom_hooks=hooks)

    def collect_files(self, default_source=None, **options):
        """Collect files as SpeechBrain does, of the source and no other."""
        kept = self.collect_in and self.collect_in / SETTINGS_FILE
        if default_source is not None and kept and kept.exists():
            self._check_savedir(default_source, options.get("fetch_config"))
        return super().collect_files(default_source, **options)

    def _check_savedir(self, source, config: Optional[FetchConfig]) -> None:
        """Refuse a savedir whose settings are not those of the source."""
        options = {"fetch_config": config} if config else {}
        is_web = guess_source(source)[0] == FetchFrom.URI
        with tempfile.TemporaryDirectory() as folder:
            options["savedir"] = folder if is_web else None  # which fetch needs
            try:
                path = fetch(SETTINGS_FILE, source, **options)
                same = hash_file(path) == hash_file(
                    self.collect_in / SETTINGS_FILE
                )
            # mistyped, or no network; SpeechBrain and the hub raise both
            except (OSError, ValueError) as error:
                reason = str(error).split("\n")[0]
                raise ValueError(
                    f"There is no source {source}, or it cannot be compared "
                    f"with savedir={self.collect_in}: {reason} To load what is "
                    f"there, give source={self.collect_in} and no savedir."
                ) from error
        if not same:
            raise ValueError(
                f"savedir={self.collect_in} holds the files of another model "
                f"than {source}: leave savedir out, or give each model its own."
            )


def _load_labels(encoder: CategoricalEncoder, path: Path, sha256: str) -> None:
    """Load a label encoder, if the file is that of the checksum."""
    check_file(path, sha256)
    encoder.load(path)


def check_folder(folder: Union[str, Path]) -> list[tuple[str, str]]:
    """Check the weights and checksums of any folder; say what was found."""
    folder, settings = Path(folder), read_settings(folder)
    weights = read_weights(folder / ENCODER_FILE)
    found = [("parameters", f"{sum(w.numel() for w in weights.values()):,}")]
    get_checksum(folder, settings, ENCODER_FILE)  # or there is no list
    listed = [f"{name}.ckpt" for name in settings["checksums"]]
    for name in listed:
        path = path_inside(folder, name)
        if name == PRETRAINING_FILE and not path.exists():
            found.append(("left out", f"{name}, which only pretraining needs"))
        else:
            check_file(path, get_checksum(folder, settings, name))
    found.append(("checksums", "match"))
    unlisted = {path.name for path in folder.glob("*.ckpt")} - {*listed}
    return found + [("without checksum", name) for name in sorted(unlisted)]


def write_weights(state: Mapping[str, Tensor], path: Union[str, Path]) -> None:
    """Write weights as ``torch.save`` does, on the CPU."""
    # clones, so that a view does not carry its whole storage along
    torch.save({key: value.cpu().clone() for key, value in state.items()}, path)


def load_weights(
    module: nn.Module, path: Union[str, Path], sha256: Optional[str] = None
) -> None:
    """Load a file of weights strictly; a hook for a Pretrainer."""
    weights = read_weights(path, sha256)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:600]
        raise ValueError(f"{path} does not fit the model: {reason}") from error


def read_weights(
    path: Union[str, Path], sha256: Optional[str] = None
) -> dict[str, Tensor]:
    """Read finite weights of ``torch.save`` in bounded memory; run nothing."""
    check_file(path, sha256)
    try:
        check_archive(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read, is it cut off? {reason} Copy it again."
        ) from error
    check_weights(weights, path)
    return weights


def check_file(path: Union[str, Path], sha256: Optional[str] = None) -> None:
    """Refuse what is not a file, or not the file of a checksum."""
    if not os.path.isfile(path):  # whoever opens a fifo waits for ever
        raise ValueError(f"{path} cannot be read: it is missing or not a file.")
    if sha256 is not None and hash_file(path) != sha256:
        raise ValueError(
            f"{path} differs from its checksum: it is damaged or of another "
            "model. Copy the whole folder again."
        )


def check_archive(path: Union[str, Path]) -> None:
    """Refuse a zip with compressed or overlapping members: it would grow."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > os.path.getsize(path):
        raise ValueError("its members claim more bytes than it has.")


def check_weights(weights: Any, path: Union[str, Path]) -> None:
    """Refuse what was read if it is not finite weights."""
    if not isinstance(weights, dict) or not all(
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and value.dtype.is_floating_point
        for key, value in weights.items()
    ):
        raise ValueError(f"{path} holds other things than weights.")
    # an expanded tensor claims any size for a single number
    claimed = sum(value.nbytes for value in weights.values())
    if claimed > (size := os.path.getsize(path)):
        raise ValueError(f"{path} claims {claimed} bytes and has {size}.")
    for key, value in weights.items():
        if not bool(value.float().isfinite().all()):
            raise ValueError(
                f"{path} has weights that are not finite in {key}: damaged, or "
                "training diverged. Take another copy or checkpoint."
            )
