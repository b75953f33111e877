"""Planted filters are found, and figures tell how far they moved."""

import json
import math

import pytest
import torch
from pictures import is_drawn

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.evaluation.filter_analysis import (
    describe_channels,
    describe_filters,
    filter_figures,
    tone_response,
    write_filters,
)
from speechbrain_wavjepa.inference import write_pretrained
from speechbrain_wavjepa.lobes import (
    ConvFrontend,
    LeafFrontend,
    MelFrontend,
    SincFrontend,
    WavJEPAEncoder,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

RADIANS = 2 * math.pi / 16000
FRONTENDS = {
    "conv": lambda: ConvFrontend(8, [[8, 10, 5], [8, 48, 32]]),
    "leaf": lambda: LeafFrontend(8, 20, filter_stride=4),
    "sinc": lambda: SincFrontend(8, 20),
    "mel": lambda: MelFrontend(8, 20),
}


def plant_gabor(frontend, number, center_hz, width_hz):
    """Let a filter lie at a center, with a width at half its height."""
    stack = frontend.stacks[0]
    with torch.no_grad():
        stack.center[number] = center_hz * RADIANS
        ratio = 16000 / width_hz
        sigma = math.sqrt(2 * math.log(2)) / math.pi * ratio
        stack.log_width[number] = math.log(sigma)


@pytest.mark.parametrize("center_hz", [3000, -3000, 16000 + 3000])
def test_a_planted_gabor_filter_is_found(center_hz):
    frontend = FRONTENDS["leaf"]()
    plant_gabor(frontend, 4, center_hz, 400)
    table = describe_filters(frontend)
    place = table.number.tolist().index(4)
    assert table.center_hz[place].item() == pytest.approx(3000, rel=1e-5)
    assert table.width_hz[place].item() == pytest.approx(400, rel=1e-5)
    response = table.response[place]
    peak = table.frequencies[response.argmax()].item()
    assert peak == pytest.approx(3000, abs=16)
    # the width is that of the response itself
    wide = table.frequencies[response >= 0.5]
    assert (wide[-1] - wide[0]).item() == pytest.approx(400, abs=32)
    assert (table.center_hz.diff() >= 0).all()


def test_a_planted_band_is_found():
    frontend = FRONTENDS["sinc"]()
    with torch.no_grad():  # 50 Hz are added to each
        frontend.stacks[0].low[7] = 1950 * RADIANS
        frontend.stacks[0].band[7] = 950 * RADIANS
    table = describe_filters(frontend)
    place = table.number.tolist().index(7)
    assert table.center_hz[place].item() == pytest.approx(2500, rel=1e-5)
    assert table.width_hz[place].item() == pytest.approx(1000, rel=1e-5)
    wide = table.frequencies[table.response[place] >= 0.5]
    assert wide[0].item() == pytest.approx(2000, abs=32)
    assert wide[-1].item() == pytest.approx(3000, abs=32)


def test_mel_filters_lie_on_the_mel_scale():
    table = describe_filters(FRONTENDS["mel"]())
    figures = filter_figures(table, table)
    # a bin of 31 Hz is up to 31 mel; all but the lowest are less
    assert figures["mel_distance"] < 15
    assert table.width_hz[-1] > 2 * table.width_hz[5]


@pytest.mark.parametrize("kind", FRONTENDS)
def test_untouched_filters_did_not_move(kind):
    frontend = FRONTENDS[kind]()
    figures = filter_figures(*(describe_filters(frontend) for _ in range(2)))
    assert figures["moved_hz"] == figures["js_distance"] == 0
    assert figures["moved_width"] == 1
    assert 0 < figures["coverage"] <= 1
    assert all(type(figure) in (int, float) for figure in figures.values())


def test_figures_follow_filters_that_cross():
    frontend = FRONTENDS["leaf"]()
    initial = describe_filters(frontend)
    plant_gabor(frontend, 0, 7000, 100)
    plant_gabor(frontend, 1, 3, 100)
    table = describe_filters(frontend)
    figures = filter_figures(table, initial)
    moved = 7000 - initial.center_hz[0] + initial.center_hz[1] - 3
    assert figures["moved_hz"] == pytest.approx(moved.item() / 20, rel=1e-4)
    ratios = (100 / initial.width_hz[:2]).log().abs().sum() / 20
    assert figures["moved_width"] == pytest.approx(ratios.exp().item())
    assert figures["at_bounds"] == 1
    assert 0 < figures["js_distance"] < 1


@pytest.mark.parametrize("share_weights", [False, True])
def test_each_ear_has_its_filters(share_weights):
    frontend = LeafFrontend(8, 20, channels=2, share_weights=share_weights)
    plant_gabor(frontend, 0, 5000, 200)
    left, right = (describe_filters(frontend, ear) for ear in (0, 1))
    assert torch.equal(left.center_hz, right.center_hz) == share_weights
    tables = describe_channels("leaf", frontend)
    ears = [f"leaf, channel {ear}" for ear in (1, 2)]
    assert list(tables) == (["leaf"] if share_weights else ears)


def test_a_tone_finds_the_filter_at_its_frequency():
    frontend = LeafFrontend(20, 20, filter_stride=4, compression="log")
    projection = frontend.stacks[0].projection
    with torch.no_grad():
        projection.weight.copy_(torch.eye(20))
    table = describe_filters(frontend)
    frequencies, response = tone_response(frontend, table.center_hz[::3])
    assert response.shape == (20, 7)
    assert response.argmax(dim=0).tolist() == [*range(0, 20, 3)]
    assert response.max() > 5


@pytest.mark.parametrize("kind", FRONTENDS)
def test_any_front_end_answers_tones(kind):
    frequencies, response = tone_response(FRONTENDS[kind]())
    assert frequencies.shape == (64,) and response.shape == (8, 64)
    assert frequencies[0].item() == pytest.approx(60)
    assert response.isfinite().all() and response.any()


def test_the_noise_under_tones_follows_the_seed():
    frontend = FRONTENDS["leaf"]()
    first, again, other = (
        tone_response(frontend, seed=s)[1] for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_frequencies_are_those_of_the_front_ends_rate():
    frontend = LeafFrontend(8, 20, sample_rate=8000, max_hz=3900)
    table = describe_filters(frontend)
    assert table.frequencies[-1] == 4000 and table.center_hz[-1] < 3900
    assert tone_response(frontend)[0][-1].item() == pytest.approx(3900)


def test_tokens_too_far_apart_are_refused():
    frontend = ConvFrontend(4, [[4, 2**18, 2**18]])
    with pytest.raises(ValueError, match="tokens that far apart"):
        tone_response(frontend)


def test_the_command_draws_folders(tmp_path, capsys):
    folders = []
    for kind, make in FRONTENDS.items():
        model = WavJEPAEncoder(make(), TransformerEncoder(16, 1, 2))
        write_pretrained(tmp_path / kind, model)
        folders.append(str(tmp_path / kind))
    output = tmp_path / "pictures"
    assert main(["filters", *folders, "--output", str(output)]) == 0
    figures = json.loads((output / "filters.json").read_text())
    names = [folder.replace("/", "_") for folder in folders]
    assert list(figures) == names
    figures = dict(zip(FRONTENDS, figures.values()))
    # random weights have no start that is known
    assert "moved_hz" in figures["leaf"] and "moved_hz" not in figures["conv"]
    for name in ("filters", *(f"{name}-tones" for name in names)):
        assert is_drawn(output / f"{name}.png")
    others = ["--output", str(tmp_path / "others")]
    for arguments, message in (
        ([folders[0], "--output", str(output)], "--overwrite"),
        (["nowhere", *others], "nowhere"),
        ([folders[0], folders[0], *others], "each once"),
    ):
        assert main(["filters", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "others").exists()


def test_moved_filters_are_drawn_beside_their_start(tmp_path):
    frontend = FRONTENDS["leaf"]()
    initial = {"leaf": describe_filters(frontend)}
    plant_gabor(frontend, 3, 4000, 500)
    write_filters({"leaf": frontend}, tmp_path, initial)
    figures = json.loads((tmp_path / "filters.json").read_text())["leaf"]
    assert figures["moved_hz"] > 100
