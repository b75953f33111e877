"""Pictures show what they were given; odd metadata never stops a run."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from speechbrain_wavjepa.evaluation import describe_filters
from speechbrain_wavjepa.lobes import LeafFrontend
from speechbrain_wavjepa.utils.plots import (
    COLOURS,
    plot_confusion,
    plot_filters,
    plot_learning_curve,
    plot_masks,
    plot_scene,
    plot_scores,
)

PLACE = {"azimuth": 40.0, "elevation": 60.0, "distance": 2.0}


@pytest.fixture
def panels(monkeypatch, tmp_path):
    """Draws with a function; checks that a PNG is written, gives its axes."""
    figures = []
    save = Figure.savefig

    def remember(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", remember)

    def draw(function, *args, **options):
        function(*args, path=tmp_path / "picture.png", **options)
        assert (tmp_path / "picture.png").read_bytes()[1:4] == b"PNG"
        return figures.pop().axes

    return draw


@pytest.fixture
def draw(panels):
    """Draws a scene; gives the panel of the room, and its marks."""

    def draw(metadata, channels=2):
        axes = panels(
            plot_scene,
            metadata,
            torch.randn(800, channels),
            torch.randn(1600, 1),
            torch.randn(1600, channels),
        )[0]
        marks = [
            (line.get_linestyle(), line.get_xdata()[-1], line.get_ydata()[-1])
            for line in axes.lines
            if len(line.get_xdata())
        ]
        return axes, marks

    return draw


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_masks_are_drawn_where_they_are(panels):
    context = torch.tensor([True, False, False, True])
    targets = torch.tensor([[False, True, True, False]])
    _, bars, *_ = panels(
        plot_masks, torch.randn(1600), context, targets, channels=2
    )
    names = ["context, left", "context, right", "target 1, left"]
    assert labels(bars.yaxis) == [*names, "target 1, right"]
    for row, (start, colour) in enumerate(
        ((0, 0), (0.05, 0), (0.05, 1), (0, 1))
    ):
        (path,) = bars.collections[row].get_paths()
        (left, low), (right, high) = path.get_extents().get_points()
        assert (left, right) == pytest.approx((start, start + 0.05))
        assert (low, high) == pytest.approx((row - 0.4, row + 0.4))
        face = to_hex(bars.collections[row].get_facecolor()[0])
        assert face.upper() == COLOURS[colour]


def test_a_learning_curve_has_what_was_logged(panels):
    steps = [
        {"step": 10, "loss": 1.0, "learning_rate": 0.1},
        {"step": 20, "loss": 0.5, "valid_loss": 0.75, "learning_rate": 0.2},
    ]
    loss, std, _, rate = panels(plot_learning_curve, steps)
    curves = {x.get_label(): x.get_xydata().tolist() for x in loss.lines}
    assert curves == {
        "loss": [[10, 1.0], [20, 0.5]],
        "valid loss": [[20, 0.75]],
    }
    assert not std.lines
    assert rate.lines[0].get_ydata().tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match="log_interval_steps"):
        plot_learning_curve([], "picture.png")


def test_all_is_shown_that_is_known(draw):
    metadata = {
        "source": PLACE,
        "noise": [PLACE, {**PLACE, "azimuth": -40.0}],
        "room_size": [6.0, 4.0, 3.0],
        "head": [3.0, 2.0, 1.5],
        "head_orientation": 50.0,
        "t60_measured": 0.345,
    }
    axes, marks = draw(metadata)
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


def test_response_clip_and_ears_are_drawn(panels):
    response = torch.zeros(400, 2)
    response[100] = torch.tensor([1.0, 0.1])
    clip, scene = torch.randn(1600, 1), torch.randn(1600, 2)
    _, level, one, both = panels(plot_scene, {}, response, clip, scene)
    for line, peak in zip(level.lines, (0, -20)):
        assert line.get_xdata()[line.get_ydata().argmax()] == 100 / 16
        assert line.get_ydata().max() == pytest.approx(peak, abs=0.01)
        assert line.get_ydata().min() == pytest.approx(-80)
    assert one.lines[0].get_xdata()[-1] == pytest.approx(1599 / 16000)
    expected = clip[:, 0] / clip.abs().max()
    np.testing.assert_allclose(one.lines[0].get_ydata(), expected, atol=1e-6)
    expected = scene[:, 1] / scene.abs().max() - 2
    np.testing.assert_allclose(both.lines[1].get_ydata(), expected, atol=1e-6)
    assert labels(both.yaxis) == ["left", "right"]


def test_a_silent_response_is_drawn(panels):
    silent = torch.zeros(800, 2)
    _, level, *_ = panels(plot_scene, {}, silent, silent[:, :1], silent)
    assert level.lines[0].get_ydata().tolist() == pytest.approx([-80] * 800)


def test_scores_are_bars_and_the_best_is_on_top(panels):
    models = {"ours": {"ESC-50": (50, 4), "LC": (70, 1)}, "b": {"LC": (60, 2)}}
    ranking = {"WavJEPA B": 92.3, "ours": 20.0}
    tasks, ranks = panels(plot_scores, models, generalizability=ranking)
    assert labels(tasks.xaxis) == ["ESC-50", "LC"]
    ours, theirs = tasks.containers[1], tasks.containers[3]
    assert [bar.get_height() for bar in ours] == [50, 70]
    assert [bar.get_height() for bar in theirs] == [60]
    assert ours[1].get_x() < 1 < theirs[0].get_x() + 0.4
    (bars,) = ranks.containers
    assert labels(ranks.yaxis) == ["ours", "WavJEPA B"]
    assert [bar.get_width() for bar in bars] == [20.0, 92.3]
    colours = [to_hex(bar.get_facecolor()) for bar in bars]
    assert colours == [to_hex("black"), to_hex("silver")]


def test_a_confusion_counts_truth_by_row(panels, tmp_path):
    logits, targets = np.eye(2)[[0, 0, 1, 1]], np.eye(2)[[0, 0, 1, 0]]
    np.savez(tmp_path / "a.npz", logits=logits, targets=targets)
    (axes,) = panels(plot_confusion, tmp_path / "a.npz", ["dog", "$cat"])
    assert labels(axes.yaxis) == labels(axes.xaxis) == ["dog", r"\$cat"]
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3], [0, 1]])
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (1, 0): "1", (1, 1): "1"}


def test_filters_are_drawn_with_their_start(panels):
    initial = describe_filters(LeafFrontend(8, 20))
    tables = {"now": initial._replace(center_hz=initial.center_hz + 100)}
    axes = panels(plot_filters, tables, initial={"now": initial})
    centers = {line.get_label(): line for line in axes[0].lines}
    assert set(centers) == {"now", "now, at the start", "mel"}
    assert centers["now, at the start"].get_linestyle() == ":"
    moved = centers["now"].get_ydata() - centers["mel"].get_ydata()
    np.testing.assert_allclose(moved, 100, atol=0.01)
    legend = axes[4].get_legend().get_texts()
    names = {"alpha", "delta", "root", "smooth"}
    assert {text.get_text() for text in legend} == names
