"""All pictures: masks, learning curves, scenes, filters, scores, confusions.

Shapes: T samples, R samples of a response, C channels, N tokens of each, K
target blocks.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torchaudio
from torch import Tensor

from speechbrain_wavjepa.utils.environment import require

# colours that stay apart for colour-blind readers (Okabe and Ito 2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
CURVES = {
    "loss": ("loss", "valid_loss"),
    "std": ("target_std", "prediction_std"),
    "effective rank": ("effective_rank",),
    "learning rate": ("learning_rate",),
}
SILENCE_DB = -80.0
MAX_METRES = 1000.0  # what is larger is no place in a room
RAY_METRES = 5.0  # drawn where a direction is known, but no distance
NAMES = 2.6  # inches beside the bars of s(m)
MAX_INCHES = 40  # of a confusion matrix, whatever number of labels
MAX_NAME = 40  # letters that are shown
# of the parameters of filters
MARKERS = {"alpha": "o", "delta": "s", "root": "^", "smooth": "v"}
MARKERS |= {"exponent": "o", "pooling_ms": "o"}


@contextlib.contextmanager
def _figure(path: Union[str, Path], *size: float, layout="constrained"):
    """Yield a figure of so many inches, which labels may exceed; write it."""
    module = require("matplotlib.figure", "plots")
    figure = module.Figure(size, layout=layout)
    yield figure
    figure.savefig(path, dpi=120, bbox_inches="tight")


def plot_masks(
    waveform: Tensor,
    context_mask: Tensor,
    target_masks: Tensor,
    path: Union[str, Path],
    sample_rate: int = 16000,
    channels: int = 1,
) -> None:
    """Draw the masks [C*N] and [K, C*N] of a window [T] and its spectrogram."""
    seconds = len(waveform) / sample_rate
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=512, hop_length=160, n_mels=64
    )(waveform.cpu())
    decibel = 10 * np.log10(mel.numpy() + 1e-6)
    rows = {}  # mask [N] and colour of each row
    for number, mask in enumerate([context_mask, *target_masks]):
        title = f"target {number}" if number else "context"
        for ear, of_channel in zip(_ears(channels), mask.view(channels, -1)):
            name = f"{title}, {ear}" if channels > 1 else title
            rows[name] = of_channel, COLOURS[min(number, 1)]
    with _figure(path, 9, 5) as figure:
        sizes = {"sharex": True, "height_ratios": [3, 1.6]}
        spectrum, bars = figure.subplots(2, 1, **sizes)
        extent = (0, seconds, 0, len(decibel))
        look = {"origin": "lower", "aspect": "auto", "cmap": "magma"}
        floor = decibel.max() - 80
        image = spectrum.imshow(decibel, extent=extent, vmin=floor, **look)
        figure.colorbar(image, ax=spectrum, label="dB")
        title = "What the context encoder sees, and the targets"
        spectrum.set(ylabel="mel band", title=title)
        for row, (mask, colour) in enumerate(rows.values()):
            width = seconds / len(mask)
            kept = mask.nonzero().squeeze(1).tolist()
            spans = [(token * width, width) for token in kept]
            bars.broken_barh(spans, (row - 0.4, 0.8), facecolors=colour)
        bars.set_yticks(range(len(rows)), list(rows))
        bars.invert_yaxis()
        bars.set(xlim=(0, seconds), xlabel="time in seconds")


def plot_learning_curve(
    steps: Sequence[Mapping[str, float]], path: Union[str, Path]
) -> None:
    """Draw what a ``StepLog`` has logged over the optimizer step."""
    if not steps:
        raise ValueError("No step was logged: lower log_interval_steps.")
    with _figure(path, 10, 6.5) as figure:
        panels = figure.subplots(2, 2).flat
        for axes, (title, keys) in zip(panels, CURVES.items()):
            for key, colour in zip(keys, COLOURS):
                rows = [row for row in steps if key in row]
                if rows:
                    points = zip(*((row["step"], row[key]) for row in rows))
                    label = key.replace("_", " ")
                    (line,) = axes.plot(*points, label=label, color=colour)
                    if len(rows) < 30:
                        line.set(marker="o", markersize=3)
                    axes.legend(frameon=False)
            axes.set(title=title, xlabel="optimizer step")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)


def plot_scene(
    metadata: Mapping[str, Any],
    response: Tensor,
    clip: Tensor,
    scene: Tensor,
    path: Union[str, Path],
    sample_rate: int = 16000,
) -> None:
    """Draw a scene [T, C], its clip [T, 1], the source's response [R, C].

    Of the metadata, a bank's (``make_bank``) or a stranger's, none is needed.
    """
    with _figure(path, 11, 6.5) as figure:
        grid = figure.add_gridspec(3, 2, width_ratios=[1, 1.25])
        _draw_room(figure.add_subplot(grid[:, 0]), metadata)
        axes = figure.add_subplot(grid[0, 1])
        level = response.abs().cpu().numpy()
        level = level / max(float(level.max()), 1e-12)
        decibel = 20 * np.log10(level + 10 ** (SILENCE_DB / 20))
        names = _ears(response.shape[1])
        _draw_lines(axes, 1000 * len(level) / sample_rate, decibel, 0.6)
        axes.set(xlabel="time in milliseconds", ylabel="dB")
        axes.set_title(f"response of the room: {', '.join(names)}", loc="left")
        shared = None
        for row, title, waveform, names in (
            (1, "the clip", clip, ["clip"]),
            (2, "at the ears, with noise", scene, _ears(scene.shape[1])),
        ):
            shared = axes = figure.add_subplot(grid[row, 1], sharex=shared)
            values = waveform.cpu().numpy()
            values = values / max(float(np.abs(values).max()), 1e-6)
            below = -2 * np.arange(len(names))  # one above the other
            seconds = len(values) / sample_rate
            _draw_lines(axes, seconds, values[:, : len(names)] + below, 0.4)
            axes.set_yticks(below, names)
            axes.set_xlim(0, seconds)
            axes.set_title(title, loc="left")
        axes.set_xlabel("time in seconds")


def _draw_lines(axes, length: float, values: np.ndarray, width: float) -> None:
    """Draw a line for each channel of values [T, C]."""
    time = np.linspace(0, length, len(values), endpoint=False)
    for channel, line in enumerate(values.T):
        colour = COLOURS[channel % len(COLOURS)]
        axes.plot(time, line, color=colour, linewidth=width, alpha=0.8)


def _ears(channels: int) -> Sequence[str]:
    """Name the ears or receivers of a waveform."""
    others = [f"receiver {n + 1}" for n in range(channels)]
    return {1: ["omni"], 2: ["left", "right"]}.get(channels, others)


def _number(value: Any) -> Optional[float]:
    """Read a number of a bank's metadata, which may be anything."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and abs(value) <= MAX_METRES else None


def _place(values: Any) -> Optional[list[float]]:
    """Read the first two numbers of a list."""
    values = values[:2] if isinstance(values, list) else []
    numbers = [_number(value) for value in values]
    return numbers if len(numbers) == 2 and None not in numbers else None


def _direction(place: Any) -> Optional[dict[str, Optional[float]]]:
    """Read where a source is, seen from the head; None if no one knows."""
    place = place if isinstance(place, dict) else {}
    names = ("azimuth", "elevation", "distance")
    found = {name: _number(place.get(name)) for name in names}
    return None if found["azimuth"] is None else found


def _draw_room(axes, metadata: Mapping[str, Any]) -> None:
    """Draw walls, head, source and noises from above, as far as known."""
    patches = require("matplotlib.patches", "plots")
    size = _place(metadata.get("room_size"))
    if size is not None:
        walls = patches.Rectangle((0, 0), *size, fill=False, linewidth=2)
        axes.add_patch(walls)
    x, y = _place(metadata.get("head")) or (0.0, 0.0)
    ahead = math.radians(_number(metadata.get("head_orientation")) or 0.0)
    axes.add_patch(patches.Circle((x, y), 0.15, fill=False, linewidth=1.5))
    nose = (x + 0.5 * math.cos(ahead), y + 0.5 * math.sin(ahead))
    arrow = {"arrowstyle": "-|>", "color": "black"}
    axes.annotate("", xytext=(x, y), xy=nose, arrowprops=arrow)
    noises = metadata.get("noise")
    noises = noises if isinstance(noises, list) else []
    for label, mark, colour, places in (
        ("source", "o", COLOURS[0], [metadata.get("source")]),
        ("noise", "x", COLOURS[1], noises),
    ):
        axes.plot([], [], mark, color=colour, label=label)
        for place in filter(None, map(_direction, places)):
            known = place["distance"] is not None
            far = place["distance"] if known else RAY_METRES
            far *= math.cos(math.radians(place["elevation"] or 0.0))
            angle = ahead + math.radians(place["azimuth"])
            end_x, end_y = x + far * math.cos(angle), y + far * math.sin(angle)
            line = [x, end_x], [y, end_y], "--"
            axes.plot(*((end_x, end_y, mark) if known else line), color=colour)
    axes.plot([], [], ">", color="black", label="head, looking ahead")
    axes.figure.legend(loc="outside lower left", ncols=3, frameon=False)
    axes.set(aspect="equal", xlabel="metres")
    axes.autoscale_view()
    if size is None:
        axes.set(xlim=(x - 5.5, x + 5.5), ylim=(y - 5.5, y + 5.5))
    title = "where the source is, is not known"
    if place := _direction(metadata.get("source")):
        side = "left" if place["azimuth"] > 0 else "right"
        far = place["distance"]
        title = f"source at {place['azimuth']:.0f}°"
        title += f" ({side})" if far is None else f", {far:.1f} m ({side})"
    t60 = _number(metadata.get("t60_measured"))
    title += "" if t60 is None else f", T60 {t60:.2f} s"
    axes.set_title(title, loc="left")


def plot_scores(
    models: Mapping[str, Mapping[str, tuple[float, float]]],
    path: Union[str, Path],
    generalizability: Optional[Mapping[str, float]] = None,
) -> None:
    """Draw score and std in % of models task by task, and s(m) of models."""
    tasks = list(dict.fromkeys(task for row in models.values() for task in row))
    ranking = sorted((generalizability or {}).items(), key=lambda row: row[1])
    sizes = [2 + 0.5 * len(tasks) + 0.25 * len(tasks) * len(models)]
    sizes += [4] if ranking else []
    total, height = sum(sizes) + NAMES, max(4, 0.3 * len(ranking))
    with _figure(path, total, height, layout="none") as figure:
        gap = NAMES * len(sizes) / sum(sizes)
        grid = figure.add_gridspec(1, len(sizes), wspace=gap)
        grid.set_width_ratios(sizes)
        panels = [figure.add_subplot(place) for place in grid]
        width = 0.8 / len(models)
        for number, (model, row) in enumerate(models.items()):
            scores, stds = zip(*row.values())
            shift = (number + 0.5) * width - 0.4
            places = [tasks.index(task) + shift for task in row]
            panels[0].bar(places, scores, width, yerr=stds, label=_show(model))
        names = [_show(task) for task in tasks]
        panels[0].set_xticks(range(len(tasks)), names, rotation=20, ha="right")
        panels[0].set_ylabel("primary score in %")
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
        panels[0].legend(frameon=False, ncols=2, **above)
        if ranking:  # the best on top
            names, scores = zip(*ranking)
            colours = ["black" if n in models else "silver" for n in names]
            bars = panels[1].barh([*map(_show, names)], scores, color=colours)
            panels[1].bar_label(bars, fmt="%.1f", padding=3)
            panels[1].set(xlim=(0, 110), xlabel="s(m)")


def _show(name: str) -> str:
    """Shorten a name, and keep matplotlib from reading formulas in it."""
    return name[:MAX_NAME].replace("$", r"\$")


def plot_confusion(
    predictions: Union[str, Path],
    labels: Sequence[str],
    path: Union[str, Path],
) -> None:
    """Draw which classes are taken for which, as the HEAR recipe saved it."""
    with np.load(predictions) as arrays:
        found = arrays["logits"].argmax(axis=1)
        true = arrays["targets"].argmax(axis=1)
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (true, found), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = min(2 + 0.35 * len(labels), MAX_INCHES)
    with _figure(path, size, size, layout="none") as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        names = [_show(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=90)
        axes.set_yticks(range(len(labels)), names)
        axes.set(xlabel="found", ylabel="true")
        for place in zip(*np.nonzero(counts)):
            look = {"color": "white" if shares[place] > 0.5 else "black"}
            text = f"{counts[place]:.0f}"
            axes.text(*place[::-1], text, ha="center", va="center", **look)


def plot_filters(
    tables: Mapping[str, Any],
    path: Union[str, Path],
    initial: Optional[Mapping[str, Any]] = None,
) -> None:
    """Draw the FilterTable of some front-ends, and what they started from."""
    initial = initial or {}
    with _figure(path, 15, 8) as figure:
        panels = figure.subplots(2, 3)
        centers, widths, heat, sums, compression, pooling = panels.flat
        for (name, table), colour in zip(
            tables.items(), itertools.cycle(COLOURS)
        ):
            pairs = [(table, "-", name)]
            if name in initial:
                pairs.append((initial[name], ":", f"{name}, at the start"))
            for drawn, style, label in pairs:
                line = {"linestyle": style, "color": colour, "label": label}
                centers.plot(drawn.center_hz, **line)
                total = drawn.response.square().sum(dim=0)
                sums.plot(drawn.frequencies, total, **line)
                marker = {"marker": "o" if style == "-" else "x", "s": 14}
                widths.scatter(
                    drawn.center_hz.clamp(min=1),
                    drawn.width_hz.clamp(min=1),
                    color=colour,
                    label=label,
                    **marker,
                )
                for key, values in drawn.parameters.items():
                    several = len(tables) > 1
                    key_label = f"{name}, {key}" if several else key
                    axes = pooling if key == "pooling_ms" else compression
                    axes.plot(
                        drawn.center_hz,
                        values,
                        linestyle=style,
                        color=colour,
                        marker=MARKERS[key] if style == "-" else None,
                        markersize=3,
                        linewidth=0.8,
                        label=key_label if style == "-" else None,
                    )
        table = next(iter(tables.values()))
        count, highest = len(table.center_hz), table.frequencies[-1].item()
        ends = 2595 * np.log10(1 + np.array([60, 7800]) / 700)
        mel = 700 * (10 ** (np.linspace(*ends, count + 2) / 2595) - 1)
        centers.plot(mel[1:-1], color="0.6", label="mel")
        # where the root of a triangle, an amplitude, is half
        mel_width = 0.75 * (mel[2:] - mel[:-2])
        widths.plot(mel[1:-1], mel_width, "0.6", label="mel")
        decibel = 20 * np.log10(table.response.numpy() + 1e-3)
        image = heat.imshow(
            decibel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-60,
            vmax=0,
            extent=(0, highest, -0.5, count - 0.5),
        )
        figure.colorbar(image, ax=heat, label="dB")
        hertz, number = "center in Hz", "filter, by its center"
        centers.set(title="Centers", xlabel=number, ylabel=hertz)
        widths.set(title="Widths at half height", xlabel=hertz, ylabel="Hz")
        widths.set(xscale="log", yscale="log")
        title = f"Responses: {next(iter(tables))}"
        heat.set(title=title, xlabel="Hz", ylabel=number)
        sums.set(title="Sum of squared responses", xlabel="Hz", yscale="log")
        compression.set(title="Compression", xlabel=hertz)
        pooling.set(title="Low-pass (std)", xlabel=hertz, ylabel="ms")
        for axes in panels.flat:
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize="small")
            elif axes is not heat:
                axes.text(0.5, 0.5, "none", transform=axes.transAxes)


def plot_tone_response(
    response: Tensor, frequencies: Tensor, path: Union[str, Path]
) -> None:
    """Draw how features answer tones, [dim, K] at [K] Hz, best tone first."""
    order = response.argmax(dim=1).argsort(stable=True)
    values = response[order].numpy()
    with _figure(path, 8, 6) as figure:
        axes = figure.subplots()
        limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
        image = axes.imshow(
            values,
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
        )
        figure.colorbar(image, ax=axes, label="std in noise alone")
        ticks = range(0, len(frequencies), max(len(frequencies) // 8, 1))
        labels = [f"{frequencies[tick]:.0f}" for tick in ticks]
        axes.set_xticks(list(ticks), labels)
        axes.set(
            title="Answers of the tokens to bursts of tones",
            xlabel="tone in Hz",
            ylabel="feature, by its best tone",
        )
