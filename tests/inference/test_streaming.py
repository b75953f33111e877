"""Files read block by block, and sound that arrives bit by bit."""

import os

import numpy as np
import pytest
import soundfile
import torch
from tiny_embedding import make_clips, make_model

from speechbrain_wavjepa.dataio import clips as file_blocks
from speechbrain_wavjepa.dataio.clips import read_blocks
from speechbrain_wavjepa.inference import (
    ChannelSelector,
    RMSNormalizer,
    StreamingEmbedder,
    TokenEncoder,
    embed_file,
)
from speechbrain_wavjepa.inference.streaming import measure_file, stream_file
from speechbrain_wavjepa.lobes import WavJEPAEmbedding
from speechbrain_wavjepa.processing import resample


def make_encoder(channels=1, **options):
    return TokenEncoder(
        ChannelSelector(channels),
        RMSNormalizer(),
        WavJEPAEmbedding(make_model(channels), **options),
    )


def write(path, num_samples, rate, channels=1, **options):
    samples = make_clips(num_samples, channels)[0].numpy() / 8
    soundfile.write(path, samples, rate, **options)
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0]).reshape(
        -1, channels
    )


@pytest.mark.parametrize("rate", [16000, 8000, 44100, 44101])
@pytest.mark.parametrize("seconds", [0.3, 2, 3.7, 6])
def test_blocks_are_the_whole(tmp_path, rate, seconds):
    path = tmp_path / "a.wav"
    whole = write(path, round(seconds * rate), rate, 2, subtype="FLOAT")
    blocks = list(read_blocks(path, 16000, block_seconds=2))
    assert [len(block) for block in blocks[:-1]] == [32000] * (len(blocks) - 1)
    torch.testing.assert_close(
        torch.cat(blocks), resample(whole, rate, 16000), rtol=0, atol=1e-5
    )


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.wav"
    write(path, 1000, 1)
    with pytest.raises(ValueError, match=r"a.wav cannot be read: .* 1 Hz"):
        list(read_blocks(path, 16000))
    write(path, 0, 16000)
    with pytest.raises(ValueError, match="it is empty"):
        list(read_blocks(path, 16000))
    path.write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"a.wav cannot be read"):
        list(read_blocks(path, 16000))
    with pytest.raises(ValueError, match="b.wav is missing"):
        list(read_blocks(tmp_path / "b.wav", 16000))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"overlap": 0.25, "window_batch": 2},
        {"pooling": "max", "window_batch": 3},
        {"window_samples": 32159, "padding_in_statistics": True},
    ],
)
@pytest.mark.parametrize("seconds", [0.005, 1.5, 2.01, 31.3])
def test_a_streamed_file_is_the_file_at_once(tmp_path, options, seconds):
    if seconds < 0.01 and "padding_in_statistics" in options:
        seconds = 0.01
    encoder = make_encoder(2, **options)
    path = tmp_path / "a.flac"
    whole = write(path, round(seconds * 22050), 22050, 2)
    whole = resample(whole, 22050, 16000)
    with torch.no_grad():
        expected = encoder(whole[None])
        pooled = encoder.embed(whole[None])[0, 0]
    pieces = list(stream_file(encoder, path))
    for position, name in enumerate(("embeddings", "times")):
        streamed = torch.cat([piece[position] for piece in pieces])
        reference = expected[name].reshape(streamed.shape)
        torch.testing.assert_close(streamed, reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        embed_file(encoder, path), pooled, rtol=0, atol=1e-5
    )


def test_a_silent_file(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(40000), 16000)
    assert torch.isfinite(embed_file(make_encoder(), path)).all()


@pytest.mark.parametrize("block", [100, 1600, 5000, 48000])
def test_the_size_of_blocks_does_not_matter(block):
    encoder = make_encoder()
    clip = make_clips(80000)[0]
    live, other = (StreamingEmbedder(encoder, 1600) for _ in range(2))
    pieces = [live.push(some) for some in clip.split(block)]
    expected, expected_times = other.push(clip)
    torch.testing.assert_close(torch.cat([p[0] for p in pieces]), expected)
    times = torch.cat([p[1] for p in pieces])
    assert torch.equal(times, expected_times)
    torch.testing.assert_close(
        times.diff(), torch.full_like(times.diff(), 0.01)
    )
    assert times[0] == 240 / 2 / 16000


def test_live_tokens_are_those_of_the_window_that_ends_there():
    encoder = make_encoder(2)
    clip = make_clips(70000, 2)[0]
    live = StreamingEmbedder(encoder, 1600)
    for number, block in enumerate(clip.split(1600)):
        tokens, times = live.push(block)
        if number == 0:
            assert len(tokens) == 9  # the first token hears one stride more
            continue
        if len(block) < 1600:
            break
        assert len(tokens) == 10
        end = 1600 * (number + 1)
        start = max(-(-(end - 32160) // 160) * 160, 0)
        window = encoder(clip[None, start:end])["embeddings"][0]
        torch.testing.assert_close(tokens, window[-10:], rtol=0, atol=1e-5)
        assert abs(times[-1] - (end - 120) / 16000) < 0.01
    assert not len(tokens)
    rest, times = live.finish()
    assert len(rest) == (70000 - 240) // 160 + 1 - 429 == 8
    assert times[-1] < 70000 / 16000
    again, _ = live.push(clip[:1600])
    assert len(again) == 9


def test_finish_before_the_first_token():
    live = StreamingEmbedder(make_encoder())
    assert len(live.finish()[0]) == 0
    live.push(torch.zeros(100))
    tokens, times = live.finish()
    assert len(tokens) == len(times) == 0


def test_live_errors():
    live = StreamingEmbedder(make_encoder(2))
    with pytest.raises(ValueError, match="NaN"):
        live.push(torch.full((100, 2), torch.nan))
    with pytest.raises(ValueError, match="2 channels cannot take"):
        live.push(torch.zeros(100, 3))
    for hop in (0, 50, 40000):
        with pytest.raises(ValueError, match="hop_samples must lie between"):
            StreamingEmbedder(make_encoder(), hop)


def test_blocks_are_shorter_for_absurd_rates_and_channels(
    tmp_path, monkeypatch
):
    """Memory is bounded, and the sound is the same."""
    path = tmp_path / "a.wav"
    write(path, 5 * 22050, 22050, 2)
    whole = torch.cat(list(read_blocks(path, 16000)))
    monkeypatch.setattr(file_blocks, "BLOCK_VALUES", 2 * 2 * 22050)
    blocks = list(read_blocks(path, 16000))
    assert [len(block) for block in blocks] == [32000, 32000, 16000]
    torch.testing.assert_close(torch.cat(blocks), whole, rtol=0, atol=1e-5)


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="a.wav is no regular file"):
        list(read_blocks(tmp_path / "a.wav", 16000))


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path):
    encoder, path = make_encoder(), tmp_path / "a.wav"
    write(path, 80000, 16000)
    measured = measure_file(encoder, path)
    write(path, 1000, 16000)
    with pytest.raises(ValueError, match="a.wav became shorter while it was"):
        embed_file(encoder, path, measured)


def test_embeddings_that_are_not_finite(tmp_path):
    """However the sound arrives; training tells by its loss."""
    encoder = make_encoder()
    encoder.embedding_model.model.token_norm.bias.data[0] = torch.nan
    path = tmp_path / "a.wav"
    write(path, 40000, 16000)
    live = StreamingEmbedder(encoder)
    live.push(torch.zeros(1000))
    for embed in (
        lambda: live.push(torch.randn(8000)),
        live.finish,
        lambda: embed_file(encoder, path),
        lambda: encoder.embed(torch.randn(1, 8000)),
    ):
        with pytest.raises(ValueError, match="embeddings that are not finite"):
            embed()
    learning = WavJEPAEmbedding(encoder.embedding_model.model, freeze=False)
    assert learning(torch.randn(1, 8000, 1)).isnan().any()
