"""Windows lie where they should, and each token is given once."""

import pytest
import torch

from speechbrain_wavjepa.processing import TokenGrid, random_windows
from speechbrain_wavjepa.processing.windows import TokenMerger, Window

GRID = TokenGrid(160, 240, 32160)


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


def number_of_window(number, places):
    return torch.full_like(places, number)


def merge(grid, num_samples, value=lambda number, places: places):
    """Merge the tokens of a clip, each token a value of window and place."""
    merger, merged = TokenMerger(grid, num_samples), []
    for number, window in enumerate(grid.lay_windows(num_samples)):
        places = window.first_token + torch.arange(window.num_tokens).double()
        merged.append(merger.add(window, value(number, places)[:, None]))
    tokens, times = (torch.cat(pieces) for pieces in zip(*merged))
    return tokens[:, 0], times


@pytest.mark.parametrize("overlap", [0, 1, 20, 100])
@pytest.mark.parametrize(
    "num_samples", [240, 399, 400, 32159, 32160, 32161, 32320, 64160, 160000]
)
def test_every_token_is_given_once(num_samples, overlap):
    grid = TokenGrid(160, 240, 32160, overlap)
    tokens, times = merge(grid, num_samples)
    assert len(tokens) == grid.count_tokens(num_samples)
    assert len(tokens) == (num_samples - 240) // 160 + 1
    places = torch.arange(len(tokens)).double()
    torch.testing.assert_close(tokens, places)
    assert torch.equal(times, (places * 160 + 120) / 16000)
    for window in grid.lay_windows(num_samples):
        assert window.start == window.first_token * 160
        assert window.start + window.num_samples <= num_samples
        assert window.num_samples == min(num_samples, 32160)


def test_neighbours_are_cross_faded():
    grid = TokenGrid(160, 240, 32160, 3)
    tokens, _ = merge(grid, 64160, number_of_window)
    fade = [0.25, 0.5, 0.75]
    assert tokens.tolist() == [
        *197 * [0],
        *fade,
        *194 * [1],
        *(1 + weight for weight in fade),
        *3 * [2],
    ]


def test_tokens_of_windows_that_reach_back_are_those_of_the_earlier():
    tokens, _ = merge(
        TokenGrid(160, 240, 32160),
        48160,
        number_of_window,
    )
    assert tokens.tolist() == [*200 * [0], *100 * [1]]


def test_a_whole_number_of_windows_has_no_further_one():
    assert len(list(GRID.lay_windows(32160))) == 1
    assert len(list(GRID.lay_windows(32160 + 32000))) == 2
    assert len(list(GRID.lay_windows(32160 + 32159))) == 2


def test_a_clip_shorter_than_a_token_has_one():
    assert list(GRID.lay_windows(1)) == [Window(0, 240, 0, 1)]
    assert GRID.times(range(1), 100).tolist() == [50 / 16000]


def test_a_window_without_tokens_is_refused():
    with pytest.raises(ValueError, match="window_samples=300 holds 1 tokens"):
        TokenGrid(160, 240, 300)


@pytest.mark.parametrize(
    "num_samples, num_windows, num_tokens",
    [
        # the authors' own counts for clips of 120, 18.64, 5, 4.77, 4, 1 s
        (1920000, 60, 11941),
        (298240, 10, 1855),
        (80000, 3, 498),
        (76320, 3, 475),
        (64000, 2, 399),
        (16000, 1, 100),
        (32159, 1, 200),  # the window of padding alone gives no token
        (160, 1, 1),
    ],
)
def test_padded_windows_are_the_authors(num_samples, num_windows, num_tokens):
    grid = TokenGrid(160, 240, 32159, padded=True)
    starts = [window.start for window in grid.lay_windows(num_samples)]
    assert starts == [32159 * number for number in range(num_windows)]
    tokens, _ = merge(grid, num_samples)
    assert torch.equal(tokens, torch.arange(num_tokens).double())


def test_padded_windows_need_a_token():
    with pytest.raises(ValueError, match="159 samples leave no token"):
        list(TokenGrid(160, 240, 32159, padded=True).lay_windows(159))
