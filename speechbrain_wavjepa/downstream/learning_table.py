"""What a pretraining run learned, in three accuracies.

Linear probes on frozen features: the log-mel spectrum, the encoder as it was
initialised, and the encoder after pretraining.

Shapes: n clips, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable, Sequence
from typing import Union

import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.downstream.probes import (
    linear_probe,
    log_mel_features,
)
from speechbrain_wavjepa.embedding import embed_clips

EMBEDDING_BATCH = 32

# A fold is (waveform [n, T, C], labels [n]).
Fold = tuple[Tensor, Tensor]


def learning_table(
    folds: Sequence[Fold],
    initial_model: nn.Module,
    model: nn.Module,
    window_samples: int = 32160,
    device: Union[str, torch.device] = "cpu",
) -> dict[str, float]:
    """Measure three linear probes, each on held-out clips.

    Arguments
    ---------
    folds : sequence of (waveform [n, T, C], labels [n])
        Labelled clips. With two folds the first trains and the second
        tests; with more each is held out once and the accuracies averaged.
    initial_model : nn.Module
        WavJEPA before pretraining.
    model : nn.Module
        WavJEPA after pretraining.
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
    >>> from types import SimpleNamespace
    >>> stub = SimpleNamespace(encode=lambda windows: windows.abs())
    >>> labels = torch.arange(40) % 2
    >>> loud = torch.linspace(0, 1, 3200)[:, None] ** (1 + 9 * labels)
    >>> clips = (torch.randn(3200, 40) * loud).T[:, :, None]
    >>> folds = [(clips[:20], labels[:20]), (clips[20:], labels[20:])]
    >>> table = learning_table(folds, stub, stub, window_samples=3200)
    >>> sorted(table)
    ['log-mel mean', 'pretrained encoder', 'random encoder']
    """
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "log-mel mean": lambda clips: log_mel_features(clips.mean(dim=2)),
        "random encoder": lambda clips: embed_clips(
            initial_model, clips.to(device), window_samples
        ),
        "pretrained encoder": lambda clips: embed_clips(
            model, clips.to(device), window_samples
        ),
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


def format_table(table: dict[str, float], title: str) -> str:
    """Lay the table out for a terminal.

    Arguments
    ---------
    table : dict[str, float]
        Accuracies between 0 and 1.
    title : str
        Line above the table.

    Returns
    -------
    str
        The table in percent.

    Example
    -------
    >>> print(format_table({"log-mel mean": 0.5}, "Accuracy"))
    Accuracy
      log-mel mean          50.0 %
    """
    lines = [
        f"  {kind:<20}{100 * accuracy:6.1f} %"
        for kind, accuracy in table.items()
    ]
    return "\n".join([title, *lines])
