"""Block masks: which tokens the context encoder sees, which are predicted.

Follows WavJEPA (https://arxiv.org/abs/2509.23238, section 2 and appendix F),
whose span sampling goes back to wav2vec 2.0
(https://arxiv.org/abs/2006.11477). Everywhere in this package True means
kept (context) or predicted (target).

Shapes: B windows, C channels, N tokens of a channel, K target blocks.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

# Draws of a batch before the settings count as impossible to meet.
MAX_DRAWS = 1000


class JEPAMask(NamedTuple):
    """The masks of a batch of windows.

    Arguments
    ---------
    context_mask : [B, C*N] bool
        True for tokens that the context encoder sees.
    target_masks : [B, K, C*N] bool
        True for tokens that are predicted, per target block.

    Example
    -------
    >>> block_mask = BlockMasker()(2, 200)
    >>> bool((block_mask.context_mask & block_mask.target_masks.any(1)).any())
    False
    """

    context_mask: Tensor
    target_masks: Tensor


class BlockMasker:
    """Draws block masks for a whole batch at once.

    For each mask the number of spans is ``floor(prob * N / span + u)``, u
    uniform in [0, 1); their starts are distinct and uniform over 0 to
    N-span-1, so the last token is never dropped and never a target. The
    context is what the drop spans and all target blocks leave over; a window
    that keeps less than ``min_context_ratio`` is drawn again.

    Arguments
    ---------
    num_targets : int
        Target blocks of each window.
    target_prob : float
        Tokens of a target block over all tokens, were spans not to overlap.
    target_span : int
        Tokens in a span of a target block.
    context_drop_prob : float
        The same as target_prob, for the tokens dropped from the context.
    context_drop_span : int
        Tokens in a span dropped from the context.
    min_context_ratio : float
        Smallest part of the tokens that the context keeps.
    channel_order : str
        With several channels, "aligned" hides the same instants from every
        channel (the paper's text); "interleaved" lays the mask out as the
        authors' released code does, which hides other instants from each ear.

    Raises
    ------
    ValueError
        If a setting is out of its range or cannot be met.

    Example
    -------
    >>> masker = BlockMasker()
    >>> generator = torch.Generator().manual_seed(0)
    >>> block_mask = masker(8, 200, generator=generator)
    >>> block_mask.context_mask.shape, block_mask.target_masks.shape
    (torch.Size([8, 200]), torch.Size([8, 4, 200]))
    """

    def __init__(
        self,
        num_targets: int = 4,
        target_prob: float = 0.25,
        target_span: int = 10,
        context_drop_prob: float = 0.65,
        context_drop_span: int = 10,
        min_context_ratio: float = 0.1,
        channel_order: str = "aligned",
    ):
        for name, value, low, high in (
            ("num_targets", num_targets, 1, math.inf),
            ("target_span", target_span, 1, math.inf),
            ("context_drop_span", context_drop_span, 1, math.inf),
            ("target_prob", target_prob, 0, 1),
            ("context_drop_prob", context_drop_prob, 0, 1),
            ("min_context_ratio", min_context_ratio, 0, 1),
        ):
            if not low <= value <= high:
                raise ValueError(
                    f"{name} must lie between {low} and {high}, got {value}."
                )
        if channel_order not in ("aligned", "interleaved"):
            raise ValueError(
                "channel_order must be 'aligned' or 'interleaved', got "
                f"{channel_order!r}."
            )
        self.num_targets = num_targets
        self.target_prob = target_prob
        self.target_span = target_span
        self.context_drop_prob = context_drop_prob
        self.context_drop_span = context_drop_span
        self.min_context_ratio = min_context_ratio
        self.channel_order = channel_order

    def __call__(
        self,
        batch_size: int,
        num_tokens: int,
        channels: int = 1,
        generator: Optional[torch.Generator] = None,
    ) -> JEPAMask:
        """Draw the masks of a batch.

        Arguments
        ---------
        batch_size : int
            Number of windows.
        num_tokens : int
            Tokens of one channel.
        channels : int
            Channels that share the mask.
        generator : torch.Generator, optional
            Source of randomness.

        Returns
        -------
        JEPAMask
            On the CPU, where the model turns it into gather indices.
        """
        self._check(num_tokens)
        floor = max(self.min_context_ratio * num_tokens, 1)
        contexts, targets, missing = [], [], batch_size
        for _ in range(MAX_DRAWS):
            # a few more than are missing: some keep too little context
            context, target = self._draw(
                missing + missing // 16 + 1, num_tokens, generator
            )
            accepted = context.sum(dim=1) >= floor
            contexts.append(context[accepted][:missing])
            targets.append(target[accepted][:missing])
            missing -= len(contexts[-1])
            if missing == 0:
                break
        else:
            raise ValueError(
                f"No mask kept min_context_ratio={self.min_context_ratio} of "
                f"{num_tokens} tokens in {MAX_DRAWS} draws: lower it, or "
                f"num_targets={self.num_targets}, "
                f"target_prob={self.target_prob}, "
                f"context_drop_prob={self.context_drop_prob}."
            )
        context, targets = torch.cat(contexts), torch.cat(targets)
        if self.channel_order == "aligned":
            # channel-major, as the tokens: all of one ear, then the other
            return JEPAMask(
                context.repeat(1, channels), targets.repeat(1, 1, channels)
            )
        return JEPAMask(
            context.repeat_interleave(channels, dim=1),
            targets.repeat_interleave(channels, dim=2),
        )

    def _check(self, num_tokens: int):
        """Refuse settings that no draw can meet with this many tokens."""
        for name in ("target", "context_drop"):
            prob = getattr(self, f"{name}_prob")
            span = getattr(self, f"{name}_span")
            spans = math.ceil(prob * num_tokens / span)
            if spans > max(num_tokens - span, 0):
                raise ValueError(
                    f"{name}_prob={prob} with {name}_span={span} asks for "
                    f"{spans} spans with distinct starts, but {num_tokens} "
                    f"tokens have {max(num_tokens - span, 0)}: lower "
                    f"{name}_prob or change {name}_span."
                )
        if self.target_prob * num_tokens < self.target_span:
            raise ValueError(
                f"target_prob={self.target_prob} of {num_tokens} tokens is "
                f"less than one span of target_span={self.target_span}, so "
                "a target block could be empty: raise target_prob or lower "
                "target_span."
            )

    def _draw(
        self,
        batch_size: int,
        num_tokens: int,
        generator: Optional[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Draw context [B, N] and targets [B, K, N] once, accepted or not."""
        dropped = sample_spans(
            batch_size,
            num_tokens,
            self.context_drop_prob,
            self.context_drop_span,
            generator,
        )
        targets = sample_spans(
            batch_size * self.num_targets,
            num_tokens,
            self.target_prob,
            self.target_span,
            generator,
        ).view(batch_size, self.num_targets, num_tokens)
        predicted = torch.from_numpy(targets.numpy().any(axis=1))  # 4x faster
        return ~(dropped | predicted), targets


def sample_spans(
    num_masks: int,
    num_tokens: int,
    prob: float,
    span: int,
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    """Draw masks made of spans with distinct, uniform starts.

    The starts of all masks are drawn together by Floyd's algorithm (Bentley
    and Floyd 1987, https://doi.org/10.1145/30401.315746): one pass per span,
    whatever the number of masks.

    Arguments
    ---------
    num_masks : int
        How many masks.
    num_tokens : int
        Tokens of each mask.
    prob : float
        Tokens in spans over all tokens, were they not to overlap.
    span : int
        Tokens of a span.
    generator : torch.Generator, optional
        Source of randomness.

    Returns
    -------
    [num_masks, num_tokens] bool
        True inside a span.

    Example
    -------
    >>> mask = sample_spans(3, 200, prob=0.05, span=10)
    >>> mask.sum(dim=1)
    tensor([10, 10, 10])
    """
    rounding = torch.rand(num_masks, generator=generator, dtype=torch.float64)
    num_spans = (prob * num_tokens / span + rounding).long().numpy()
    most = num_spans.max(initial=0)
    draws = torch.rand(
        most, num_masks, generator=generator, dtype=torch.float64
    ).numpy()
    # NumPy, since the arrays are small and its calls are cheaper.
    # A mask with fewer spans than the most joins in later.
    step = np.arange(most)[:, None] - (most - num_spans)  # [most, masks]
    last = num_tokens - span - num_spans + np.maximum(step, 0)
    first = np.arange(num_masks) * num_tokens
    starts = first + (draws * (last + 1)).astype(np.int64)
    mask = np.zeros(num_masks * num_tokens, dtype=bool)
    for start, fallback, active in zip(starts, first + last, step >= 0):
        start = np.where(mask[start], fallback, start)
        mask[start] |= active
    mask = mask.reshape(num_masks, num_tokens)
    covered = 1
    while covered < span:  # each start grows to a span by doubling
        shift = min(covered, span - covered)
        grown = mask.copy()
        grown[:, shift:] |= mask[:, :-shift]
        mask, covered = grown, covered + shift
    return torch.from_numpy(mask)
