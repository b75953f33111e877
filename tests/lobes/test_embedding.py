"""Embeddings: nothing but a clip's own samples enters them."""

import pytest
import torch
from tiny_embedding import make_clips, make_model

from speechbrain_wavjepa.inference import RMSNormalizer
from speechbrain_wavjepa.lobes import WavJEPAEmbedding
from speechbrain_wavjepa.nnet import LayerSum
from speechbrain_wavjepa.processing import standardize


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_padding_and_neighbours_change_nothing(channels, overlap):
    embedding = WavJEPAEmbedding(
        make_model(channels), overlap=overlap, window_batch=3
    )
    level = RMSNormalizer()
    lengths = [160, 1000, 1000, 32160, 40000, 80000]
    clips = [make_clips(length, channels)[0] for length in lengths]
    batch = torch.full((len(clips), 80000, channels), 1e6)
    for row, clip in zip(batch, clips):
        row[: len(clip)] = clip
    wav_lens = torch.tensor(lengths) / 80000
    with torch.no_grad():
        levelled = level(batch, wav_lens)
        together = embedding(levelled, wav_lens)
        tokens, _, counts = embedding.tokens(levelled, wav_lens)
        for row, clip in enumerate(clips):
            clip = level(clip[None])
            torch.testing.assert_close(
                together[row], embedding(clip)[0], rtol=0, atol=1e-5
            )
            alone, times, (count,) = embedding.tokens(clip)
            assert counts[row] == count == len(times)
            torch.testing.assert_close(
                tokens[row, :count], alone[0], rtol=0, atol=1e-5
            )
            assert not tokens[row, count:].any()


@pytest.mark.parametrize("num_samples", [1, 160, 240, 5000, 32160, 160000])
def test_times_lie_in_the_middle_of_what_is_heard(num_samples):
    embedding = WavJEPAEmbedding(make_model())
    tokens, times, _ = embedding.tokens(make_clips(num_samples))
    assert torch.isfinite(tokens).all()
    assert times[0] == min(240, num_samples) / 2 / 16000
    assert times[-1] < num_samples / 16000
    torch.testing.assert_close(
        times.diff(), torch.full_like(times.diff(), 0.01), rtol=0, atol=1e-9
    )


def test_tokens_are_those_of_windows_at_their_place():
    """Two windows on the grid, and a last one that reaches back."""
    model = make_model()
    clip = make_clips(80000)
    tokens, _, (count,) = WavJEPAEmbedding(model).tokens(clip)
    assert count == 499
    for first in (0, 200, 299):
        start = first * 160
        window = standardize(clip[:, start : start + 32160])
        expected = model.encode(window)[0]
        new = slice(101, None) if first == 299 else slice(None)
        torch.testing.assert_close(
            tokens[0, first : first + 200][new], expected[new]
        )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("num_samples", [160, 16000, 32159, 64000, 80000])
def test_the_authors_way(channels, num_samples):
    """Their runtime, written down once more: windows one by one, masked."""
    model = make_model(channels)
    clip = make_clips(num_samples, channels)
    embedding = WavJEPAEmbedding(
        model, window_samples=32159, padding_in_statistics=True
    )
    size = 32159
    padding = size - num_samples % size
    padded = torch.nn.functional.pad(clip, (0, 0, 0, padding))
    count = 200 * (padded.shape[1] // size) - padding // 160
    expected = []
    with torch.no_grad():
        for number, window in enumerate(padded.split(size, dim=1)):
            keep = torch.arange(200)[None] + 200 * number < count
            if keep.any():
                tokens = model.encode(
                    standardize(window), keep.repeat(1, channels)
                )
                tokens = tokens.unflatten(1, (channels, 200)).mean(dim=1)
                expected.append(tokens[keep])
        tokens, times, _ = embedding.tokens(clip)
        pooled = embedding(clip)[0, 0]
    expected = torch.cat(expected)
    torch.testing.assert_close(tokens[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled, expected.mean(dim=0), rtol=0, atol=1e-5)
    duration = num_samples / 16000
    torch.testing.assert_close(
        times, torch.arange(count).double() * duration / count
    )


def test_ears_that_cancel_are_heard():
    embedding = WavJEPAEmbedding(make_model(2))
    left = make_clips(16000)
    opposite = embedding(torch.cat([left, -left], dim=2))
    silent = embedding(torch.zeros(1, 16000, 2))
    assert (opposite - silent).norm() > 0.1


def test_pooling():
    clips = make_clips(20000, count=2)
    model = make_model()
    tokens, _, _ = WavJEPAEmbedding(model).tokens(clips)
    mean = WavJEPAEmbedding(model)(clips)
    most = WavJEPAEmbedding(model, pooling="max")(clips)
    torch.testing.assert_close(mean[:, 0], tokens.mean(dim=1))
    torch.testing.assert_close(most[:, 0], tokens.amax(dim=1))


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("freeze", [False, True])
def test_what_learns(sums, freeze):
    model = make_model()
    layer_sum = LayerSum(model.context_encoder.depth) if sums else None
    embedding = WavJEPAEmbedding(model, layer_sum=layer_sum, freeze=freeze)
    clips = make_clips(40000)
    output = embedding(clips)
    assert output.requires_grad == (sums or not freeze)
    if output.requires_grad:
        output.square().sum().backward()
    gradients = [p.grad is not None for p in model.frontend.parameters()]
    assert all(gradients) if not freeze else not any(gradients)
    if sums:
        assert layer_sum.weights.grad.abs().sum() > 0


def test_layer_weights_choose_a_layer():
    model = make_model()
    layer_sum = LayerSum(model.context_encoder.depth)
    embedding = WavJEPAEmbedding(model, layer_sum=layer_sum)
    clips = make_clips(32160)
    with torch.no_grad():
        layer_sum.weights.copy_(torch.tensor([0.0, 100.0, 0.0]))
        layer = list(model.encode_layers(standardize(clips)))[1]
        expected = torch.nn.functional.layer_norm(layer, [16])
        torch.testing.assert_close(embedding.tokens(clips)[0], expected)


def test_half_precision_is_near():
    clips = make_clips(40000)
    model = make_model()
    exact = WavJEPAEmbedding(model)(clips)
    near = WavJEPAEmbedding(model, precision="bf16")(clips)
    assert near.dtype == exact.dtype
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "median"}, "pooling must be one of .* got 'median'"),
        ({"precision": "fp16"}, "precision must be one of .* got 'fp16'"),
        ({"overlap": 0.6}, "overlap must lie between 0 and 0.5"),
        ({"window_batch": 0}, "window_batch be 1 or more, got 0.0 and 0"),
        ({"window_samples": 300}, "window_samples=300 holds 1 tokens"),
        (
            {"padding_in_statistics": True, "overlap": 0.1},
            "authors' way .* knows neither overlap",
        ),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        WavJEPAEmbedding(make_model(), **settings)
