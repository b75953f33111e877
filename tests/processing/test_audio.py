"""Levels, rates and channels against NumPy and torchaudio."""

import math

import numpy as np
import pytest
import torch
import torchaudio

from speechbrain_wavjepa.processing import audio


@pytest.mark.parametrize("level_db", [-14.0, -30.0])
def test_level_to_a_hundredth_of_a_decibel(level_db):
    clip = audio.rms_normalize(3e-3 * torch.randn(16000, 2), level_db)
    level = 20 * math.log10(clip.square().mean().sqrt())
    assert abs(level - level_db) < 0.01


def test_level_keeps_the_ratio_between_the_ears():
    clip = torch.randn(8000, 1) * torch.tensor([[1.0, 0.25]])
    normalized = audio.rms_normalize(clip)
    ratio = normalized[:, 0].std() / normalized[:, 1].std()
    assert ratio.item() == pytest.approx(4.0, rel=1e-5)


def test_silence_stays_finite():
    silence = torch.zeros(100, 1)
    assert torch.equal(audio.rms_normalize(silence), silence)
    assert torch.equal(audio.standardize(silence[None]), silence[None])


def test_standardize_equals_numpy(device):
    windows = 3 + 5 * torch.randn(4, 999, 2, dtype=torch.float64)
    ours = audio.standardize(windows.to(device)).cpu().numpy()
    for window, result in zip(windows.numpy(), ours):
        expected = (window - window.mean()) / (window.std(ddof=1) + 1e-5)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_padding_does_not_enter_the_statistics(device):
    windows = 3 + torch.randn(2, 500, 2, dtype=torch.float64)
    padded = torch.cat((windows, 1e3 * torch.ones(2, 77, 2).double()), dim=1)
    lengths = torch.tensor([500, 400], device=device)
    ours = audio.standardize(padded.to(device), lengths).cpu()
    for window, result, length in zip(windows, ours, (500, 400)):
        alone = audio.standardize(window[None, :length])[0]
        torch.testing.assert_close(result[:length], alone, rtol=0, atol=1e-12)
        assert torch.all(result[length:] == 0)


def test_standardize_works_in_float32_at_least():
    windows = torch.randn(1, 1000, 1).bfloat16()
    assert audio.standardize(windows).dtype == torch.float32


@pytest.mark.parametrize("rate", sorted(audio.USUAL_RATES - {16000}))
@pytest.mark.parametrize("num_samples", [1, 777, 12345])
def test_resample_equals_torchaudio(rate, num_samples):
    waveform = torch.randn(num_samples, 2)
    # in float64, since torchaudio designs the filter in the waveform's type
    expected = torchaudio.functional.resample(
        waveform.T.double(),
        rate,
        16000,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    ).T
    ours = audio.resample(waveform, rate, 16000)
    assert len(ours) == math.ceil(num_samples * 16000 / rate)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=5e-6)


def test_the_filter_is_made_once():
    audio._sinc_kernel.cache_clear()
    for _ in range(3):
        audio.resample(torch.randn(100, 1), 44100, 16000)
    assert audio._sinc_kernel.cache_info().misses == 1


@pytest.mark.parametrize("rate", [44101, 12345, 7999])
def test_other_rates_keep_a_tone(rate):
    time = torch.arange(2 * rate) / rate
    tone = torch.sin(2 * math.pi * 1000 * time)[:, None]
    resampled = audio.resample(tone, rate, 16000)[4000:20000, 0]
    spectrum = torch.fft.rfft(resampled * torch.hann_window(16000)).abs()
    assert spectrum.argmax().item() == 1000
    assert resampled.std().item() == pytest.approx(math.sqrt(0.5), rel=1e-3)


@pytest.mark.parametrize("rate", [0, -8000, 44100.5])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match=str(rate)):
        audio.resample(torch.zeros(10, 1), rate, 16000)


def test_channel_policy():
    four = torch.arange(8.0).view(2, 4)
    first = audio.select_channels(four, 1, "first")
    assert first.tolist() == [[0.0], [4.0]]
    mean = audio.select_channels(four, 1, "mean")
    assert mean.tolist() == [[1.5], [5.5]]
    both = audio.select_channels(first, 2)
    assert both.tolist() == [[0.0, 0.0], [4.0, 4.0]]
    with pytest.raises(ValueError, match="2 channels.*4"):
        audio.select_channels(four, 2)
    with pytest.raises(ValueError, match="loudest"):
        audio.select_channels(four, 1, "loudest")
