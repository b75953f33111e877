"""A picture of a scene: the room from above, its responses, what is heard.

Needs matplotlib (the extra ``plots``).

Shapes: T samples, R samples of a response, C receivers (ears).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from torch import Tensor

from speechbrain_wavjepa.utils.extras import require

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
