"""Front-ends: from a waveform to tokens.

The convolutions are those of WavJEPA (https://arxiv.org/abs/2509.23238),
after wav2vec 2.0 (https://arxiv.org/abs/2006.11477).

Shapes: B windows, T samples, C channels, N tokens of a channel.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.nnet.sparse_conv import (
    ActiveRows,
    SparseGradientStack,
    find_active_rows,
)

# [dim, kernel, stride] of each layer: 200 tokens of 10 ms from 2.01 s
WAVJEPA_LAYERS = ((512, 10, 5), *4 * ((512, 3, 2),), (512, 2, 2))


class Frontend(Protocol):
    """What WavJEPA asks of a front-end.

    Token n of a channel comes from receptive_field samples of that channel,
    from n * stride on.

    Example
    -------
    >>> frontend: Frontend = ConvFrontend()
    >>> frontend.dim, frontend.channels, frontend.num_tokens(32160)
    (512, 1, 200)
    >>> frontend.stride, frontend.receptive_field
    (160, 240)
    """

    dim: int  # of a token
    channels: int
    stride: int
    receptive_field: int
    # What of its layers the tokens of a mask [B, C*N] depend on, nested lists
    # and tuples of indices; found where masks are drawn. None: not needed.
    find_gradient_rows: Optional[Callable[[Tensor], Any]]

    def num_tokens(self, num_samples: int) -> int:
        """Return the number of tokens N of each channel."""

    def __call__(self, waveform: Tensor, gradient_rows: Any = None) -> Tensor:
        """Turn [B, T, C] into channel-major tokens [B, C*N, dim].

        ``gradient_rows``, on the device, are the caller's promise that no
        token outside the mask they were found for will send gradients back.
        """


class ConvStack(nn.Module):
    """The convolutions of one channel, each with GELU behind, without bias.

    GroupNorm, one group for each feature, follows the first layer only.
    """

    def __init__(self, layers: Sequence[Sequence[int]]):
        super().__init__()
        dims = [1] + [dim for dim, _, _ in layers]
        self.layers = nn.ModuleList(
            nn.Conv1d(below, dim, kernel, stride, bias=False)
            for below, (dim, kernel, stride) in zip(dims, layers)
        )
        self.norm = nn.GroupNorm(dims[1], dims[1], eps=1e-5)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)

    def forward(
        self,
        waveform: Tensor,
        gradient_rows: Optional[list[ActiveRows]] = None,
    ) -> Tensor:
        """Turn waveforms [B, T] into tokens [B, N, dim]."""
        if gradient_rows is not None and torch.is_grad_enabled():
            return SparseGradientStack.apply(
                waveform,
                gradient_rows,
                [layer.stride[0] for layer in self.layers],
                self.norm.eps,
                self.norm.weight,
                self.norm.bias,
                *(layer.weight for layer in self.layers),
            )
        hidden = self.norm(self.layers[0](waveform[:, None]))  # [B, dim, T']
        hidden = nn.functional.gelu(hidden)
        for layer in self.layers[1:]:
            hidden = nn.functional.gelu(layer(hidden))
        return hidden.transpose(1, 2)


class ConvFrontend(nn.Module):
    """The convolutional front-end of WavJEPA, for one or more channels.

    Arguments
    ---------
    dim : int
        Size of a token; equal to that of the last layer, else a ValueError.
    layers : sequence of [dim, kernel, stride]
        The default turns 2.01 s at 16 kHz (32,160 samples) into 200 tokens,
        one every 10 ms, each from 15 ms of sound.
    channels : int
        Channels of the waveform; each has a stack of its own.
    share_weights : bool
        Whether all channels use the same stack.

    Example
    -------
    >>> frontend = ConvFrontend(dim=8, layers=[[8, 10, 5], [8, 3, 2]])
    >>> frontend(torch.randn(2, 100, 1)).shape
    torch.Size([2, 9, 8])
    """

    def __init__(
        self,
        dim: int = 512,
        layers: Sequence[Sequence[int]] = WAVJEPA_LAYERS,
        channels: int = 1,
        share_weights: bool = False,
    ):
        super().__init__()
        if layers[-1][0] != dim:
            raise ValueError(
                f"The last convolution has {layers[-1][0]} features, but "
                f"dim={dim}: make them equal."
            )
        self.dim = dim
        self.channels = channels
        self.share_weights = share_weights
        self.stride = self.receptive_field = 1
        for _, kernel, stride in layers:
            self.receptive_field += (kernel - 1) * self.stride
            self.stride *= stride
        self.stacks = nn.ModuleList(
            ConvStack(layers) for _ in range(1 if share_weights else channels)
        )
        # without the weights: it travels to the workers of a loader
        self.find_gradient_rows = functools.partial(
            find_gradient_rows,
            channels=channels,
            kernels=[kernel for _, kernel, _ in layers[1:]],
            strides=[stride for _, _, stride in layers[1:]],
        )

    def num_tokens(self, num_samples: int) -> int:
        """Return how many tokens a channel of num_samples gives."""
        return max((num_samples - self.receptive_field) // self.stride + 1, 0)

    def forward(
        self,
        waveform: Tensor,
        gradient_rows: Optional[list[list[ActiveRows]]] = None,
    ) -> Tensor:
        """Turn windows [B, T, C] into tokens [B, C*N, dim]."""
        if waveform.shape[2] != self.channels:
            raise ValueError(
                f"This front-end takes [B, T, {self.channels}] waveforms, got "
                f"{list(waveform.shape)}: see audio.select_channels."
            )
        num_tokens = self.num_tokens(waveform.shape[1])
        if num_tokens == 0:
            raise ValueError(
                f"{waveform.shape[1]} samples are too short for one token: "
                "pad the waveform."
            )
        rows = gradient_rows or [None] * self.channels
        stacks = list(self.stacks) * (self.channels // len(self.stacks))
        channels = zip(stacks, waveform.unbind(dim=2), rows, strict=True)
        return torch.cat([stack(*inputs) for stack, *inputs in channels], dim=1)


def find_gradient_rows(
    mask: Tensor, channels: int, kernels: Sequence[int], strides: Sequence[int]
) -> list[list[ActiveRows]]:
    """Find the active rows of each channel for tokens of mask [B, C*N]."""
    return [
        find_active_rows(part, kernels, strides)
        for part in mask.chunk(channels, dim=1)
    ]
