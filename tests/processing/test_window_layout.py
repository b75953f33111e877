"""Windows and tokens of clips of any length."""

import pytest
import torch

from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.processing.windows import TokenGrid

GRID = TokenGrid(160, 240, 32160, 200)


def total_weights(windows):
    """Sum the weights of all windows at each place in the clip."""
    total = torch.zeros(max(window.end_token for window in windows))
    for window in windows:
        total[window.first_token : window.end_token] += window.token_weights
    return total


@pytest.mark.parametrize(
    "layers", [[[8, 10, 5], [8, 3, 2]], [[8, 20, 10], [8, 4, 4]], [[8, 7, 7]]]
)
def test_the_grid_is_that_of_the_front_end(layers):
    frontend = ConvFrontend(8, layers)
    grid = TokenGrid.of(frontend.num_tokens, 1000)
    assert frontend.num_tokens(grid.receptive_field - 1) == 0
    for count in (1, 2, 5, 17):
        least = grid.receptive_field + (count - 1) * grid.stride
        assert frontend.num_tokens(least) == count
        assert frontend.num_tokens(least - 1) == count - 1


def test_a_window_without_tokens_is_refused():
    with pytest.raises(ValueError, match="window_samples=300 holds 1 tokens"):
        TokenGrid.of(ConvFrontend().num_tokens, 300)


@pytest.mark.parametrize("overlap", [0, 1, 20, 100])
@pytest.mark.parametrize(
    "num_samples", [240, 399, 400, 32159, 32160, 32161, 32320, 64160, 160000]
)
def test_every_token_is_taken_once(num_samples, overlap):
    windows = list(GRID.lay_windows(num_samples, overlap))
    total = total_weights(windows)
    assert len(total) == (num_samples - 240) // 160 + 1
    torch.testing.assert_close(total, torch.ones_like(total))
    for window in windows:
        assert window.start == window.first_token * 160
        assert window.start + window.num_samples <= num_samples
        assert window.num_samples == min(num_samples, 32160)


def test_a_whole_number_of_windows_has_no_further_one():
    assert len(list(GRID.lay_windows(32160))) == 1
    assert len(list(GRID.lay_windows(32160 + 32000))) == 2
    assert len(list(GRID.lay_windows(32160 + 32159))) == 2


def test_a_clip_shorter_than_a_token_has_one():
    (window,) = GRID.lay_windows(1)
    assert window.num_samples == 240
    assert window.token_weights.tolist() == [1]


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
    grid = TokenGrid(160, 240, 32159, 200)
    windows = list(grid.lay_padded_windows(num_samples))
    assert [window.start for window in windows] == [
        32159 * number for number in range(num_windows)
    ]
    assert windows[-1].end_token == num_tokens


def test_padded_windows_need_a_token():
    with pytest.raises(ValueError, match="159 samples leave no token"):
        list(TokenGrid(160, 240, 32159, 200).lay_padded_windows(159))
