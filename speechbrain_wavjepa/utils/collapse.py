"""Numbers that show whether the representation collapses.

A predictive model without negative examples can always win by predicting a
constant. Then the deviations and the effective rank here go to zero and one.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """Measure how many dimensions a set of vectors really uses (RankMe).

    The exponential of the entropy of the normalised singular values
    (https://arxiv.org/abs/2210.02885).

    Arguments
    ---------
    features : [B, D]
        The vectors, one for each window.

    Returns
    -------
    float
        Between 1 (all parallel) and min(B, D).

    Example
    -------
    >>> round(effective_rank(torch.eye(8)), 3)
    8.0
    >>> round(effective_rank(torch.ones(8, 8)), 3)
    1.0
    """
    values = torch.linalg.svdvals(features.detach().float())
    share = values / values.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp().item()


def mean_std(tokens: Tensor) -> float:
    """Measure the standard deviation of each dimension, then average.

    Arguments
    ---------
    tokens : [M, D]
        Tokens of many windows.

    Returns
    -------
    float
        Zero if all tokens are equal.

    Example
    -------
    >>> mean_std(torch.ones(10, 4))
    0.0
    """
    return tokens.detach().float().std(dim=0).mean().item()


def pool_windows(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the flat tokens of each window.

    Arguments
    ---------
    tokens : [A, D]
        Tokens, window after window.
    mask : [B, N] bool
        True for the tokens that are there.

    Returns
    -------
    [B, D]
        One mean for each window.

    Example
    -------
    >>> mask = torch.tensor([[True, True], [False, True]])
    >>> pool_windows(torch.tensor([[1.0], [3.0], [5.0]]), mask)
    tensor([[2.],
            [5.]])
    """
    window = mask.nonzero()[:, 0].to(tokens.device)
    total = tokens.new_zeros(len(mask), tokens.shape[1])
    total = total.index_add(0, window, tokens)
    return total / mask.sum(dim=1, keepdim=True).to(tokens.device)
