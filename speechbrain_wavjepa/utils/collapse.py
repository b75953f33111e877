"""Numbers that show whether the representation collapses.

A predictive model without negative examples can always win by predicting a
constant: then the stds here go to zero and the effective rank to one.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """Measure how many dimensions vectors [B, D] use (RankMe).

    The exponential of the entropy of the normalised singular values
    (https://arxiv.org/abs/2210.02885): from 1 (all parallel) to min(B, D).
    """
    values = torch.linalg.svdvals(features.detach().float())
    share = values / values.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp().item()


def mean_std(tokens: Tensor) -> float:
    """Average the std of each dimension of tokens [M, D]."""
    return tokens.detach().float().std(dim=0).mean().item()


def pool_windows(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Average the flat tokens [A, D] of windows of lengths [B]: [B, D]."""
    return torch.segment_reduce(tokens, "mean", lengths=lengths)
