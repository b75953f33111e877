"""Front-ends of filters: the token grid, their bounds, their refusals."""

import math

import pytest
import torch

from speechbrain_wavjepa.lobes import (
    ConvFrontend,
    LeafFrontend,
    MelFrontend,
    SincFrontend,
)
from speechbrain_wavjepa.nnet import filters

FILTERS = {"dim": 8, "num_filters": 12}
KINDS = {
    "leaf": (LeafFrontend, {"filter_stride": 4}),
    "leaf_uniform": (LeafFrontend, {"filter_stride": 4, "init": "uniform"}),
    "leaf_log": (LeafFrontend, {"filter_stride": 4, "compression": "log"}),
    "sinc": (SincFrontend, {}),
    "sinc_normal": (SincFrontend, {"init": "truncated_normal"}),
    "mel": (MelFrontend, {}),
    "mel_pcen": (MelFrontend, {"compression": "pcen"}),
    "mel_log1p": (MelFrontend, {"compression": "log1p"}),
}


def make(kind, **options):
    """Make a small front-end."""
    torch.manual_seed(0)
    make_frontend, settings = KINDS[kind]
    return make_frontend(**{**FILTERS, **settings, **options})


@pytest.mark.parametrize("kind", ["leaf", "sinc", "mel"])
def test_tokens_lie_on_the_grid_of_the_convolutions(kind):
    frontend, convolutions = make(kind), ConvFrontend()
    generator = torch.Generator().manual_seed(1)
    for size in torch.randint(1, 3000, (200,), generator=generator).tolist():
        assert frontend.num_tokens(size) == convolutions.num_tokens(size)
    for size in (240, 399, 400, 2222):
        tokens = frontend(torch.randn(2, size, 1))
        assert tokens.shape == (2, convolutions.num_tokens(size), 8)
    small = make(kind, stride=320, token_samples=330)
    assert small.num_tokens(32160) == 100
    assert small(torch.randn(1, 32160, 1)).shape == (1, 100, 8)


# PCEN remembers: its tokens are changed by all before them
@pytest.mark.parametrize("kind", ["leaf_log", "sinc", "mel"])
def test_a_token_is_centred_on_its_samples(kind):
    frontend = make(kind).double()
    quiet = 1e-3 * torch.randn(1, 8240, 1).double()
    loud = quiet.clone()
    loud[0, 160 * 25 + 120] += 10  # the middle of token 25
    change = (frontend(loud) - frontend(quiet)).abs().sum(dim=2)[0]
    reached = change.nonzero()[:, 0]
    assert reached[0] < 25 and reached[0] + reached[-1] == 2 * 25


@pytest.mark.parametrize("share_weights", [False, True])
@pytest.mark.parametrize("kind", ["leaf", "sinc", "mel_pcen"])
def test_two_channels(kind, share_weights):
    frontend = make(kind, channels=2, share_weights=share_weights)
    if kind != "mel_pcen" and not share_weights:
        with torch.no_grad():  # both start from the same mel filters
            for parameter in frontend.stacks[1].parameters():
                parameter.mul_(0.9)
    waveform = torch.randn(2, 2000, 2)
    tokens = frontend(waveform)
    half = frontend.num_tokens(2000)
    assert tokens.shape == (2, 2 * half, 8)
    swapped = frontend(waveform.flip(2))
    same = torch.equal(tokens[:, :half], swapped[:, half:])
    assert same == share_weights
    assert len(frontend.stacks) == (1 if share_weights else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_bf16(kind):
    frontend = make(kind)
    waveform = torch.randn(2, 3000, 1)
    waveform[0] = 0
    exact = frontend(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frontend(waveform), exact)
    assert exact.isfinite().all()
    exact.square().sum().backward()
    for name, parameter in frontend.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_mirrored_and_turned_centers_measure_the_same():
    frontend = make("leaf", filter_stride=1).double()
    waveform = torch.randn(1, 3000, 1).double()
    expected = frontend(waveform)
    for change in (torch.neg, lambda center: center + 2 * math.pi):
        other = make("leaf", filter_stride=1).double()
        other.load_state_dict(frontend.state_dict())
        with torch.no_grad():
            center = other.stacks[0].center
            center.copy_(change(center))
        torch.testing.assert_close(other(waveform), expected)


@pytest.mark.parametrize("init", ["mel", "uniform"])
def test_filter_stride_4_is_close_to_1(init):
    whole = make("leaf", filter_stride=1, init=init).double()
    quarter = make("leaf", filter_stride=4, init=init).double()
    quarter.load_state_dict(whole.state_dict())
    waveform = torch.randn(2, 32160, 1).double()
    tokens = whole(waveform)
    error = (quarter(waveform) - tokens).square().mean().sqrt()
    assert error < 0.02 * tokens.std()


@pytest.mark.parametrize("init", ["mel", "uniform", "truncated_normal"])
def test_filters_start_sorted_and_in_their_range(init):
    stack = make("leaf", init=init).stacks[0]
    center, width = stack.center.detach(), stack.log_width.detach().exp()
    low, high = filters.gabor_width_range(401)
    assert (center.diff() >= 0).all() and (width.diff() <= 0).all()
    assert 0 <= center.min() and center.max() <= math.pi + 1e-6
    assert low * 0.999 <= width.min() and width.max() <= high * 1.001
    stack = make("sinc", init=init).stacks[0]
    low, high = stack.cutoffs()
    assert (low.diff() >= 0).all() and (high > low).all()
    assert high.max() <= math.pi


@pytest.mark.parametrize("taps", [201, 401])  # which round the other way
@pytest.mark.parametrize("value", [9.0, -9.0])
def test_the_widest_and_the_narrowest_filter_learn(taps, value):
    frontend = make("leaf", taps=taps)
    log_width = frontend.stacks[0].log_width
    with torch.no_grad():
        log_width[:3] = value
    frontend.constrain()
    frontend(torch.randn(1, 3000, 1)).square().sum().backward()
    assert log_width.grad[:3].all()


@pytest.mark.parametrize(
    "kind, name, value",
    [
        ("leaf", "log_width", 9.0),
        ("leaf", "log_width", -9.0),
        ("leaf", "pooling", 3.0),
        ("leaf", "compression.alpha", 4.0),
        ("sinc", "low", 5.0),
        ("sinc", "band", -7.0),
    ],
)
def test_parameters_beyond_their_bounds_return(kind, name, value):
    frontend = make(kind)
    waveform = torch.randn(1, 3000, 1)
    parameter = frontend.stacks[0].get_parameter(name)
    with torch.no_grad():
        parameter[:3] = value
    before = frontend(waveform)
    frontend.constrain()
    assert (parameter.abs() < abs(value)).all()
    torch.testing.assert_close(frontend(waveform), before)
    if name != "band":  # up to the highest frequency: nothing lies above
        frontend(waveform).square().sum().backward()
        assert parameter.grad[:3].all()


def test_weight_decay_spares_the_filters():
    leaf = make("leaf", channels=2)
    names = {id(p): name for name, p in leaf.named_parameters()}
    spared = {names[id(p)] for p in leaf.undecayed_parameters()}
    expected = ["center", "log_width", "pooling"]
    expected += [f"compression.{x}" for x in filters.PCEN.BOUNDS]
    assert spared == {f"stacks.{i}.{x}" for i in range(2) for x in expected}
    sinc = make("sinc")
    spared = sinc.undecayed_parameters()
    assert spared == [sinc.stacks[0].low, sinc.stacks[0].band]
    assert make("mel").undecayed_parameters() == []
    assert ConvFrontend().undecayed_parameters() == []


@pytest.mark.parametrize("kind", KINDS)
def test_settings_build_it_again(kind):
    frontend = make(kind, channels=2)
    again = type(frontend)(**frontend.settings())
    again.load_state_dict(frontend.state_dict())
    waveform = torch.randn(1, 2000, 2)
    assert torch.equal(again(waveform), frontend(waveform))


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("leaf", {"taps": 101}, "201 samples .* token_samples=240"),
        ("leaf", {"taps": 400}, "taps=400 must be odd"),
        ("leaf", {"stride": 0}, "stride=0 must be 1 or more"),
        ("leaf", {"filter_stride": 0}, "filter_stride=0 must be 1"),
        ("leaf_uniform", {"num_filters": 1}, "num_filters=1 must be 2"),
        ("leaf", {"filter_stride": 3}, "filter_stride=3 must divide"),
        ("leaf", {"init": "bark"}, "init='bark'"),
        ("leaf", {"compression": "root"}, "compression='root'"),
        ("leaf", {"max_hz": 9000}, "60.0 to 9000 Hz"),
        ("sinc", {"min_low_hz": 7890}, "7940.0 to 7900.0 Hz"),
        ("mel", {"frame": 600}, "n_fft=512 even, and frame=600 no longer"),
        ("mel", {"n_fft": 511}, "n_fft=511 even"),
        ("mel", {"num_filters": 200}, "Mel filter .* n_fft=512"),
        ("mel", {"n_fft": 200, "frame": 200}, "200 samples .* token_samples"),
    ],
)
def test_what_does_not_fit_is_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **settings)


@pytest.mark.parametrize("kind", ["leaf", "sinc", "mel"])
def test_waveforms_that_do_not_fit_are_refused(kind):
    with pytest.raises(ValueError, match=r"\[1, 1000, 3\]"):
        make(kind)(torch.zeros(1, 1000, 3))
    with pytest.raises(ValueError, match="239 samples"):
        make(kind)(torch.zeros(1, 239, 1))
