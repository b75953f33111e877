"""A stack of convolutions whose gradient is computed only where it exists.

The target encoder's input is detached, so only context tokens, a fifth of
all, send gradients into the front-end. The values of all tokens are
computed as usual; of the layers' activations only those that a context token
depends on are kept, and the backward pass works on these rows alone. It is
exact: the gradients left out are zeros.

Shapes: B windows, T positions, D dim, R rows (positions of all windows that
count), N tokens.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import NamedTuple

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
    inputs: Tensor = None


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
    """GELU, then (convolution, GELU) for every layer; gradients on rows.

    Call ``SparseGradientStack.apply(hidden, token_mask, strides, *weights)``
    with hidden [B, D, T] (before its GELU), token_mask [B, N] bool on the
    CPU and weights [D, D', kernel] without bias; it returns tokens [B, N, D].
    Gradients that arrive for tokens outside token_mask are dropped: the
    caller promises that there are none.

    Example
    -------
    >>> hidden = torch.randn(1, 4, 9, requires_grad=True)
    >>> mask = torch.tensor([[True, False, False, False]])
    >>> weight = torch.randn(4, 4, 3, requires_grad=True)
    >>> tokens = SparseGradientStack.apply(hidden, mask, [2], weight)
    >>> tokens[mask].sum().backward()
    >>> hidden.grad.abs().sum(dim=(0, 1)) > 0
    tensor([ True,  True,  True, False, False, False, False, False, False])
    """

    @staticmethod
    def forward(context, hidden, token_mask, strides, *weights):
        """Compute all tokens; keep the rows that the gradient needs."""
        hiddens = [hidden]
        for weight, stride in zip(weights, strides):
            hidden = nn.functional.gelu(hiddens[-1])
            hiddens.append(nn.functional.conv1d(hidden, weight, stride=stride))
        layers = find_active_rows(
            token_mask,
            [hidden.shape[2] for hidden in hiddens],
            [weight.shape[2] for weight in weights],
            list(strides),
        )
        device = hidden.device
        layers = [
            ActiveRows(
                *(index.to(device) for index in rows if index is not None)
            )
            for rows in layers
        ]
        kept = [
            hidden.transpose(1, 2)[rows.window, rows.position]  # [R, D]
            for hidden, rows in zip(hiddens, layers)
        ]
        context.save_for_backward(*weights, *kept)
        context.layers = layers
        context.input_shape = hiddens[0].shape
        context.input_dtype = hiddens[0].dtype
        return nn.functional.gelu(hiddens[-1]).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(context, grad_tokens):
        """Walk down the layers on the kept rows."""
        num_layers = len(context.layers) - 1
        weights = context.saved_tensors[:num_layers]
        kept = context.saved_tensors[num_layers:]
        top = context.layers[-1]
        grad = grad_tokens[top.window, top.position].to(kept[-1])
        grad_weights = []
        for weight, rows, above, below in zip(
            weights[::-1], context.layers[:0:-1], kept[:0:-1], kept[-2::-1]
        ):
            grad = torch.ops.aten.gelu_backward(grad, above)
            matrix = weight.to(grad).transpose(1, 2).flatten(1)  # [D', k*D]
            inputs = nn.functional.gelu(below).to(grad)[rows.inputs].flatten(1)
            grad_weight = (grad.T @ inputs).view(
                len(weight), -1, below.shape[1]
            )
            grad_weights.append(grad_weight.transpose(1, 2).to(weight))
            grad_inputs = (grad @ matrix).view(-1, below.shape[1])
            grad = torch.zeros_like(below).index_add_(
                0, rows.inputs.flatten(), grad_inputs.to(below)
            )
        grad = torch.ops.aten.gelu_backward(grad, kept[0])
        bottom = context.layers[0]
        batch, dim, positions = context.input_shape
        grad_hidden = grad.new_zeros(batch, positions, dim)
        grad_hidden[bottom.window, bottom.position] = grad
        grad_hidden = grad_hidden.transpose(1, 2).to(context.input_dtype)
        return grad_hidden, None, None, *grad_weights[::-1]
