"""Pictures of what a model hears and learns.

Needs matplotlib (the extra ``plots``).

Shapes: T samples, C channels, N tokens of each, K target blocks.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path
from typing import Union

import numpy as np
import torchaudio
from torch import Tensor

from speechbrain_wavjepa.utils.extras import require

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
EARS = ("left", "right")
CONTEXT_COLOUR = "#0072B2"
TARGET_COLOUR = "#D55E00"
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def plot_masks(
    waveform: Tensor,
    context_mask: Tensor,
    target_masks: Tensor,
    path: Union[str, Path],
    sample_rate: int = 16000,
    channels: int = 1,
):
    """Draw the masks of one window below its spectrogram.

    Arguments
    ---------
    waveform : [T]
        The window, one channel.
    context_mask : [C*N] bool
        Tokens that the context encoder sees.
    target_masks : [K, C*N] bool
        Tokens of each target block.
    path : str or Path
        The picture to write.
    sample_rate : int
        Rate in Hz.
    channels : int
        Channels of the model; each has a row for every mask.

    Example
    -------
    >>> from speechbrain_wavjepa.masking import BlockMasker
    >>> import torch
    >>> block_mask = BlockMasker()(1, 200)
    >>> path = getfixture("tmpdir") / "masks.png"
    >>> plot_masks(
    ...     torch.randn(32160),
    ...     block_mask.context_mask[0],
    ...     block_mask.target_masks[0],
    ...     path,
    ... )
    >>> path.exists()
    True
    """
    seconds = len(waveform) / sample_rate
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=512, hop_length=160, n_mels=64
    )(waveform.cpu())
    decibel = 10 * np.log10(mel.numpy() + 1e-6)
    figure = _make_figure(9, 5)
    spectrum, bars = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.6])
    image = spectrum.imshow(
        decibel,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(decibel)),
        vmin=decibel.max() - 80,
        cmap="magma",
    )
    figure.colorbar(image, ax=spectrum, label="dB")
    spectrum.set_ylabel("mel band")
    spectrum.set_title("What the context encoder hears and what it must guess")
    names, rows = [], []  # a row: mask [N] and its colour
    titles = ["context"] + [f"target {k + 1}" for k in range(len(target_masks))]
    for title, mask in zip(titles, [context_mask, *target_masks]):
        colour = CONTEXT_COLOUR if title == "context" else TARGET_COLOUR
        for channel, of_channel in enumerate(mask.view(channels, -1)):
            ear = f", {EARS[channel]}" if channels == 2 else ""
            names.append(f"{title}{ear}")
            rows.append((of_channel, colour))
    for row, (mask, colour) in enumerate(rows):
        width = seconds / len(mask)
        kept = mask.nonzero().squeeze(1).tolist()
        bars.broken_barh(
            [(token * width, width) for token in kept],
            (row - 0.4, 0.8),
            facecolors=colour,
        )
    bars.set_yticks(range(len(names)), names)
    bars.invert_yaxis()
    bars.set_xlim(0, seconds)
    bars.set_xlabel("time in seconds")
    figure.savefig(path, format="png")


def plot_learning_curve(figures: list[dict], path: Union[str, Path]):
    """Draw what was logged during pretraining, over the optimizer step.

    Arguments
    ---------
    figures : list[dict]
        The lines of a ``StepLog``: "step" and, where logged, "loss",
        "valid_loss", "learning_rate", "target_deviation",
        "prediction_deviation" and "effective_rank".
    path : str or Path
        The picture to write.

    Raises
    ------
    ValueError
        If nothing was logged.

    Example
    -------
    >>> path = getfixture("tmpdir") / "curve.png"
    >>> log = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.9}]
    >>> plot_learning_curve(log, path)
    >>> path.exists()
    True
    """
    if not figures:
        raise ValueError(
            "There is nothing to draw: no step was logged. Lower the yaml's "
            "log_interval_steps."
        )
    panels = (
        ("loss", ("loss", "valid_loss")),
        (
            "standard deviation",
            ("target_deviation", "prediction_deviation"),
        ),
        ("effective rank", ("effective_rank",)),
        ("learning rate", ("learning_rate",)),
    )
    figure = _make_figure(10, 6.5)
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, panels):
        for key, colour in zip(keys, LINE_COLOURS):
            points = [(f["step"], f[key]) for f in figures if key in f]
            if points:
                axes.plot(
                    *zip(*points),
                    label=key.replace("_", " "),
                    color=colour,
                    marker="o" if len(points) < 30 else None,
                    markersize=3,
                )
                axes.legend(frameon=False)
        axes.set_title(title)
        axes.set_xlabel("optimizer step")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")


def _make_figure(width: float, height: float):
    """Make a figure without any global plotting state."""
    figure = require("matplotlib.figure", "plots")
    return figure.Figure(figsize=(width, height), layout="constrained")
