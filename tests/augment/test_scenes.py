"""Scenes against direct sums, plain loops and measured levels."""

import math

import pytest
import torch

from speechbrain_wavjepa.augment import SceneMixer, SceneParts, SceneSampler
from speechbrain_wavjepa.augment.scenes import convolve, fit_noise
from speechbrain_wavjepa.processing import random_windows, standardize


def make_parts(num_scenes=2, num_samples=3000, taps=400, **changes):
    """Make random parts, all noises active throughout."""
    parts = {
        "rows": torch.arange(num_scenes),
        "source_response": torch.randn(num_scenes, 2, taps),
        "noise_responses": torch.randn(num_scenes, 3, 2, taps),
        "noise": torch.randn(num_scenes, num_samples),
        "noise_span": torch.tensor([[0, num_samples]] * num_scenes),
        "snr_db": torch.linspace(5, 40, num_scenes),
    }
    return SceneParts(**{**parts, **changes})


def direct_convolution(waveform, response):
    """Sum shifted copies of a waveform, one for every tap."""
    result = torch.zeros_like(waveform)
    for delay, weight in enumerate(response.tolist()):
        if delay < len(waveform):
            result[delay:] += weight * waveform[: len(waveform) - delay]
    return result


@pytest.mark.parametrize("taps", [1, 2, 77, 500, 900])
def test_convolution_is_the_direct_sum(taps, device):
    waveform = torch.randn(500, dtype=torch.float64)
    response = torch.randn(taps, dtype=torch.float64)
    result = convolve(waveform.to(device), response.to(device)).cpu()
    expected = direct_convolution(waveform, response)
    torch.testing.assert_close(result, expected, atol=1e-10, rtol=0)


def test_response_longer_than_the_clip_needs_no_care():
    waveform, response = torch.randn(2, 100), torch.randn(2, 5000)
    torch.testing.assert_close(
        convolve(waveform, response), convolve(waveform, response[:, :100])
    )


def test_mixer_equals_a_loop_over_clips_ears_and_positions(device):
    waveform = torch.randn(3, 3000, 1, dtype=torch.float64)
    parts = make_parts()._map(torch.Tensor.double)
    parts.rows = torch.tensor([2, 0])
    mixed = SceneMixer()(waveform.to(device), parts.to(device)).cpu()
    assert torch.equal(mixed[1], waveform[1].expand(-1, 2))  # a clean clip
    for scene, row in enumerate([2, 0]):
        source = torch.stack(
            [
                direct_convolution(waveform[row, :, 0], response)
                for response in parts.source_response[scene]
            ]
        )
        noise = sum(
            torch.stack(
                [
                    direct_convolution(parts.noise[scene], response)
                    for response in position
                ]
            )
            for position in parts.noise_responses[scene]
        )
        snr = parts.snr_db[scene].item()
        power_ratio = source.square().sum() / noise.square().sum()
        gain = (power_ratio / 10 ** (snr / 10)).sqrt()
        expected = (source + gain * noise).T
        torch.testing.assert_close(mixed[row], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("snr_per_channel", [False, True])
def test_measured_ratio_is_the_drawn_one(snr_per_channel):
    torch.manual_seed(3)
    span = torch.tensor([[500, 1400], [0, 3000]])
    parts = make_parts(noise_span=span)
    parts.noise[0, :500] = parts.noise[0, 1400:] = 0
    waveform = torch.randn(2, 3000, 1)
    mixer = SceneMixer(snr_per_channel=snr_per_channel)
    mixed = mixer(waveform, parts)
    silent = torch.zeros_like(parts.noise)
    source = mixer(waveform, make_parts(**{**vars(parts), "noise": silent}))
    noise = mixed - source
    for scene, (start, stop) in enumerate(span.tolist()):
        energies = [
            part[scene, start:stop].double().square().sum(dim=0)
            for part in (source, noise)
        ]
        if not snr_per_channel:
            energies = [energy.sum() for energy in energies]
        measured = 10 * torch.log10(energies[0] / energies[1])
        assert torch.all((measured - parts.snr_db[scene]).abs() < 0.1)


def test_no_noise_and_one_tap_give_back_the_clip():
    waveform = torch.randn(2, 800, 1)
    parts = make_parts(
        num_samples=800,
        source_response=torch.ones(2, 2, 1),
        noise=torch.zeros(2, 800),
    )
    mixed = SceneMixer()(waveform, parts)
    torch.testing.assert_close(mixed, waveform.expand(-1, -1, 2))


def test_silent_source_or_noise_stays_finite():
    parts = make_parts()
    parts.noise[0] = 0
    waveform = torch.randn(2, 3000, 1)
    waveform[1] = 0
    mixed = SceneMixer()(waveform, parts)
    assert torch.isfinite(mixed).all()
    assert not mixed[1].any()


def level_and_time_difference(ears):
    """Measure dB and samples by which the left ear [T, 2] is ahead."""
    left, right = ears.double().T
    level = 10 * torch.log10(left.square().sum() / right.square().sum())
    spectrum = torch.fft.rfft(torch.stack((left, right)), 2 * len(left))
    correlation = torch.fft.irfft(spectrum[1] * spectrum[0].conj())
    delay = int(correlation.argmax())
    return level.item(), delay - len(correlation) * (delay > len(left))


def test_differences_between_the_ears_survive_every_later_step():
    torch.manual_seed(0)
    response = torch.zeros(1, 2, 40)
    response[0, 0, 3], response[0, 1, 14] = 1.0, 0.4  # left: louder, first
    parts = make_parts(
        num_scenes=1,
        num_samples=4000,
        source_response=response,
        snr_db=torch.tensor([60.0]),
    )
    scene = SceneMixer()(torch.randn(1, 4000, 1), parts)
    before = level_and_time_difference(scene[0, 40:])
    assert before == (pytest.approx(20 * math.log10(1 / 0.4), abs=0.1), 11)
    windows, lengths = random_windows(scene, 3200, 4)
    for window in standardize(windows, lengths):
        level, delay = level_and_time_difference(window)
        assert level == pytest.approx(before[0], abs=0.2)
        assert delay == before[1]


def test_one_gain_keeps_the_level_difference_of_the_noise():
    torch.manual_seed(1)
    parts = make_parts(num_scenes=1)
    parts.noise_responses[:, :, 1] *= 0.1
    waveform = torch.randn(1, 3000, 1)
    wet = convolve(parts.noise[0], parts.noise_responses[0].sum(dim=0))
    before = level_and_time_difference(wet.T)[0]
    changes = {}
    for per_channel in (False, True):
        mixer = SceneMixer(snr_per_channel=per_channel)
        noise = mixer(waveform, parts)
        parts_without = make_parts(**{**vars(parts), "snr_db": 900.0})
        parts_without.snr_db = torch.tensor([900.0])
        noise = (noise - mixer(waveform, parts_without))[0]
        after = level_and_time_difference(noise)[0]
        changes[per_channel] = abs(after - before)
    assert changes[False] < 0.01
    assert changes[True] > 3


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match="one channel, got 2"):
        SceneMixer()(torch.zeros(2, 800, 2), make_parts())
    with pytest.raises(ValueError, match="2 receivers.*1 channels"):
        SceneMixer(channels=1)(torch.zeros(2, 3000, 1), make_parts())


class Rooms(list):
    """Rooms, some of them bad."""

    def __getitem__(self, index):
        if super().__getitem__(index) is None:
            raise ValueError(f"room {index} is not finite")
        return super().__getitem__(index)


class Room:
    """A room with that many noise positions."""

    def __init__(self, positions, taps=30):
        self.responses = torch.full((1 + positions, 2, taps), float(positions))
        self.metadata = {"positions": positions}


def test_sampler_is_a_function_of_its_generator():
    sampler = SceneSampler(
        [Room(1), Room(3, taps=50)], [torch.randn(900)], scene_prob=0.5
    )
    first, second, other = (
        sampler(16, 1000, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.noise, second.noise)
    assert torch.equal(first.noise_responses, second.noise_responses)
    assert not torch.equal(first.snr_db, other.snr_db)


def test_sampler_draws_in_range_and_pads_with_zeros():
    sampler = SceneSampler(
        [Room(1), Room(3, taps=50)],
        [torch.ones(900), torch.ones(3000)],
        snr_db=[5, 40],
        scene_prob=0.25,
    )
    generator = torch.Generator().manual_seed(0)
    parts = sampler(400, 1000, generator)
    assert 60 < len(parts.rows) < 140
    assert parts.snr_db.min() >= 5 and parts.snr_db.max() <= 40
    assert parts.snr_db.min() < 8 and parts.snr_db.max() > 37
    assert parts.noise_responses.shape[1:] == (3, 2, 50)
    for about, responses in zip(parts.metadata, parts.noise_responses):
        heard = responses.abs().sum(dim=(1, 2)) > 0
        assert heard.sum() == about["positions"]
    for (start, stop), noise in zip(parts.noise_span.tolist(), parts.noise):
        assert stop - start in (900, 1000)
        assert not noise[:start].any() and not noise[stop:].any()


def test_bad_rooms_are_counted_and_drawn_again():
    sampler = SceneSampler(Rooms([None, Room(1)]), [torch.ones(900)])
    parts = sampler(32, 1000, torch.Generator().manual_seed(0))
    assert len(parts.metadata) == 32
    assert 16 < parts.num_bad < 64


def test_only_bad_rooms_stop_with_the_reason():
    sampler = SceneSampler(Rooms([None]), [torch.ones(900)])
    with pytest.raises(ValueError, match="room 0 is not finite"):
        sampler(1, 1000)


def test_no_scenes_at_all_leave_clips_clean():
    sampler = SceneSampler([Room(1)], [torch.ones(900)], scene_prob=0.0)
    waveform = torch.randn(4, 1000, 1)
    mixed = SceneMixer()(waveform, sampler(4, 1000))
    assert torch.equal(mixed, waveform.expand(-1, -1, 2))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scene_prob": 1.5}, "scene_prob.*1.5"),
        ({"snr_db": [40, 5]}, "snr_db"),
        ({"noises": []}, "1 rooms and 0 noises"),
        ({"fade_seconds": -1}, "fade_seconds"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    settings = {"bank": [Room(1)], "noises": [torch.ones(9)], **change}
    with pytest.raises(ValueError, match=message):
        SceneSampler(**settings)


def test_longer_noise_is_cut_and_fades_out_only():
    fitted, span = fit_noise(torch.ones(1500), 1200, 400)
    assert span == (0, 1200)
    assert torch.equal(fitted[:800], torch.ones(800))
    torch.testing.assert_close(fitted[800:], torch.linspace(1, 0, 400))


def test_shorter_noise_is_placed_anywhere_and_fades_in_and_out():
    starts = set()
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        fitted, (start, stop) = fit_noise(torch.ones(90), 100, 40, generator)
        assert stop - start == 90
        torch.testing.assert_close(
            fitted[start : start + 40], torch.linspace(0, 1, 40)
        )
        starts.add(start)
    assert starts == set(range(11))
