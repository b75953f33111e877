"""Windows lie where they should."""

import pytest
import torch

from speechbrain_wavjepa.processing.windows import random_windows


def numbered_clips(num_clips, num_samples):
    """Make clips whose samples tell their clip and position."""
    clip = torch.arange(num_clips)[:, None] * 1_000_000
    return (clip + torch.arange(num_samples))[:, :, None].double()


def test_random_windows_lie_inside_the_valid_part(device):
    lengths = torch.tensor([1000, 400, 150])
    clips = numbered_clips(3, 1000).to(device)
    windows, window_lengths = random_windows(clips, 200, 50, lengths)
    assert windows.shape == (150, 200, 1)
    starts = windows[:, 0, 0].cpu().view(3, 50) % 1_000_000
    assert torch.all(windows.diff(dim=1) == 1)
    assert torch.equal(
        windows[:, 0, 0].cpu() // 1_000_000,
        torch.arange(3.0).repeat_interleave(50).double(),
    )
    assert starts[0].max() <= 800 and starts[1].max() <= 200
    assert torch.all(starts[2] == 0)
    assert window_lengths.cpu().tolist() == [200] * 100 + [150] * 50


def test_every_start_is_drawn():
    starts = random_windows(numbered_clips(1, 13), 10, 2000)[0][:, 0, 0]
    counts = torch.bincount(starts.long(), minlength=4)
    assert len(counts) == 4
    assert counts.min() > 400  # 500 expected


def test_the_generator_decides():
    clips = torch.randn(2, 500, 2)
    draws = [
        random_windows(
            clips, 100, 3, generator=torch.Generator().manual_seed(seed)
        )[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_window_longer_than_the_clips_is_refused():
    with pytest.raises(ValueError, match="300 samples.*200"):
        random_windows(torch.zeros(1, 200, 1), 300, 1)
