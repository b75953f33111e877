"""A stack of convolutions whose gradient is computed only where it exists.

The target encoder's input is detached, so only context tokens, a fifth of
all, send gradients into the front-end. The values of all tokens are
computed as usual; of the layers' activations only those that a context token
depends on are kept, and the backward pass works on these rows alone. It is
exact: what is left out are zeros, and sums that can be had without them.

Shapes: B windows, T positions, D dim, R rows (positions of all windows that
count), N tokens.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class ActiveRows(NamedTuple):
    """Positions of one layer that the wanted tokens depend on.

    Arguments
    ---------
    window : [R] int64
        Window of each row.
    position : [R] int64
        Position of each row in its window.
    inputs : [R, kernel] int64, optional
        Rows of the layer below that each row is computed from.

    Example
    -------
    >>> mask = torch.tensor([[False, True]])
    >>> below, top = find_active_rows(mask, [5, 2], [3], [2])
    >>> below.position, top.inputs
    (tensor([2, 3, 4]), tensor([[0, 1, 2]]))
    """

    window: Tensor
    position: Tensor
    inputs: Optional[Tensor] = None

    def to(self, device: torch.device) -> "ActiveRows":
        """Move the indices to a device."""
        return ActiveRows(
            *(None if index is None else index.to(device) for index in self)
        )


def find_active_rows(
    token_mask: Tensor,
    num_positions: list[int],
    kernels: list[int],
    strides: list[int],
) -> list[ActiveRows]:
    """Find, layer by layer, what the wanted tokens depend on.

    Arguments
    ---------
    token_mask : [B, N] bool
        The wanted tokens, on the CPU.
    num_positions : list[int]
        Positions of the stack's input and of every layer's output.
    kernels : list[int]
        Kernel size of every layer.
    strides : list[int]
        Stride of every layer.

    Returns
    -------
    list[ActiveRows]
        For the stack's input (without ``inputs``) and every layer's output.

    Example
    -------
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> [len(rows.window) for rows in find_active_rows(mask, [5, 2], [3], [2])]
    [5, 2]
    """
    mask = token_mask
    layers = []
    for below, kernel, stride in zip(
        num_positions[-2::-1], kernels[::-1], strides[::-1]
    ):
        window, position = mask.nonzero(as_tuple=True)
        inputs = position[:, None] * stride + torch.arange(kernel)
        mask = torch.zeros(len(mask), below, dtype=torch.bool)
        mask[window[:, None], inputs] = True
        row = (mask.flatten().cumsum(0) - 1).view(mask.shape)
        layers.append(
            ActiveRows(window, position, row[window[:, None], inputs])
        )
    layers.append(ActiveRows(*mask.nonzero(as_tuple=True)))
    return layers[::-1]


class SparseGradientStack(torch.autograd.Function):
    """The front-end of one channel, with gradients computed on rows.

    ``SparseGradientStack.apply(waveform, token_mask, strides, epsilon,
    norm_weight, norm_bias, *weights)``: convolution and GroupNorm (one group
    for each feature), then GELU and convolution for every further layer, then
    GELU. waveform is [B, T] and gets no gradient; token_mask [B, N] bool lies
    on the CPU; weights are [D', D, kernel] without bias. Returns [B, N, D].

    Gradients that arrive for tokens outside token_mask are dropped: the
    caller promises that there are none.

    Example
    -------
    >>> mask = torch.tensor([[True, False, False, False]])
    >>> norm = torch.ones(4, requires_grad=True), torch.zeros(4)
    >>> weights = torch.randn(4, 1, 3), torch.randn(4, 4, 3)
    >>> tokens = SparseGradientStack.apply(
    ...     torch.randn(1, 20), mask, [2, 2], 1e-5, *norm, *weights
    ... )
    >>> tokens[mask].sum().backward()
    >>> norm[0].grad.shape
    torch.Size([4])
    """

    @staticmethod
    def forward(
        context,
        waveform,
        token_mask,
        strides,
        epsilon,
        norm_weight,
        norm_bias,
        *weights,
    ):
        """Compute all tokens; keep the rows that the gradient needs."""
        first = nn.functional.conv1d(
            waveform[:, None], weights[0], stride=strides[0]
        )
        first = first.to(norm_weight)
        batch, dim, positions = first.shape
        hidden, mean, inverse = torch.native_group_norm(
            first, norm_weight, norm_bias, batch, dim, positions, dim, epsilon
        )
        num_positions = [positions]
        for weight, stride in zip(weights[1:], strides[1:]):
            positions = (positions - weight.shape[2]) // stride + 1
            num_positions.append(positions)
        layers = find_active_rows(
            token_mask,
            num_positions,
            [weight.shape[2] for weight in weights[1:]],
            strides[1:],
        )
        layers = [rows.to(waveform.device) for rows in layers]
        kept = []
        for weight, stride, rows in zip(weights[1:], strides[1:], layers[1:]):
            hidden = nn.functional.gelu(hidden)
            hidden = nn.functional.conv1d(hidden, weight, stride=stride)
            kept.append(hidden.transpose(1, 2)[rows.window, rows.position])
        context.save_for_backward(
            waveform, mean, inverse, norm_weight, norm_bias, *weights, *kept
        )
        context.layers = layers
        context.stride = strides[0]
        return nn.functional.gelu(hidden).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(context, grad_tokens):
        """Walk down the layers on the kept rows."""
        layers = context.layers
        waveform, mean, inverse, norm_weight, norm_bias, *rest = (
            context.saved_tensors
        )
        weights, kept = rest[: len(layers)], rest[len(layers) :]
        bottom, top = layers[0], layers[-1]

        # the lowest layer is cheaper to compute again than to keep
        matrix = weights[0][:, 0]  # [D, kernel]
        patches = waveform.to(matrix).unfold(
            1, matrix.shape[1], context.stride
        )  # [B, T', kernel]
        inputs = patches[bottom.window, bottom.position]  # [R, kernel]
        scale = inverse[bottom.window]  # [R, D]
        normed = (inputs @ matrix.T - mean[bottom.window]) * scale
        kept = [normed * norm_weight + norm_bias, *kept]

        grad = grad_tokens[top.window, top.position].to(kept[-1])
        grad_weights = []
        for weight, rows, above, below in zip(
            weights[:0:-1], layers[:0:-1], kept[:0:-1], kept[-2::-1]
        ):
            grad = torch.ops.aten.gelu_backward(grad, above)
            grad_weight, grad = _convolution_gradients(
                grad, weight, rows, nn.functional.gelu(below)
            )
            grad_weights.append(grad_weight)
        grad = torch.ops.aten.gelu_backward(grad, kept[0])

        # GroupNorm spreads the gradient over all positions through its two
        # statistics. Their share in the first weights needs no positions,
        # only sums over the waveform's patches.
        grad_norm_weight = (grad * normed).sum(dim=0)
        grad_norm_bias = grad.sum(dim=0)
        count = patches.shape[1]
        total = torch.zeros_like(mean)  # [B, D]
        total_grad = total.index_add(0, bottom.window, grad)
        total_product = total.index_add(0, bottom.window, grad * normed)
        gain = norm_weight * inverse  # [B, D]
        patch_sum = patches.sum(dim=1)  # [B, kernel]
        correlation = patches.transpose(1, 2) @ patches  # [B, kernel, kernel]
        normed_sum = inverse[:, :, None] * (
            matrix @ correlation - mean[:, :, None] * patch_sum[:, None]
        )  # sum over positions of the normed values times patches
        grad_first = (grad * norm_weight * scale).T @ inputs
        grad_first -= (gain * total_grad / count).T @ patch_sum
        grad_first -= torch.einsum(
            "bd,bdk->dk", gain * total_product / count, normed_sum
        )
        grad_weights.append(grad_first[:, None])
        return (
            *(None, None, None, None),
            grad_norm_weight,
            grad_norm_bias,
            *grad_weights[::-1],
        )


def _convolution_gradients(grad, weight, rows, below):
    """Gradients of a convolution's weight and of its input rows.

    ``grad`` [R, D'] belongs to the output rows, ``below`` [R', D] are the
    input rows.
    """
    matrix = weight.to(grad).transpose(1, 2).flatten(1)  # [D', kernel * D]
    inputs = below.to(grad)[rows.inputs].flatten(1)  # [R, kernel * D]
    grad_weight = (grad.T @ inputs).view(len(weight), -1, below.shape[1])
    grad_inputs = (grad @ matrix).view(-1, below.shape[1]).to(below)
    grad_below = torch.zeros_like(below).index_add_(
        0, rows.inputs.flatten(), grad_inputs
    )
    return grad_weight.transpose(1, 2).to(weight), grad_below
