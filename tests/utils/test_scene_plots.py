"""Pictures of scenes show what is known, and never stop a run."""

import pytest
import torch
from matplotlib.figure import Figure

from speechbrain_wavjepa.utils.plots import plot_scene

PLACE = {"azimuth": 40.0, "elevation": 60.0, "distance": 2.0}


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draws a scene; gives the panel of the room, and its marks."""
    figures = []
    save = Figure.savefig

    def remember(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", remember)

    def draw(about, channels=2):
        plot_scene(
            about,
            torch.randn(800, channels),
            torch.randn(1600, 1),
            torch.randn(1600, channels),
            tmp_path / "scene.png",
        )
        assert (tmp_path / "scene.png").read_bytes()[1:4] == b"PNG"
        axes = figures.pop().axes[0]
        marks = [
            (line.get_linestyle(), line.get_xdata()[-1], line.get_ydata()[-1])
            for line in axes.lines
            if len(line.get_xdata())
        ]
        return axes, marks

    return draw


def test_all_is_shown_that_is_known(draw):
    about = {
        "source": PLACE,
        "noise": [PLACE, {**PLACE, "azimuth": -40.0}],
        "room_size": [6.0, 4.0, 3.0],
        "head": [3.0, 2.0, 1.5],
        "head_orientation": 50.0,
        "t60_measured": 0.345,
    }
    axes, marks = draw(about)
    title = axes.get_title(loc="left")
    assert title == "source at 40°, 2.0 m (left), T60 0.34 s"
    # turned by 50 degrees, 40 degrees to the left are along the depth
    assert [mark[1:] for mark in marks[:2]] == [pytest.approx((3.0, 3.0))] * 2
    assert marks[2][1] > 3.0
    assert axes.get_xlim()[1] >= 6.0


def test_a_direction_without_a_distance_is_a_line(draw):
    axes, marks = draw({"source": {"azimuth": -90.0}, "noise": []})
    assert axes.get_title(loc="left") == "source at -90° (right)"
    assert marks == [("--", pytest.approx(0, abs=1e-9), pytest.approx(-5.0))]


HOSTILE = [None, "text", [], {}, {"azimuth": "far"}, [[]], 1e300, True, 10**400]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nothing_known_is_told(channels, draw):
    axes, marks = draw({}, channels)
    assert marks == []
    assert "not known" in axes.get_title(loc="left")


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_metadata_of_any_kind_do_not_stop_a_run(value, draw):
    names = ("source", "noise", "room_size", "head", "head_orientation")
    _, marks = draw({**dict.fromkeys(names, value), "t60_measured": value})
    assert marks == []
    draw({"source": dict.fromkeys(PLACE, value), "noise": [value, PLACE]})


def test_a_silent_response_is_drawn(tmp_path):
    silent = torch.zeros(800, 2)
    plot_scene({}, silent, silent[:, :1], silent, tmp_path / "scene.png")
