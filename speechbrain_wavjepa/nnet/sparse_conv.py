"""A stack of convolutions whose gradient is computed only where it exists.

The target encoder's input is detached, so only context tokens, a fifth of
all, send gradients into the front-end. All tokens are computed as usual; of
the layers' outputs only the rows that a context token depends on are kept,
and the backward pass works on these alone. It is exact. Which rows these are
is found once, on the CPU, where the masks are drawn.

Shapes: B windows, T samples, T' positions of the first layer's output, R rows
(the positions of all windows that matter), N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, gelu


class ActiveRows(NamedTuple):
    """Positions of a layer's output that wanted tokens depend on, int32."""

    window: Tensor  # [R]
    position: Tensor  # [R], in its window
    inputs: Tensor  # [R, kernel], rows of the layer below; [0] in the lowest


def find_active_rows(
    token_mask: Tensor, kernels: Sequence[int], strides: Sequence[int]
) -> list[ActiveRows]:
    """Find what the tokens of token_mask [B, N] depend on, lowest layer first.

    ``kernels`` and ``strides`` are those of all layers but the lowest.
    """
    mask, layers = token_mask.numpy(), []
    for kernel, stride in zip(kernels[::-1], strides[::-1]):
        window, position = np.divmod(np.flatnonzero(mask), mask.shape[1])
        reach = (mask.shape[1] - 1) * stride + kernel  # no row lies beyond
        inputs = (window * reach + position * stride)[:, None]
        inputs = inputs + np.arange(kernel)  # [R, kernel]
        mask = np.zeros((len(mask), reach), dtype=bool)
        mask.ravel()[inputs] = True
        row = mask.ravel().cumsum(dtype=np.int32) - 1
        layers.append((window, position, row[inputs]))
    lowest = np.divmod(np.flatnonzero(mask), mask.shape[1])
    layers.append((*lowest, np.arange(0)))
    # int32: half as much to move
    return [
        ActiveRows(*(torch.from_numpy(i.astype(np.int32)) for i in layer))
        for layer in layers[::-1]
    ]


class LayerCache(NamedTuple):
    """A layer at its active rows, for the backward pass."""

    rows: ActiveRows
    weight: Tensor  # [D', D, kernel]
    output: Tensor  # [R, D'], before the GELU


class SparseGradientStack(torch.autograd.Function):
    """The front-end of one channel, with gradients computed on rows.

    ``SparseGradientStack.apply(waveform, active_rows, strides, epsilon,
    norm_weight, norm_bias, *weights)``: convolution and GroupNorm (one group
    for each feature), then GELU and convolution for every further layer, then
    GELU: [B, N, D]. waveform is [B, T] and gets no gradient; weights are
    [D', D, kernel]. The caller promises that no gradient arrives for tokens
    outside the mask that active_rows were found for: it would be dropped.
    """

    @staticmethod
    def forward(context, waveform, active_rows, strides, epsilon, *parameters):
        """Compute all tokens; keep the rows that the gradient needs."""
        norm_weight, norm_bias, *weights = parameters
        first = conv1d(waveform[:, None], weights[0], stride=strides[0])
        first = first.to(norm_weight)
        hidden, mean, inverse_std = torch.native_group_norm(
            first, norm_weight, norm_bias, *first.shape, len(norm_bias), epsilon
        )
        kept = []
        above = zip(weights[1:], strides[1:], active_rows[1:])
        for weight, stride, rows in above:
            hidden = conv1d(gelu(hidden), weight, stride=stride)
            kept.append(hidden.transpose(1, 2)[rows.window, rows.position])
        tensors = waveform, mean, inverse_std, *parameters, *kept
        context.save_for_backward(*tensors)
        context.active_rows, context.stride = active_rows, strides[0]
        return gelu(hidden).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(context, grad_tokens):
        """Walk down the layers on the kept rows."""
        waveform, mean, inverse_std, norm_weight, norm_bias, *saved = (
            context.saved_tensors
        )
        depth = len(context.active_rows)
        weights, kept = saved[:depth], saved[depth:]

        # the lowest layer is cheaper to compute again than to keep
        matrix = weights[0][:, 0]  # [D, kernel]
        patches = waveform.to(matrix)
        patches = patches.unfold(1, matrix.shape[1], context.stride)
        window, position, _ = context.active_rows[0]
        inputs = patches[window, position]  # [R, kernel]
        normed = inputs @ matrix.T - mean[window]
        normed *= inverse_std[window]  # [R, D]
        kept = [normed * norm_weight + norm_bias, *kept]
        layers = list(map(LayerCache, context.active_rows, weights, kept))
        window_of_tokens, position_of_tokens, _ = layers[-1].rows
        grad = grad_tokens[window_of_tokens, position_of_tokens]  # [R, D]
        grad = grad.to(layers[-1].output)
        grad_weights = []
        for layer, below in zip(layers[:0:-1], layers[-2::-1]):
            grad = torch.ops.aten.gelu_backward(grad, layer.output)
            grad_weight, grad = convolution_backward(
                grad, layer, gelu(below.output)
            )
            grad_weights.append(grad_weight)
        grad = torch.ops.aten.gelu_backward(grad, kept[0])
        grad_first = group_norm_backward(
            *(grad, normed, inputs, window),
            *(patches, matrix, mean, inverse_std, norm_weight),
        )
        grad_norm = (grad * normed).sum(dim=0), grad.sum(dim=0)
        return *4 * [None], *grad_norm, grad_first, *grad_weights[::-1]


def convolution_backward(grad, layer, below):
    """Take grad [R, D'] of its output to its weight and its input [R', D]."""
    matrix = layer.weight.to(grad).transpose(1, 2).flatten(1)  # [D', kernel*D]
    rows = layer.rows.inputs
    inputs = below.to(grad)[rows].flatten(1)  # [R, kernel*D]
    grad_weight = (grad.T @ inputs).view(len(matrix), -1, below.shape[1])
    grad_inputs = (grad @ matrix).view(-1, below.shape[1]).to(below)
    grad_below = torch.zeros_like(below).index_add_(
        0, rows.flatten(), grad_inputs
    )
    return grad_weight.transpose(1, 2).to(layer.weight), grad_below


def group_norm_backward(
    grad, normed, inputs, window, patches, matrix, mean, inverse_std, gain
):
    """Return the gradient [D, 1, kernel] of the convolution below GroupNorm.

    For one feature of one window: x_t = w p_t of its patches p_t, t = 1 .. T',
    n_t = (x_t - mean) / std, y_t = gain n_t + bias. The gradients g_t of y_t
    are ``grad`` [R, D], zero outside the rows. Mean and std depend on all x:

        dL/dx_t = gain / std * (g_t - sum(g) / T' - n_t sum(g n) / T')
        dL/dw = sum_t dL/dx_t p_t = gain / std * (
            sum(g p) - sum(g) sum(p) / T' - sum(g n) sum(n p) / T')

    Sums with g run over the rows ``inputs`` [R, kernel] and ``normed`` [R, D];
    sum(n p) = (w sum(p p^T) - mean sum(p)) / std needs ``patches``
    [B, T', kernel] alone.
    """
    count = patches.shape[1]  # T'
    scale = gain * inverse_std  # [B, D]
    zeros = torch.zeros_like(mean)  # [B, D]
    sum_grad = zeros.index_add(0, window, grad)
    sum_grad_normed = zeros.index_add(0, window, grad * normed)
    sum_patch = patches.sum(dim=1)  # [B, kernel]
    patch_products = patches.transpose(1, 2) @ patches  # [B, kernel, kernel]
    sum_normed_patch = inverse_std[:, :, None] * (
        matrix @ patch_products - mean[:, :, None] * sum_patch[:, None]
    )  # [B, D, kernel]
    grad_matrix = (grad * scale[window]).T @ inputs
    grad_matrix -= (scale * sum_grad / count).T @ sum_patch
    grad_matrix -= torch.einsum(
        "bd,bdk->dk", scale * sum_grad_normed / count, sum_normed_patch
    )
    return grad_matrix[:, None]
