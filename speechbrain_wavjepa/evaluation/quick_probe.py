"""What a pretraining run learned, in accuracies of linear probes.

Linear probes on frozen features: the log-mel spectrum and encoders, such as
one as it was initialised and after pretraining.

Shapes: n clips, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026

Linear probes: how much a linear map can read out of frozen features.

Authors
 * The speechbrain_wavjepa developers 2026

What the nearest training clips tell: a probe without training.

Shapes: R rows, S training rows, D dim, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Union

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.evaluation.embeddings import (
    SplitEmbeddings,
    make_targets,
)
from speechbrain_wavjepa.evaluation.hear import SplitScorer
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.lobes.embedding import WavJEPAEmbedding

# Strengths of the L2 penalty to choose from.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


def log_mel_features(
    waveform: Tensor, sample_rate: int = 16000, num_bands: int = 64
) -> Tensor:
    """Average the log-mel spectrum over time: the baseline without learning.

    Arguments
    ---------
    waveform : [B, T]
        The clips.
    sample_rate : int
        Their rate in Hz.
    num_bands : int
        Mel bands.

    Returns
    -------
    [B, num_bands]
        Mean log energy of each band.

    Example
    -------
    >>> log_mel_features(torch.randn(2, 16000)).shape
    torch.Size([2, 64])
    """
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=1024, hop_length=320, n_mels=num_bands
    )
    return (mel(waveform) + 1e-6).log().mean(dim=-1)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> float:
    """Train multinomial logistic regression and test it.

    Features are standardised with the training statistics. The penalty is
    chosen on every fifth training clip; then all of them are used.

    Arguments
    ---------
    train_features : [n, D]
        Features of the training clips.
    train_labels : [n] int64
        Their classes.
    test_features : [m, D]
        Features of held-out clips.
    test_labels : [m] int64
        Their classes.

    Returns
    -------
    float
        Accuracy on the held-out clips, between 0 and 1.

    Raises
    ------
    ValueError
        If the features are not finite.

    Example
    -------
    >>> labels = torch.arange(100) % 2
    >>> features = labels[:, None] + 0.1 * torch.randn(100, 3)
    >>> linear_probe(features[:80], labels[:80], features[80:], labels[80:])
    1.0
    """
    for name, features in (("train", train_features), ("test", test_features)):
        if not bool(features.isfinite().all()):
            raise ValueError(
                f"The {name} features hold NaN or Inf: check the clips and "
                "the model's weights."
            )
    mean, std = train_features.mean(dim=0), train_features.std(dim=0)
    train_features = ((train_features - mean) / (std + 1e-6)).double()
    test_features = ((test_features - mean) / (std + 1e-6)).double()
    held_out = torch.arange(len(train_labels)) % 5 == 0
    scores = [
        _accuracy(
            _fit(train_features[~held_out], train_labels[~held_out], penalty),
            train_features[held_out],
            train_labels[held_out],
        )
        for penalty in PENALTIES
    ]
    penalty = PENALTIES[scores.index(max(scores))]
    classifier = _fit(train_features, train_labels, penalty)
    return _accuracy(classifier, test_features, test_labels)


def _fit(features: Tensor, labels: Tensor, penalty: float) -> nn.Linear:
    """Minimise cross-entropy plus penalty * squared weights by L-BFGS."""
    num_classes = int(labels.max()) + 1
    classifier = nn.Linear(features.shape[1], num_classes).double()
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(classifier(features), labels)
        loss = loss + penalty * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return classifier


@torch.no_grad()
def _accuracy(classifier: nn.Linear, features: Tensor, labels: Tensor) -> float:
    """Count the clips whose class comes out highest."""
    right = classifier(features).argmax(dim=1) == labels
    return right.double().mean().item()


EMBEDDING_BATCH = 32

# A fold is (waveform [n, T, C], labels [n]). Three channels are the left ear,
# the right ear, and a microphone in the place of the head.
Fold = tuple[Tensor, Tensor]


def learning_table(
    folds: Sequence[Fold],
    encoders: Mapping[str, nn.Module],
    window_samples: int = 32160,
    device: Union[str, torch.device] = "cpu",
) -> dict[str, float]:
    """Measure linear probes, each on held-out clips.

    Arguments
    ---------
    folds : sequence of (waveform [n, T, C], labels [n])
        Labelled clips: mono ones, or scenes with the channels left, right
        and omni. With two folds the first trains and the second tests; with
        more each is held out once and the accuracies averaged.
    encoders : mapping of str to nn.Module
        Names and WavJEPA models. A mono one hears mono clips and the omni
        channel of scenes, a binaural one the ears.
    window_samples : int
        Samples of a window.
    device : str or torch.device
        Where the models are.

    Returns
    -------
    dict[str, float]
        Accuracy of each kind of features, between 0 and 1.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> from speechbrain_wavjepa.lobes import WavJEPAEncoder
    >>> random_encoder = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> labels = torch.arange(40) % 2
    >>> loud = torch.linspace(0, 1, 3200)[:, None] ** (1 + 9 * labels)
    >>> clips = (torch.randn(3200, 40) * loud).T[:, :, None]
    >>> folds = [(clips[:20], labels[:20]), (clips[20:], labels[20:])]
    >>> sorted(learning_table(folds, {"random": random_encoder}, 3200))
    ['log-mel mean', 'random']
    """

    def embed_with(model: nn.Module) -> Callable[[Tensor], Tensor]:
        embedding = WavJEPAEmbedding(model, window_samples, freeze=False)

        @torch.no_grad()
        def embed(clips: Tensor) -> Tensor:
            heard = select_channels(clips, model.frontend.channels)
            return embedding(heard.to(device))[:, 0]

        return embed

    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "log-mel mean": lambda clips: log_mel_features(
            select_channels(clips, 1)[:, :, 0]
        ),
        **{name: embed_with(model) for name, model in encoders.items()},
    }
    labels = [fold_labels for _, fold_labels in folds]
    held_out = [1] if len(folds) == 2 else range(len(folds))
    table = {}
    for kind, embed in kinds.items():
        features = [
            torch.cat(
                [
                    embed(clips)
                    for clips in tqdm(
                        waveform.split(EMBEDDING_BATCH),
                        desc=f"probe, {kind}",
                        leave=False,
                    )
                ]
            ).cpu()
            for waveform, _ in folds
        ]
        scores = []
        for test in held_out:
            train = [fold for fold in range(len(folds)) if fold != test]
            scores.append(
                linear_probe(
                    torch.cat([features[fold] for fold in train]),
                    torch.cat([labels[fold] for fold in train]),
                    features[test],
                    labels[test],
                )
            )
        table[kind] = sum(scores) / len(scores)
    return table


def select_channels(clips: Tensor, channels: int) -> Tensor:
    """Give a model the channels that it would hear.

    Arguments
    ---------
    clips : [n, T, C]
        Mono clips, or scenes with the channels left, right and omni.
    channels : int
        The model's channels: 1 or 2.

    Returns
    -------
    [n, T, channels]
        Of scenes the omni channel or the ears; mono clips are duplicated for
        two ears.

    Raises
    ------
    ValueError
        If the clips have another number of channels.

    Example
    -------
    >>> select_channels(torch.zeros(5, 800, 3), 2).shape
    torch.Size([5, 800, 2])
    """
    found = clips.shape[2]
    if found == 1:
        return clips.expand(-1, -1, channels)
    if found == 3:
        return clips[:, :, 2:] if channels == 1 else clips[:, :, :2]
    raise ValueError(
        f"Probes take mono clips or scenes (left, right, omni), got {found} "
        "channels: give the task's mono copy."
    )


def format_tables(tables: Mapping[str, Mapping[str, float]], title: str) -> str:
    """Lay tables out side by side for a terminal.

    Arguments
    ---------
    tables : mapping of str to table
        Accuracies between 0 and 1, by condition and kind of features.
    title : str
        Line above the tables.

    Returns
    -------
    str
        The tables in percent; of two conditions also what the second loses.

    Example
    -------
    >>> tables = {"clean": {"log-mel": 0.5}, "naturalistic": {"log-mel": 0.3}}
    >>> print(format_tables(tables, "Accuracy"))
    Accuracy                 clean  naturalistic  points lost
      log-mel               50.0 %        30.0 %         20.0
    """
    names = [*tables, "points lost"][: 3 if len(tables) == 2 else len(tables)]
    widths = [max(len(name), 6) + 2 for name in names]
    head = "".join(f"{name:>{width}}" for name, width in zip(names, widths))
    lines = [f"{title:<23}{head}"]
    for kind in next(iter(tables.values())):
        scores = [100 * table[kind] for table in tables.values()]
        cells = [f"{score:.1f} %" for score in scores]
        if len(scores) == 2:
            cells.append(f"{scores[0] - scores[1]:.1f}")
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
        lines.append(f"  {kind:<21}{row}")
    return "\n".join(lines)


ROWS_AT_ONCE = 1024
SMALLEST = 1e-6  # probability, so that its logarithm is finite


def neighbour_probabilities(
    rows: Tensor, train_rows: Tensor, train_targets: Tensor, k: int
) -> Tensor:
    """Average the targets of the k nearest rows, by the cosine.

    Arguments
    ---------
    rows : [R, D]
        What to find neighbours of.
    train_rows : [S, D]
        The neighbours.
    train_targets : [S, L]
        Their targets.
    k : int
        How many count.

    Returns
    -------
    [R, L]
        Shares of the neighbours with each label.

    Raises
    ------
    ValueError
        If there are less than k neighbours.

    Example
    -------
    >>> rows = torch.tensor([[1.0, 0.1]])
    >>> neighbour_probabilities(rows, 3 * torch.eye(2), torch.eye(2), 1)
    tensor([[1., 0.]])
    """
    if not 1 <= k <= len(train_rows):
        raise ValueError(
            f"k={k} neighbours of {len(train_rows)} training rows: take 1 to "
            f"{len(train_rows)}."
        )
    directions = torch.nn.functional.normalize(train_rows, dim=1)
    shares = []
    for some in rows.split(ROWS_AT_ONCE):
        cosines = torch.nn.functional.normalize(some, dim=1) @ directions.T
        nearest = cosines.topk(k, dim=1).indices
        shares.append(train_targets[nearest].mean(dim=1))
    return torch.cat(shares)


def evaluate_neighbours(
    task: HearTask,
    splits: Mapping[str, SplitEmbeddings],
    ks: Sequence[int] = (1, 5, 20),
) -> dict[str, dict[str, float]]:
    """Score the nearest neighbours on each test split.

    Training and validation splits are neighbours alike: nothing is chosen.

    Arguments
    ---------
    task : HearTask
        A scene task.
    splits : Mapping[str, SplitEmbeddings]
        Embeddings of each split.
    ks : sequence of int
        Numbers of neighbours.

    Returns
    -------
    dict[str, dict[str, float]]
        For each k the mean of each score over the test splits.

    Raises
    ------
    ValueError
        If it is an event task, or there are less than k neighbours.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> splits = {
    ...     split: SplitEmbeddings(
    ...         list(clips), np.random.rand(len(clips), 8), [1] * len(clips)
    ...     )
    ...     for split, clips in task.clips.items()
    ... }
    >>> sorted(evaluate_neighbours(task, splits, ks=[1, 5]))
    ['k=1', 'k=5']
    """
    if task.embedding_type == "event":
        raise ValueError(
            f"{task.name} is an event task: neighbours are for scene tasks."
        )

    scores: dict[str, dict[str, float]] = {}
    for k in ks:
        found = []
        for run in task.runs():
            known = [*run.train, run.valid]
            targets = [make_targets(task, s, splits[s]) for s in known]
            shares = neighbour_probabilities(
                splits[run.test].read(),
                torch.cat([splits[split].read() for split in known]),
                torch.from_numpy(np.concatenate(targets)),
                k,
            )
            scorer = SplitScorer(task, run.test, splits[run.test])
            shares = shares.clamp(SMALLEST, 1 - SMALLEST)
            logits = shares.log() if scorer.multiclass else shares.logit()
            found.append(scorer.scores(logits))
        scores[f"k={k}"] = {
            key: float(np.mean([row[key] for row in found])) for key in found[0]
        }
    return scores
