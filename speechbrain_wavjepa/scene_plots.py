"""A picture of a scene: the room from above, its responses, what is heard.

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Shapes: T samples, R samples of a response, C receivers (ears).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from pathlib import Path
from typing import Union

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from speechbrain_wavjepa.rooms import EARS

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
SOURCE_COLOUR = "#0072B2"
NOISE_COLOUR = "#D55E00"
EAR_COLOURS = ("#0072B2", "#D55E00", "#009E73")
SILENCE_DB = -80.0


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
        What the bank knows about it: "source" and each of "noise" with
        "azimuth" (left is positive), "elevation" and "distance"; where
        known "room_size", "head", "head_orientation" and "t60_measured".
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
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 1.25])
    _draw_room(figure.add_subplot(grid[:, 0]), about)
    _draw_response(figure.add_subplot(grid[0, 1]), response, sample_rate)
    axes = figure.add_subplot(grid[1, 1])
    _draw_waveform(axes, clip, sample_rate, ["clip"])
    axes.set_title("the clip", loc="left")
    axes = figure.add_subplot(grid[2, 1], sharex=axes)
    names = EARS if scene.shape[1] == 2 else ["omni"]
    _draw_waveform(axes, scene, sample_rate, names)
    axes.set_title("at the ears, with noise", loc="left")
    axes.set_xlabel("time in seconds")
    FigureCanvasAgg(figure).print_png(str(path))


def _place(about: dict, place: dict) -> tuple[float, float]:
    """Find where a source is on the floor, the head's place being known."""
    head = about.get("head", (0.0, 0.0, 0.0))
    direction = math.radians(
        about.get("head_orientation", 0.0) + place["azimuth"]
    )
    flat = place["distance"] * math.cos(math.radians(place["elevation"]))
    return (
        head[0] + flat * math.cos(direction),
        head[1] + flat * math.sin(direction),
    )


def _draw_room(axes, about: dict):
    """Draw walls, head, source and noises from above."""
    if "room_size" in about:
        width, depth = about["room_size"][:2]
        axes.add_patch(Rectangle((0, 0), width, depth, fill=False, linewidth=2))
    x, y = about.get("head", (0.0, 0.0, 0.0))[:2]
    orientation = math.radians(about.get("head_orientation", 0.0))
    axes.add_patch(Circle((x, y), 0.15, fill=False, linewidth=1.5))
    axes.annotate(
        "",
        xytext=(x, y),
        xy=(x + 0.5 * math.cos(orientation), y + 0.5 * math.sin(orientation)),
        arrowprops={"arrowstyle": "-|>", "color": "black"},
    )
    for places, mark, colour, label in (
        ([about["source"]], "o", SOURCE_COLOUR, "source"),
        (about["noise"], "x", NOISE_COLOUR, "noise"),
    ):
        points = zip(*(_place(about, place) for place in places))
        axes.plot(*points, mark, color=colour, label=label)
    axes.plot([], [], ">", color="black", label="head, looking ahead")
    axes.figure.legend(loc="outside lower left", ncols=3, frameon=False)
    axes.set_aspect("equal")
    if "room_size" in about:
        axes.autoscale_view()
    else:
        axes.set_xlim(x - 5.5, x + 5.5)
        axes.set_ylim(y - 5.5, y + 5.5)
    axes.set_xlabel("metres")
    source = about["source"]
    title = (
        f"source at {source['azimuth']:.0f}°, {source['distance']:.1f} m "
        f"({'left' if source['azimuth'] > 0 else 'right'})"
    )
    if "t60_measured" in about:
        title += f", T60 {about['t60_measured']:.2f} s"
    axes.set_title(title, loc="left")


def _draw_response(axes, response: Tensor, sample_rate: int):
    """Draw the level of the response at each ear."""
    level = response.abs().cpu().numpy()
    decibel = 20 * np.log10(level / level.max() + 10 ** (SILENCE_DB / 20))
    time = 1000 * np.arange(len(level)) / sample_rate
    names = EARS if level.shape[1] == 2 else ["omni"]
    for ear in range(len(names)):
        axes.plot(
            time,
            decibel[:, ear],
            color=EAR_COLOURS[ear],
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
            color=EAR_COLOURS[channel],
            linewidth=0.4,
        )
    axes.set_yticks([-2 * channel for channel in range(len(names))], names)
    axes.set_xlim(0, time[-1])
