"""A picture of a scene: the room from above, its responses, what is heard.

Needs matplotlib (the extra ``plots``).

Shapes: T samples, R samples of a response, C receivers (ears).

Authors
 * The speechbrain_wavjepa developers 2026

Pictures of what a model hears and learns.

Needs matplotlib (the extra ``plots``).

Shapes: T samples, C channels, N tokens of each, K target blocks.

Authors
 * The speechbrain_wavjepa developers 2026

Pictures of scores: task by task, s(m) and confusions.

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torchaudio
from torch import Tensor

from speechbrain_wavjepa.utils.environment import require

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
    >>> from speechbrain_wavjepa.lobes import BlockMasker
    >>> import torch
    >>> mask = BlockMasker()(1, 200)
    >>> path = getfixture("tmpdir") / "masks.png"
    >>> plot_masks(
    ...     torch.randn(32160),
    ...     mask.context_mask[0],
    ...     mask.target_masks[0],
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
        "valid_loss", "learning_rate", "target_std",
        "prediction_std" and "effective_rank".
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
            ("target_std", "prediction_std"),
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


# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
SOURCE_COLOUR = "#0072B2"
NOISE_COLOUR = "#D55E00"
EAR_COLOURS = ("#0072B2", "#D55E00", "#009E73")
SILENCE_DB = -80.0
MAX_METRES = 1000.0  # what is larger is no place in a room
RAY_METRES = 5.0  # drawn where a direction is known, but no distance


def plot_scene(
    about: dict,
    response: Tensor,
    clip: Tensor,
    scene: Tensor,
    path: Union[str, Path],
    sample_rate: int = 16000,
):
    """Draw a scene.

    Arguments
    ---------
    about : dict
        What the bank knows about it, of which all may be missing: "source"
        and each of "noise" with "azimuth" (left is positive), "elevation" and
        "distance"; "room_size", "head", "head_orientation", "t60_measured".
    response : [R, C]
        The response of the source at each ear.
    clip : [T, 1]
        The clip.
    scene : [T, C]
        The clip as the ears get it.
    path : str or Path
        The picture to write.
    sample_rate : int
        Rate in Hz.

    Example
    -------
    >>> import torch
    >>> place = {"azimuth": 30.0, "elevation": 0.0, "distance": 2.0}
    >>> path = getfixture("tmpdir") / "scene.png"
    >>> plot_scene(
    ...     {"source": place, "noise": [place]},
    ...     torch.randn(800, 2),
    ...     torch.randn(1600, 1),
    ...     torch.randn(1600, 2),
    ...     path,
    ... )
    >>> path.exists()
    True
    """
    figure = require("matplotlib.figure", "plots").Figure(
        figsize=(11, 6.5), layout="constrained"
    )
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 1.25])
    _draw_room(figure.add_subplot(grid[:, 0]), about)
    _draw_response(figure.add_subplot(grid[0, 1]), response, sample_rate)
    axes = figure.add_subplot(grid[1, 1])
    _draw_waveform(axes, clip, sample_rate, ["clip"])
    axes.set_title("the clip", loc="left")
    axes = figure.add_subplot(grid[2, 1], sharex=axes)
    _draw_waveform(axes, scene, sample_rate, _receivers(scene))
    axes.set_title("at the ears, with noise", loc="left")
    axes.set_xlabel("time in seconds")
    figure.savefig(path, format="png")


def _receivers(waveform: Tensor) -> tuple[str, ...]:
    """Name the receivers of a waveform or response [T, C]."""
    channels = waveform.shape[1]
    numbered = tuple(f"receiver {n + 1}" for n in range(channels))
    return {1: ("omni",), 2: ("left", "right")}.get(channels, numbered)


def _number(value: Any) -> Optional[float]:
    """Read a number of a bank's metadata, which may be anything."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and abs(value) <= MAX_METRES else None


def _numbers(values: Any, count: int) -> Optional[list[float]]:
    """Read the first numbers of a list."""
    values = values[:count] if isinstance(values, list) else []
    numbers = [_number(value) for value in values]
    return numbers if len(numbers) == count and None not in numbers else None


def _direction(place: Any) -> Optional[dict[str, Optional[float]]]:
    """Read where a source is, seen from the head; None if no one knows."""
    place = place if isinstance(place, dict) else {}
    found = {
        name: _number(place.get(name))
        for name in ("azimuth", "elevation", "distance")
    }
    return None if found["azimuth"] is None else found


def _draw_room(axes, about: dict):
    """Draw walls, head, source and noises from above, as far as known."""
    patches = require("matplotlib.patches", "plots")
    size = _numbers(about.get("room_size"), 2)
    if size is not None:
        axes.add_patch(
            patches.Rectangle((0, 0), *size, fill=False, linewidth=2)
        )
    x, y = _numbers(about.get("head"), 2) or (0.0, 0.0)
    orientation = math.radians(_number(about.get("head_orientation")) or 0.0)
    axes.add_patch(patches.Circle((x, y), 0.15, fill=False, linewidth=1.5))
    axes.annotate(
        "",
        xytext=(x, y),
        xy=(x + 0.5 * math.cos(orientation), y + 0.5 * math.sin(orientation)),
        arrowprops={"arrowstyle": "-|>", "color": "black"},
    )
    source, noises = about.get("source"), about.get("noise")
    noises = noises if isinstance(noises, list) else []
    for places, mark, colour, label in (
        ([source], "o", SOURCE_COLOUR, "source"),
        (noises, "x", NOISE_COLOUR, "noise"),
    ):
        axes.plot([], [], mark, color=colour, label=label)
        for place in filter(None, map(_direction, places)):
            far = place["distance"]
            angle = orientation + math.radians(place["azimuth"])
            flat = RAY_METRES if far is None else far
            flat *= math.cos(math.radians(place["elevation"] or 0.0))
            points = (
                [x, x + flat * math.cos(angle)],
                [y, y + flat * math.sin(angle)],
            )
            if far is None:  # a direction only
                axes.plot(*points, "--", color=colour)
            else:
                axes.plot(points[0][1], points[1][1], mark, color=colour)
    axes.plot([], [], ">", color="black", label="head, looking ahead")
    axes.figure.legend(loc="outside lower left", ncols=3, frameon=False)
    axes.set_aspect("equal")
    if size is not None:
        axes.autoscale_view()
    else:
        axes.set_xlim(x - 5.5, x + 5.5)
        axes.set_ylim(y - 5.5, y + 5.5)
    axes.set_xlabel("metres")
    axes.set_title(_title(about), loc="left")


def _title(about: dict) -> str:
    """Say where the source is and how long the room sounds."""
    place = _direction(about.get("source"))
    title = "where the source is, is not known"
    if place is not None:
        title = f"source at {place['azimuth']:.0f}°"
        if place["distance"] is not None:
            title += f", {place['distance']:.1f} m"
        title += f" ({'left' if place['azimuth'] > 0 else 'right'})"
    t60 = _number(about.get("t60_measured"))
    return title if t60 is None else f"{title}, T60 {t60:.2f} s"


def _draw_response(axes, response: Tensor, sample_rate: int):
    """Draw the level of the response at each ear."""
    level = response.abs().cpu().numpy()
    peak = max(float(level.max()), 1e-12)
    decibel = 20 * np.log10(level / peak + 10 ** (SILENCE_DB / 20))
    time = 1000 * np.arange(len(level)) / sample_rate
    names = _receivers(response)
    for ear in range(len(names)):
        axes.plot(
            time,
            decibel[:, ear],
            color=EAR_COLOURS[ear % len(EAR_COLOURS)],
            linewidth=0.6,
            alpha=0.8,
        )
    axes.set_ylabel("dB")
    axes.set_xlabel("time in milliseconds")
    axes.set_title(f"response of the room: {', '.join(names)}", loc="left")


def _draw_waveform(axes, waveform: Tensor, sample_rate: int, names):
    """Draw the channels of a waveform one above the other."""
    values = waveform.cpu().numpy()
    time = np.arange(len(values)) / sample_rate
    peak = max(float(np.abs(values).max()), 1e-6)
    for channel in range(len(names)):
        axes.plot(
            time,
            values[:, channel] / peak - 2 * channel,
            color=EAR_COLOURS[channel % len(EAR_COLOURS)],
            linewidth=0.4,
        )
    axes.set_yticks([-2 * channel for channel in range(len(names))], names)
    axes.set_xlim(0, time[-1])


NAMES = 2.6  # inches beside the bars of s(m)
MAX_INCHES = 40  # of a confusion matrix, whatever number of labels
MAX_NAME = 40  # letters that are shown


def plot_scores(
    models: Mapping[str, Mapping[str, tuple[float, float]]],
    path: Union[str, Path],
    generalizability: Optional[Mapping[str, float]] = None,
) -> None:
    """Draw the scores of models task by task, and their s(m).

    Arguments
    ---------
    models : Mapping[str, Mapping[str, tuple[float, float]]]
        Score and deviation of each model on each task, in percent.
    path : str or Path
        Where to write the picture.
    generalizability : Mapping[str, float], optional
        s(m) of models, published ones too.

    Example
    -------
    >>> path = getfixture("tmp_path") / "scores.png"
    >>> models = {"ours": {"ESC-50": (50.0, 4.0)}}
    >>> plot_scores(models, path, {"WavJEPA B": 92.3, "ours": 20.0})
    >>> path.stat().st_size > 5000
    True
    """
    tasks = list(dict.fromkeys(task for row in models.values() for task in row))
    sizes = [2 + 0.5 * len(tasks) + 0.25 * len(tasks) * len(models)]
    if generalizability:
        sizes.append(4)
    height = max(4, 0.3 * len(generalizability or ()))
    figure = require("matplotlib.figure", "plots").Figure(
        figsize=(sum(sizes) + NAMES, height)
    )
    panels = figure.subplots(
        1,
        len(sizes),
        width_ratios=sizes,
        squeeze=False,
        gridspec_kw={"wspace": NAMES * len(sizes) / sum(sizes)},
    )
    _draw_tasks(panels[0, 0], models, tasks)
    if generalizability:
        _draw_ranking(panels[0, 1], generalizability, set(models))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _show(name: str) -> str:
    """Shorten a name, and keep matplotlib from reading formulas in it."""
    return name[:MAX_NAME].replace("$", r"\$")


def _draw_tasks(axes, models: Mapping, tasks: Sequence[str]) -> None:
    """Draw a group of bars for each task."""
    width = 0.8 / len(models)
    for number, (model, row) in enumerate(models.items()):
        scores, deviations = zip(*row.values())
        axes.bar(
            [tasks.index(task) + (number + 0.5) * width - 0.4 for task in row],
            scores,
            width,
            yerr=deviations,
            label=_show(model),
        )
    names = [_show(task) for task in tasks]
    axes.set_xticks(range(len(tasks)), names, rotation=20, ha="right")
    axes.set_ylabel("primary score in %")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))


def _draw_ranking(axes, scores: Mapping[str, float], ours: set[str]) -> None:
    """Draw a bar for each model, the best on top."""
    names = sorted(scores, key=lambda name: scores[name])
    colours = ["black" if name in ours else "silver" for name in names]
    bars = axes.barh(
        [_show(name) for name in names],
        [scores[name] for name in names],
        color=colours,
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlim(0, 110)
    axes.set_xlabel("s(m)")


def plot_confusion(
    predictions: Union[str, Path],
    labels: Sequence[str],
    path: Union[str, Path],
) -> None:
    """Draw which classes are taken for which.

    Arguments
    ---------
    predictions : str or Path
        Predictions of a multiclass split, as the HEAR recipe writes them.
    labels : sequence of str
        Names of the classes.
    path : str or Path
        Where to write the picture.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> one_hot = np.eye(2)[[0, 0, 1]]
    >>> np.savez(folder / "a.npz", logits=one_hot, targets=one_hot)
    >>> plot_confusion(folder / "a.npz", ["dog", "cat"], folder / "a.png")
    >>> (folder / "a.png").stat().st_size > 5000
    True
    """
    with np.load(predictions) as arrays:
        found = arrays["logits"].argmax(axis=1)
        true = arrays["targets"].argmax(axis=1)
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (true, found), 1)
    size = min(2 + 0.35 * len(labels), MAX_INCHES)
    figure = require("matplotlib.figure", "plots").Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_show(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90)
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    for row, column in zip(*np.nonzero(counts)):
        dark = shares[row, column] > 0.5
        axes.text(
            column,
            row,
            f"{counts[row, column]:.0f}",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    figure.savefig(path, dpi=120, bbox_inches="tight")
