"""Windows: the crops of clips that the model is trained and used on.

Shapes: B clips, W windows of a clip, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import Optional

import torch
from torch import Tensor


def random_windows(
    waveform: Tensor,
    window_samples: int,
    windows_per_clip: int,
    lengths: Optional[Tensor] = None,
    generator: Optional[torch.Generator] = None,
) -> tuple[Tensor, Tensor]:
    """Cut windows at random starts out of each clip, never into its padding.

    A clip shorter than a window gives its whole length and the zeros behind.

    Arguments
    ---------
    waveform : [B, T, C]
        The clips, zero-padded to one length of at least a window.
    window_samples : int
        Samples of a window.
    windows_per_clip : int
        Windows cut out of every clip.
    lengths : [B], optional
        Valid samples of each clip (default: all of them).
    generator : torch.Generator, optional
        Source of randomness, on the CPU.

    Returns
    -------
    windows : [B * windows_per_clip, window_samples, C]
        The windows of the first clip, then those of the second, ...
    window_lengths : [B * windows_per_clip]
        Valid samples of each window.

    Raises
    ------
    ValueError
        If the clips are shorter than a window.

    Example
    -------
    >>> windows, lengths = random_windows(torch.randn(2, 160000, 1), 32160, 8)
    >>> windows.shape, lengths.unique()
    (torch.Size([16, 32160, 1]), tensor([32160]))
    """
    num_clips, num_samples, _ = waveform.shape
    if num_samples < window_samples:
        raise ValueError(
            f"A window of {window_samples} samples does not fit into clips "
            f"of {num_samples}: pad the clips or lower window_samples."
        )
    if lengths is None:
        lengths = torch.full((num_clips,), num_samples)
    lengths = lengths.cpu()
    num_starts = (lengths - window_samples).clamp(min=0) + 1  # [B]
    draws = torch.rand(
        num_clips, windows_per_clip, generator=generator, dtype=torch.float64
    )
    starts = (draws * num_starts[:, None]).long().to(waveform.device)
    clip = torch.arange(num_clips, device=waveform.device)[:, None]
    views = waveform.unfold(1, window_samples, 1)  # [B, starts, C, window]
    windows = views[clip, starts].flatten(0, 1).transpose(1, 2)
    window_lengths = lengths.clamp(max=window_samples)
    window_lengths = window_lengths.repeat_interleave(windows_per_clip)
    return windows, window_lengths.to(waveform.device)
