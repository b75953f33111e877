"""What clips pass before they are embedded."""

import pytest
import torch

from speechbrain_wavjepa.inference import (
    AudioNormalizer,
    ChannelSelector,
    RMSNormalizer,
)
from speechbrain_wavjepa.processing import resample
from speechbrain_wavjepa.processing.audio import valid_lengths


def test_a_file_keeps_its_channels_and_gets_the_rate():
    audio = torch.randn(44100, 2)
    normalizer = AudioNormalizer(16000)
    assert torch.equal(normalizer(audio, 44100), resample(audio, 44100, 16000))
    assert normalizer(audio[:, 0], 16000).shape == (44100, 1)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (torch.zeros(0, 1), 16000, "There are 0 samples"),
        (torch.zeros(10, 1), 1, "sample rate is 1 Hz, under"),
    ],
)
def test_files_that_cannot_be_heard(audio, rate, message):
    with pytest.raises(ValueError, match=message):
        AudioNormalizer(16000)(audio, rate)


@pytest.mark.parametrize(
    ("channels", "found", "expected"),
    [(1, 1, [0]), (1, 2, [0]), (1, 4, [0]), (2, 1, [0, 0]), (2, 2, [0, 1])],
)
def test_channels(channels, found, expected):
    clips = torch.randn(3, 100, found)
    assert torch.equal(ChannelSelector(channels)(clips), clips[:, :, expected])


def test_the_mean_of_channels():
    clips = torch.randn(3, 100, 2)
    expected = clips.mean(dim=2, keepdim=True)
    assert torch.equal(ChannelSelector(1, "mean")(clips), expected)
    with pytest.raises(ValueError, match="'first' or 'mean', got 'last'"):
        ChannelSelector(1, "last")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_samples_must_be_finite(value):
    clips = torch.zeros(2, 100)
    clips[1, 50] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        ChannelSelector()(clips)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((2, 0), 1, r"got \[2, 0\]"),
        ((2, 0, 1), 1, r"got \[2, 0, 1\]"),
        ((16000,), 1, r"got \[16000\]"),
        ((1, 100, 8), 1, "4 channels at most, got .*, 8"),
        ((1, 2, 16000), 2, "are the axes right"),
        ((1, 100, 4), 2, "2 channels cannot take a waveform with 4"),
    ],
)
def test_clips_that_cannot_be_heard(shape, channels, message):
    with pytest.raises(ValueError, match=message):
        ChannelSelector(channels)(torch.zeros(shape))


def test_level_leaves_out_padding_and_keeps_the_ears_apart():
    clips = torch.randn(2, 1000, 2)
    clips[:, :, 1] *= 0.1
    padded = clips.clone()
    padded[1, 500:] = 77
    levelled = RMSNormalizer(-20)(padded, torch.tensor([1.0, 0.5]))
    alone = RMSNormalizer(-20)(clips[1:, :500])
    assert torch.equal(levelled[1, :500], alone[0])
    assert not levelled[1, 500:].any()
    level = 20 * levelled[0].square().mean().sqrt().log10()
    torch.testing.assert_close(level, torch.tensor(-20.0))
    ratio = levelled[0].std(dim=0)
    torch.testing.assert_close(
        ratio[1] / ratio[0], clips[0].std(dim=0)[1] / clips[0].std(dim=0)[0]
    )
    assert not RMSNormalizer()(torch.zeros(1, 100, 1)).any()


def test_lengths():
    clips = torch.zeros(3, 1000)
    assert valid_lengths(clips) == [1000] * 3
    assert valid_lengths(clips, torch.tensor([1, 0.333, 1e-9])) == [
        1000,
        333,
        1,
    ]
    for wav_lens in ([1.0, 0.5], [1.0, 0.0, 1.0], [1.0, 16000.0, 1.0]):
        with pytest.raises(ValueError, match="relative to the longest of 3"):
            valid_lengths(clips, torch.tensor(wav_lens))
