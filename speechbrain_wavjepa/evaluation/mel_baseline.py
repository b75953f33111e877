"""HEAR-Naive: log-mel features and a fixed random projection.

The baseline of HEAR (https://arxiv.org/abs/2203.03022), which the paper's s(m)
counts gains over: nothing is learned.

Shapes: n clips, T samples, C channels, N frames.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
import torchaudio
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import resample

RATE = 44100
FRAME = 4096
NUM_BANDS = 256
DIM = 4096
TOKEN_HOP = 2205  # 50 ms
SCENE_HOP = 11025  # 250 ms


class MelBaseline(nn.Module):
    """Embeds clips without having learned anything.

    Arguments
    ---------
    sample_rate : int
        Rate of the clips in Hz; inside they are resampled to 44,100.

    Example
    -------
    >>> baseline = MelBaseline(16000)
    >>> baseline.embed(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 4096])
    >>> output = baseline(torch.randn(2, 16000))
    >>> output["embeddings"].shape, output["times"][:3]
    (torch.Size([2, 21, 4096]), tensor([0.0000, 0.0500, 0.1000]))
    """

    def __init__(self, sample_rate: int = 16000):
        super().__init__()
        self.sample_rate = sample_rate
        generator = torch.Generator().manual_seed(0)
        projection = torch.rand(NUM_BANDS, DIM, generator=generator)
        bands = torchaudio.functional.melscale_fbanks(
            FRAME // 2 + 1, 0.0, RATE / 2, NUM_BANDS, RATE, "slaney", "slaney"
        )
        self.register_buffer("window", torch.hann_window(FRAME))
        self.register_buffer("bands", bands)
        self.register_buffer("projection", projection / NUM_BANDS**0.5)

    def forward(self, wavs: Tensor) -> dict[str, Tensor]:
        """Embed every 50 ms of clips [n, T] or [n, T, C].

        Gives "embeddings" [n, N, 4096] and "times" [N] in seconds.
        """
        embeddings = self._frames(wavs, TOKEN_HOP)
        frames = torch.arange(embeddings.shape[1], device=embeddings.device)
        return {"embeddings": embeddings, "times": frames * TOKEN_HOP / RATE}

    def embed(self, wavs: Tensor) -> Tensor:
        """Embed clips [n, T] or [n, T, C] as [n, 1, 4096]."""
        return self._frames(wavs, SCENE_HOP).mean(dim=1, keepdim=True)

    def _frames(self, wavs: Tensor, hop: int) -> Tensor:
        """Compute the embeddings [n, N, 4096] of frames, the first channel."""
        mono = wavs[:, :, 0] if wavs.ndim == 3 else wavs
        mono = resample(mono.T, self.sample_rate, RATE).T
        padded = nn.functional.pad(mono, (FRAME // 2, FRAME // 2))
        frames = padded.unfold(1, FRAME, hop) * self.window
        power = torch.fft.rfft(frames).abs().square()
        return (power @ self.bands + 1e-4).log() @ self.projection
