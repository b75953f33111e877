"""Quick probes of frozen features, by scikit-learn.

Logistic regression measures what a pretraining run learned, in a table at its
end; the nearest training clips are a probe without training.

Shapes: n clips, T samples, C channels, D dim, L labels.

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
from speechbrain_wavjepa.utils.environment import require

# Penalties to choose from: mean cross-entropy + penalty * squared weights.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
EMBEDDING_BATCH = 32
SMALLEST = 1e-6  # probability, so that its logarithm is finite


def learning_table(
    folds: Sequence[tuple[Tensor, Tensor]],
    encoders: Mapping[str, nn.Module],
    window_samples: int = 32160,
    device: Union[str, torch.device] = "cpu",
) -> dict[str, float]:
    """Measure linear probes on the log-mel mean and on models' embeddings.

    A fold is (waveform [n, T, C], labels [n]) of mono clips or of scenes with
    the channels left, right and omni. With two folds the first trains and the
    second tests; with more each is held out once, and the accuracies, between
    0 and 1, are averaged.
    """
    kinds: dict[str, Callable] = {"log-mel mean": log_mel_features}
    for name, model in encoders.items():
        kinds[name] = _embedder(model, window_samples, device)
    held_out = [1] if len(folds) == 2 else range(len(folds))
    table = {}
    for kind, embed in kinds.items():
        rows = [(_embed(embed, clips, kind), labels) for clips, labels in folds]
        scores = []
        for test in held_out:
            train = zip(*(fold for n, fold in enumerate(rows) if n != test))
            scores.append(linear_probe(*map(torch.cat, train), *rows[test]))
        table[kind] = sum(scores) / len(scores)
    return table


def _embedder(model: nn.Module, window_samples: int, device) -> Callable:
    """Give a function that embeds clips [n, T, C] as [n, D], on the CPU."""
    embedding = WavJEPAEmbedding(model, window_samples, freeze=False)

    def embed(clips: Tensor) -> Tensor:
        clips = clips_for(clips, model.frontend.channels).to(device)
        return embedding(clips)[:, 0].cpu()

    return embed


@torch.no_grad()
def _embed(embed: Callable, waveform: Tensor, kind: str) -> Tensor:
    """Compute the features [n, D] of a fold, in batches."""
    batches = waveform.split(EMBEDDING_BATCH)
    bar = tqdm(batches, desc=f"probe, {kind}", leave=False)
    return torch.cat([embed(clips) for clips in bar])


def clips_for(clips: Tensor, channels: int) -> Tensor:
    """Give a model of 1 or 2 channels its clips, of mono ones or scenes.

    Of scenes [n, T, 3] these are the omni channel or the ears; mono clips are
    duplicated for two ears.
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


def log_mel_features(clips: Tensor) -> Tensor:
    """Average the log-mel spectrum [n, 64]: without any learning."""
    mel = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, hop_length=320, n_mels=64
    )
    return (mel(clips_for(clips, 1)[:, :, 0]) + 1e-6).log().mean(dim=-1)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> float:
    """Train logistic regression on features [n, D]; its accuracy on others.

    Features are standardised with the training statistics. The penalty is
    chosen on every fifth training clip; then all of them are used.
    """
    for name, features in (("train", train_features), ("test", test_features)):
        if not bool(features.isfinite().all()):
            raise ValueError(
                f"The {name} features hold NaN or Inf: check clips and weights."
            )
    linear_model = require("sklearn.linear_model", "plots")
    dummy = require("sklearn.dummy", "plots")
    mean, std = train_features.mean(dim=0), train_features.std(dim=0)
    train, test = (
        ((features - mean) / (std + 1e-6)).double().numpy()
        for features in (train_features, test_features)
    )
    labels = train_labels.numpy()

    def fit(rows, penalty):
        strength = 1 / (2 * penalty * len(labels[rows]))  # scikit-learn's C
        model = linear_model.LogisticRegression(C=strength, max_iter=2000)
        if len(np.unique(labels[rows])) == 1:  # which scikit-learn refuses
            model = dummy.DummyClassifier()
        return model.fit(train[rows], labels[rows])

    held_out = np.arange(len(labels)) % 5 == 0
    valid = train[held_out], labels[held_out]
    best = max(PENALTIES, key=lambda p: fit(~held_out, p).score(*valid))
    return float(fit(slice(None), best).score(test, test_labels.numpy()))


def format_tables(tables: Mapping[str, Mapping[str, float]], title: str) -> str:
    """Lay tables out for a terminal, in percent; of two, also what is lost."""
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


def evaluate_neighbours(
    task: HearTask,
    splits: Mapping[str, SplitEmbeddings],
    ks: Sequence[int] = (1, 5, 20),
) -> dict[str, dict[str, float]]:
    """Score the k nearest neighbours on the test splits of a scene task.

    Training and validation splits are neighbours alike: nothing is chosen.
    The result holds for each "k=..." the mean of each score over the tests.
    """
    if task.embedding_type == "event":
        raise ValueError(f"{task.name}: neighbours are for scene tasks.")
    scores: dict[str, list[dict[str, float]]] = {f"k={k}": [] for k in ks}
    for run in task.runs():
        known = [*run.train, run.valid]
        targets = [make_targets(task, s, splits[s]) for s in known]
        rows = torch.cat([splits[split].read() for split in known])
        shares = neighbour_shares(
            splits[run.test].read(), rows, np.concatenate(targets), ks
        )
        scorer = SplitScorer(task, run.test, splits[run.test])
        for found, share in zip(scores.values(), shares):
            share = share.clamp(SMALLEST, 1 - SMALLEST)
            logits = share.log() if scorer.multiclass else share.logit()
            found.append(scorer.scores(logits))
    return {
        k: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for k, rows in scores.items()
    }


def neighbour_shares(
    rows: Tensor, train_rows: Tensor, train_targets: np.ndarray, ks
) -> list[Tensor]:
    """Average the targets [n, L] of the k nearest rows by the cosine."""
    neighbors = require("sklearn.neighbors", "eval")
    if not 1 <= min(ks) <= max(ks) <= len(train_rows):
        raise ValueError(
            f"neighbours={[*ks]} of {len(train_rows)} training clips: take 1 "
            f"to {len(train_rows)}."
        )
    search = neighbors.NearestNeighbors(n_neighbors=max(ks), metric="cosine")
    nearest = search.fit(train_rows).kneighbors(rows, return_distance=False)
    return [
        torch.from_numpy(train_targets[nearest[:, :k]].mean(axis=1)) for k in ks
    ]
