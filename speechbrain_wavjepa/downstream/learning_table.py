"""What a pretraining run learned, in accuracies of linear probes.

Linear probes on frozen features: the log-mel spectrum and encoders, such as
one as it was initialised and after pretraining.

Shapes: n clips, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Union

import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.downstream.probes import (
    linear_probe,
    log_mel_features,
)
from speechbrain_wavjepa.lobes.embedding import WavJEPAEmbedding

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
