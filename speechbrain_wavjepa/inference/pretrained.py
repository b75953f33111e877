"""Pretrained folders: written whole or not at all, loaded with or without
SpeechBrain's own classes.

A folder holds hyperparams.yaml, wavjepa.ckpt (front-end and context encoder),
pretraining.ckpt (target encoder and predictor, only needed to go back to the
authors' names or to pretrain on), layer_sum.ckpt if layers are summed,
classifier.ckpt and label_encoder.ckpt if there is a classifier, README.md and
example.wav. The settings hold a checksum of every file of weights and labels:
every loader of this package compares it.

Authors
 * The speechbrain_wavjepa developers 2026

Files of weights: read without running anything, loaded strictly.

What is read takes no more memory than the file has bytes, whatever the file
claims, and holds finite numbers only.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import os
import pydoc
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
    LocalStrategy,
    fetch,
    guess_source,
)
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

from speechbrain_wavjepa.dataio.synthetic import SyntheticCorpus
from speechbrain_wavjepa.inference.config import (
    ENCODER_SETTINGS,
    RUNTIME_SETTINGS,
    SETTINGS_FILE,
    build_encoder,
    check_kinds,
    check_sizes,
    describe_classifier,
    describe_model,
    get_checksum,
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
from speechbrain_wavjepa.utils.files import atomic_folder, hash_file

# Of a pretrained folder: what embeds, and what only pretraining needs.
ENCODER_FILE = "wavjepa.ckpt"
LAYER_SUM_FILE = "layer_sum.ckpt"
PRETRAINING_FILE = "pretraining.ckpt"


def write_weights(state: Mapping[str, Tensor], path: Union[str, Path]) -> None:
    """Write weights as ``torch.save`` does, on the CPU.

    Arguments
    ---------
    state : Mapping[str, Tensor]
        The weights.
    path : str or Path
        The file.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> write_weights(nn.Linear(2, 1).state_dict(), path)
    >>> load_weights(nn.Linear(2, 1), path)
    """
    # clones, so that a view does not carry its whole storage along
    torch.save({key: value.cpu().clone() for key, value in state.items()}, path)


def load_weights(
    module: nn.Module, path: Union[str, Path], sha256: Optional[str] = None
) -> None:
    """Load a file of weights strictly; a hook for a Pretrainer.

    Arguments
    ---------
    module : nn.Module
        Where to.
    path : str or Path
        A file of tensors that ``torch.save`` wrote.
    sha256 : str, optional
        Its checksum.

    Raises
    ------
    ValueError
        If the file is damaged, is not the one of the checksum or is of a
        model with other sizes.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> load_weights(nn.Linear(2, 1), path)
    Traceback (most recent call last):
    ...
    ValueError: .../linear.ckpt does not fit the model: ...
    """
    assign_weights(module, read_weights(path, sha256), path)


def assign_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    path: Union[str, Path],
) -> None:
    """Give a module the weights that were read from a file.

    Arguments
    ---------
    module : nn.Module
        Where to.
    weights : Mapping[str, Tensor]
        What ``read_weights`` gave.
    path : str or Path
        The file, for the message.

    Raises
    ------
    ValueError
        If they are of a model with other sizes.

    Example
    -------
    >>> linear = nn.Linear(1, 1, bias=False)
    >>> assign_weights(linear, {"weight": torch.ones(1, 1)}, "linear.ckpt")
    >>> linear.weight.item()
    1.0
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit the model: "
            f"{' '.join(str(error).split())[:600]} Take both files from one "
            "pretrained folder."
        ) from error


def check_file(path: Union[str, Path], sha256: Optional[str] = None) -> None:
    """Refuse what is not a file, or not the file of a checksum.

    Arguments
    ---------
    path : str or Path
        A file, or a symbolic link to one.
    sha256 : str, optional
        Its checksum.

    Raises
    ------
    ValueError
        If there is no such file.

    Example
    -------
    >>> check_file("nowhere.ckpt")
    Traceback (most recent call last):
    ...
    ValueError: nowhere.ckpt cannot be read: it is missing or not a file.
    """
    if not os.path.isfile(path):  # whoever opens a fifo waits for ever
        raise ValueError(f"{path} cannot be read: it is missing or not a file.")
    if sha256 is not None and hash_file(path) != sha256:
        raise ValueError(
            f"{path} differs from its checksum in hyperparams.yaml: it is "
            "damaged or of another model. Copy the whole folder again."
        )


def read_weights(
    path: Union[str, Path], sha256: Optional[str] = None
) -> dict[str, Tensor]:
    """Read a file of weights, without running anything it may hold.

    Arguments
    ---------
    path : str or Path
        A file of tensors that ``torch.save`` wrote.
    sha256 : str, optional
        Its checksum.

    Returns
    -------
    dict[str, Tensor]
        The weights, on the CPU.

    Raises
    ------
    ValueError
        If the file is missing or damaged, is not the one of the checksum, or
        holds other things than finite weights.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> read_weights(path)
    {'weight': tensor([[1., 1.]])}
    """
    check_file(path, sha256)
    try:
        check_archive(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read, it is cut off or not a file of weights: "
            f"{' '.join(str(error).split())[:200]} Copy it again."
        ) from error
    check_weights(weights, path)
    return weights


def check_archive(path: Union[str, Path]) -> None:
    """Refuse a file of ``torch.save`` that grows when it is read.

    Arguments
    ---------
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If its members are compressed or overlap; ``torch.save`` does neither.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "zeros.ckpt"
    >>> with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    ...     archive.writestr("data/0", bytes(10**6))
    >>> check_archive(path)
    Traceback (most recent call last):
    ...
    ValueError: its members claim more bytes than it has.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > os.path.getsize(path):
        raise ValueError("its members claim more bytes than it has.")


def check_weights(weights: Any, path: Union[str, Path]) -> None:
    """Refuse what was read if it is not finite weights.

    Arguments
    ---------
    weights : Any
        What a file held.
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If it is not a mapping of names to tensors, claims more values than
        the file has bytes for, or holds NaN or Inf.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> _ = path.write_bytes(bytes(4))
    >>> check_weights({"bias": torch.tensor(torch.nan)}, path)
    Traceback (most recent call last):
    ...
    ValueError: .../linear.ckpt has weights that are not finite in bias: ...
    """
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
    if claimed > os.path.getsize(path):
        raise ValueError(
            f"{path} claims {claimed} bytes of weights and has "
            f"{os.path.getsize(path)}."
        )
    for key, value in weights.items():
        if not bool(value.float().isfinite().all()):
            raise ValueError(
                f"{path} has weights that are not finite in {key}: it is "
                "damaged, or training diverged. Take another copy or an "
                "earlier checkpoint."
            )


PRETRAINING_PARTS = ("target_encoder.", "predictor.")
FILES = {
    ENCODER_FILE,
    LAYER_SUM_FILE,
    PRETRAINING_FILE,
    SETTINGS_FILE,
    "README.md",
    "classifier.ckpt",
    "example.wav",
    "label_encoder.ckpt",
}
KINDS = {name: type(value) for name, value in RUNTIME_SETTINGS.items()}


def write_pretrained(
    folder: Union[str, Path],
    wavjepa: WavJEPAEncoder,
    settings: Optional[Mapping[str, Any]] = None,
    model_card: Optional[Mapping[str, Any]] = None,
    classifier: Optional[nn.Module] = None,
    labels: Optional[Sequence[str]] = None,
    example: Optional[Tensor] = None,
    layer_sum: Optional[LayerSum] = None,
) -> None:
    """Write a folder that SpeechBrain's ``from_hparams`` loads.

    It is written aside, synced to disk, loaded once to try it, and then given
    its name: a killed export leaves no folder that could be loaded. A folder
    of that name is replaced if it is a pretrained folder too. In distributed
    runs only the main process should call this.

    Arguments
    ---------
    folder : str or Path
        The folder to make.
    wavjepa : WavJEPAEncoder
        The model; of a WavJEPA also what pretraining needs is kept.
    settings : Mapping[str, Any], optional
        Changes to ``RUNTIME_SETTINGS``; "training", a mapping of plain values
        to keep with the model; and "classifier", a mapping of "class" and
        its plain arguments, for one that is not of this package.
    model_card : Mapping[str, Any], optional
        Any of name, training_data, licence, notes and figures.
    classifier : nn.Module, optional
        From embeddings [B, 1, D] to log-probabilities [B, 1, classes].
    labels : Sequence[str], optional
        The classes in the classifier's order.
    example : [T, C], optional
        An example at the model's rate (default: a synthetic sound).
    layer_sum : LayerSum, optional
        How layers are summed (default: the last one is taken).

    Raises
    ------
    ValueError
        If settings or classifier do not fit, or the folder is another one.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> folder = Path(getfixture("tmpdir")) / "tiny"
    >>> write_pretrained(folder, model)
    >>> sorted(path.name for path in folder.iterdir())
    ['README.md', 'example.wav', 'hyperparams.yaml', 'wavjepa.ckpt']
    >>> load_pretrained(folder).embed(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 16])
    """
    folder = Path(folder)
    _check_place(folder)
    settings = dict(settings or {})
    described = describe_classifier(
        classifier, labels, settings.pop("classifier", {})
    )
    training = settings.pop("training", {})
    sums = layer_sum is not None
    if settings.setdefault("layer_weights", sums) != sums:
        raise ValueError(
            f"The settings have layer_weights={settings['layer_weights']}, "
            f"and layer_sum is {layer_sum}: give both or neither."
        )
    values = {**describe_model(wavjepa), **_complete(settings)}
    if training:
        values["training"] = dict(training)
    labels = list(labels or [])
    with atomic_folder(folder) as aside:
        num_parameters = _write_weights(aside, wavjepa, classifier, layer_sum)
        if labels:
            encoder = CategoricalEncoder()
            encoder.update_from_iterable(labels)
            encoder.save(aside / "label_encoder.ckpt")
        card = write_card(values, model_card or {}, num_parameters, labels)
        (aside / "README.md").write_text(card, encoding="utf-8")
        _write_example(aside / "example.wav", example, values)
        values["checksums"] = {
            path.stem: hash_file(path) for path in sorted(aside.glob("*.ckpt"))
        }
        # the last, because nothing loads a folder without it
        text = write_hyperparams(values, *described, len(labels))
        (aside / SETTINGS_FILE).write_text(text, encoding="utf-8")
        _try_out(aside, *described, labels)


def _check_place(folder: Path) -> None:
    """Refuse to replace anything but a pretrained folder."""
    if not folder.exists():
        return
    others = ["it"]
    if folder.is_dir():
        others = sorted({item.name for item in folder.iterdir()} - FILES)
    if others:
        raise ValueError(
            f"{folder} exists and {', '.join(others[:5])} is not of a "
            "pretrained folder, which would be replaced: choose another name."
        )


def _complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add the default settings and check the names and kinds of the others."""
    if unknown := set(settings) - set(RUNTIME_SETTINGS):
        raise ValueError(
            f"Unknown settings {sorted(unknown)}: there are "
            f"{sorted(RUNTIME_SETTINGS)}."
        )
    complete = {**RUNTIME_SETTINGS, **settings}
    check_kinds(complete, KINDS)
    return complete


def _write_weights(
    folder: Path,
    wavjepa: WavJEPAEncoder,
    classifier: Optional[nn.Module],
    layer_sum: Optional[LayerSum],
) -> int:
    """Write all weights; return the number of the encoder's parameters."""
    state = wavjepa.state_dict()
    rest = {
        key: state[key] for key in state if key.startswith(PRETRAINING_PARTS)
    }
    files = {
        ENCODER_FILE: {key: state[key] for key in state if key not in rest},
        PRETRAINING_FILE: rest,
        "classifier.ckpt": classifier.state_dict() if classifier else {},
        LAYER_SUM_FILE: layer_sum.state_dict() if layer_sum else {},
    }
    for name, weights in files.items():
        if weights:
            write_weights(weights, folder / name)
    return sum(value.numel() for value in files[ENCODER_FILE].values())


def _write_example(
    path: Path, example: Optional[Tensor], settings: Mapping[str, Any]
) -> None:
    """Write a sound to try the model with."""
    rate = settings["sample_rate"]
    if example is None:
        corpus = SyntheticCorpus(1, sample_rate=max(rate, 16000))
        clip = resample(corpus[0][0][:, None], corpus.sample_rate, rate)
        example = clip.expand(-1, settings["channels"])
    soundfile.write(path, example.numpy(force=True), rate, subtype="PCM_16")


def _try_out(
    folder: Path, name: str, arguments: Mapping, labels: Sequence[str]
) -> None:
    """Load what was written and run it on the example."""
    waveform, _ = soundfile.read(folder / "example.wav", dtype="float32")
    embedding = load_pretrained(folder).embed(torch.from_numpy(waveform)[None])
    if labels:
        weights = folder / "classifier.ckpt"
        try_classifier(name, arguments, weights, embedding, len(labels))


def load_pretrained(
    folder: Union[str, Path], random_weights: bool = False, **changes: Any
) -> TokenEncoder:
    """Load the encoder of a local folder; nothing in it is evaluated.

    Arguments
    ---------
    folder : str or Path
        A pretrained folder.
    random_weights : bool
        New weights instead of the folder's: what pretraining is held against.
    **changes : Any
        Settings to change, names as in ``RUNTIME_SETTINGS``.

    Returns
    -------
    TokenEncoder
        Ready to embed, in evaluation mode.

    Raises
    ------
    ValueError
        If the folder or a setting does not fit.

    Example
    -------
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
    >>> encoder.embed(torch.randn(3, 16000)).shape
    torch.Size([3, 1, 16])
    """
    found = read_settings(folder)
    runtime = {key: found[key] for key in RUNTIME_SETTINGS if key in found}
    runtime = _complete({**runtime, **changes})
    path = Path(folder) / ENCODER_FILE
    check_kinds(found, ENCODER_SETTINGS)
    weights = read_weights(path, get_checksum(folder, found, ENCODER_FILE))
    num_values = sum(value.numel() for value in weights.values())
    sizes = {name: found[name] for name in ENCODER_SETTINGS}
    check_sizes({**sizes, **runtime}, num_values)
    model = build_encoder(found)
    if not random_weights:
        assign_weights(model, weights, path)
    layer_sum = None
    if runtime["layer_weights"]:
        layer_sum = LayerSum(found["encoder_depth"]).requires_grad_(False)
        if not random_weights and found.get("layer_weights"):
            path = Path(folder) / LAYER_SUM_FILE
            checksum = get_checksum(folder, found, LAYER_SUM_FILE)
            load_weights(layer_sum, path, checksum)
    preparation = ("channel_policy", "level_db", "layer_weights")
    options = {
        key: value for key, value in runtime.items() if key not in preparation
    }
    return TokenEncoder(
        ChannelSelector(found["channels"], runtime["channel_policy"]),
        RMSNormalizer(runtime["level_db"]),
        WavJEPAEmbedding(model, layer_sum=layer_sum, **options),
        runtime["sample_rate"],
    ).eval()


class FolderPretrainer(Pretrainer):
    """Loads the files of a pretrained folder; its hyperparams.yaml names it.

    Unlike SpeechBrain's own, it loads weights strictly, compares files with
    their checksums, and refuses a ``savedir`` with the files of another
    model, which ``from_hparams`` takes for those of the source.

    Arguments
    ---------
    loadables : Mapping[str, Any]
        Modules and label encoders by the stems of their files.
    checksums : Mapping[str, str]
        The SHA-256 of each file.

    Raises
    ------
    ValueError
        If a checksum is missing.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> settings = read_settings(folder)
    >>> pretrainer = FolderPretrainer(
    ...     {"wavjepa": build_encoder(settings)}, settings["checksums"]
    ... )
    >>> _ = pretrainer.collect_files(str(folder))
    >>> pretrainer.load_collected()
    """

    def __init__(
        self, loadables: Mapping[str, Any], checksums: Mapping[str, str]
    ):
        if missing := set(loadables) - set(checksums):
            raise ValueError(f"There are no checksums of {sorted(missing)}.")
        hooks = {
            name: functools.partial(
                load_weights
                if isinstance(loadable, nn.Module)
                else _load_labels,
                sha256=checksums[name],
            )
            for name, loadable in loadables.items()
        }
        super().__init__(loadables=loadables, custom_hooks=hooks)

    def collect_files(
        self,
        default_source=None,
        local_strategy=LocalStrategy.SYMLINK,
        fetch_config=FetchConfig(),  # noqa: B008, it is frozen
    ):
        """Collect files as SpeechBrain does, of the source and no other."""
        if self.collect_in is not None:
            self._check_savedir(default_source, fetch_config)
        return super().collect_files(
            default_source, local_strategy, fetch_config
        )

    def _check_savedir(self, source, fetch_config: FetchConfig) -> None:
        """Refuse a savedir whose settings are not those of the source."""
        kept = self.collect_in / SETTINGS_FILE
        if source is None or not kept.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            is_web = guess_source(source)[0] == FetchFrom.URI
            aside = folder if is_web else None  # which fetch asks for
            try:
                path = fetch(
                    SETTINGS_FILE, source, aside, fetch_config=fetch_config
                )
                same = hash_file(path) == hash_file(kept)
            # mistyped, or no network; SpeechBrain and the hub raise both
            except (OSError, ValueError) as error:
                reason = str(error).split("\n")[0]
                raise ValueError(
                    f"There is no source {source}, or it cannot be reached, "
                    f"so whether savedir={self.collect_in} holds its files is "
                    f"unknown: {reason} To load the model that is there, give "
                    f"source={self.collect_in} and no savedir."
                ) from error
        if not same:
            raise ValueError(
                f"savedir={self.collect_in} holds the files of another model "
                f"than {source}: leave savedir out, or give each model its own."
            )


def _load_labels(
    encoder: CategoricalEncoder, path: Union[str, Path], sha256: str
) -> None:
    """Load a label encoder, if the file is that of the checksum."""
    check_file(path, sha256)
    encoder.load(path)


def try_classifier(
    name: str,
    arguments: Mapping[str, Any],
    weights: Path,
    embedding: Tensor,
    num_labels: int,
) -> None:
    """Build a classifier of what was written and run it once.

    Arguments
    ---------
    name : str
        Dotted name of its class.
    arguments : Mapping[str, Any]
        What the class is built with.
    weights : Path
        The file of its weights.
    embedding : [1, 1, D]
        What it has to take.
    num_labels : int
        How many log-probabilities it has to give.

    Raises
    ------
    ValueError
        If it does not work.

    Example
    -------
    >>> import torch
    >>> from speechbrain_wavjepa.inference import LinearClassifier
    >>> path = Path(getfixture("tmpdir")) / "classifier.ckpt"
    >>> write_weights(LinearClassifier(16, 2).state_dict(), path)
    >>> name = "speechbrain_wavjepa.inference.classifiers.LinearClassifier"
    >>> arguments = {"dim": 16, "num_classes": 2}
    >>> try_classifier(name, arguments, path, torch.randn(1, 1, 16), 2)
    """
    try:
        classifier = pydoc.locate(name)(**arguments)
        load_weights(classifier, weights)
        scores = classifier.eval()(embedding)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"A classifier {name} built with {dict(arguments)} does not work "
            f"on embeddings of shape {list(embedding.shape)}: {error}"
        ) from error
    if scores.shape != (1, 1, num_labels):
        raise ValueError(
            f"The classifier gives {list(scores.shape)} for one clip and "
            f"{num_labels} labels: it must give [1, 1, {num_labels}]."
        )
