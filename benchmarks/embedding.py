"""Time the embedding of clips, of sound that arrives, and of an hour.

ViT-B with random weights:

1. A clip of 10 s in one batch of windows, in float32 and in bfloat16,
   against windows one by one in float32: through our encoder, and as the
   authors' runtime encodes them (``torch.nn.TransformerEncoder`` with a key
   padding mask, the last window padded).
2. Live: the time to encode the window of each hop on one thread, and its part
   of the hop's own length (real-time factor).
3. With --hour: the time and the peak of the memory to embed an hour from
   disk, in a process of its own.

    python benchmarks/embedding.py --hour
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile
import torch
from dense_reference import DenseReference

from speechbrain_wavjepa.inference import (
    ChannelSelector,
    RMSNormalizer,
    StreamingEmbedder,
    TokenEncoder,
    embed_file,
)
from speechbrain_wavjepa.lobes import (
    ConvFrontend,
    Predictor,
    TargetEncoder,
    WavJEPA,
    WavJEPAEmbedding,
    WavJEPAEncoder,
)
from speechbrain_wavjepa.nnet import TransformerEncoder
from speechbrain_wavjepa.processing import rms_normalize, standardize

SAMPLE_RATE = 16000
HOPS = (800, 1600, 3200, 8000, 16000)


def make_encoder(device, **options):
    """Build ViT-B with the same random weights every time."""
    torch.manual_seed(0)
    model = WavJEPAEncoder(ConvFrontend(), TransformerEncoder())
    encoder = TokenEncoder(
        ChannelSelector(), RMSNormalizer(), WavJEPAEmbedding(model, **options)
    )
    return encoder.to(device).eval()


class AuthorsEncoder:
    """Embeds a clip as the authors' runtime does, with the same weights."""

    window_samples = 32159

    def __init__(self, device):
        model = make_encoder("cpu").embedding_model.model
        encoder = model.context_encoder
        whole = WavJEPA(
            model.frontend,
            encoder,
            TargetEncoder(encoder, 1),
            Predictor(encoder.dim, 8, 1, 1),
        )
        whole.token_norm = model.token_norm
        whole.token_projection = model.token_projection
        self.reference = DenseReference(whole).to(device).eval()

    def embed(self, clip):
        """Embed one clip [1, T]."""
        clip = rms_normalize(clip[0, :, None])
        size = self.window_samples
        padding = size - len(clip) % size
        padded = torch.nn.functional.pad(clip, (0, 0, 0, padding))
        num_tokens = 200 * (len(padded) // size) - padding // 160
        tokens = []
        for number, window in enumerate(padded.split(size)):
            hidden = torch.arange(200)[None] + 200 * number >= num_tokens
            hidden = hidden.to(clip.device)
            embedded = self.reference.embed(standardize(window[None]))
            encoded = self.reference.encoder(
                embedded, src_key_padding_mask=hidden
            )
            tokens.append(encoded[~hidden])
        return torch.cat(tokens).mean(dim=0)


def median_seconds(functions, rounds, device):
    """Time functions in turn; return the median of each."""
    times = [[] for _ in functions]
    for _ in range(rounds + 1):  # the first round warms up
        for row, function in zip(times, functions):
            start = time.perf_counter()
            function()
            if device != "cpu":
                torch.cuda.synchronize()
            row.append(time.perf_counter() - start)
    return [statistics.median(row[1:]) for row in times]


@torch.no_grad()
def compare_batches(device, rounds):
    """Time a clip in one batch against windows one by one."""
    clip = torch.randn(1, 10 * SAMPLE_RATE, device=device) / 8
    authors = {"window_samples": 32159, "padding_in_statistics": True}
    encoders = [
        AuthorsEncoder(device),
        make_encoder(device, window_batch=1),
        make_encoder(device),
        make_encoder(device, precision="bf16"),
    ]
    theirs = make_encoder(device, **authors).embed(clip)[0, 0]
    # SpeechBrain lets GPUs multiply in TF32
    tolerance = 1e-5 if device == "cpu" else 1e-2
    torch.testing.assert_close(
        encoders[0].embed(clip), theirs, rtol=tolerance, atol=tolerance
    )
    reference = encoders[1].embed(clip)
    seconds = median_seconds(
        [lambda e=encoder: e.embed(clip) for encoder in encoders],
        rounds,
        device,
    )
    print(f"A clip of 10 s, {device}, {torch.get_num_threads()} threads\n")
    print("| windows | ms | ratio | relative error |")
    print("|---|---|---|---|")
    print(f"| the authors' way | {1000 * seconds[0]:.0f} | 1.00 | |")
    names = ("one by one, float32", "in a batch, float32", "in a batch, bf16")
    for name, encoder, spent in zip(names, encoders[1:], seconds[1:]):
        error = (encoder.embed(clip) - reference).norm() / reference.norm()
        print(
            f"| {name} | {1000 * spent:.0f} | {seconds[0] / spent:.2f} "
            f"| {error:.1e} |"
        )


def time_hops(device, rounds):
    """Time the encoding of each hop once the window is full."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print(f"\nLive, {device}, 1 thread\n")
    print("| hop ms | precision | latency ms | real-time factor |")
    print("|---|---|---|---|")
    for precision in ("fp32", "bf16"):
        encoder = make_encoder(device, precision=precision)
        for hop in HOPS:
            live = StreamingEmbedder(encoder, hop)
            sound = torch.randn(3 * SAMPLE_RATE, device=device) / 8
            live.push(sound)
            block = torch.randn(hop, device=device) / 8
            (spent,) = median_seconds(
                [lambda b=block, s=live: s.push(b)], rounds, device
            )
            length = hop / SAMPLE_RATE
            print(
                f"| {1000 * length:.0f} | {precision} "
                f"| {1000 * (length + spent):.0f} | {spent / length:.2f} |"
            )
    torch.set_num_threads(threads)


def embed_an_hour(precision):
    """Embed an hour of noise from disk; print time and peak of the memory."""
    encoder = make_encoder("cpu", precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.flac"
        with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
            for _ in range(60):
                file.write(torch.randn(60 * SAMPLE_RATE).numpy() / 8)
        start = time.perf_counter()
        embedding = embed_file(encoder, path)
        spent = time.perf_counter() - start
    assert torch.isfinite(embedding).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak /= 2**20 if sys.platform == "darwin" else 2**10  # bytes, or KiB
    print(
        f"\nAn hour from disk, {precision}: {spent:.0f} s, "
        f"{3600 / spent:.0f} times faster than it sounds, "
        f"peak of the process {peak:.0f} MiB"
    )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--only_hour", choices=("fp32", "bf16"))
    options = parser.parse_args()
    if options.only_hour:
        embed_an_hour(options.only_hour)
        return
    compare_batches(options.device, options.rounds)
    time_hops(options.device, options.rounds)
    if options.hour:
        sys.stdout.flush()
        command = [sys.executable, __file__, "--only_hour", "bf16"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
