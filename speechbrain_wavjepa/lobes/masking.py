"""Block masks: which tokens the context encoder sees, which are predicted.

Follows WavJEPA (https://arxiv.org/abs/2509.23238, section 2 and appendix F),
whose span sampling goes back to wav2vec 2.0
(https://arxiv.org/abs/2006.11477). True means kept (context) or predicted
(target), everywhere in this package.

Shapes: B windows, C channels, N tokens of a channel, K target blocks; of all
windows A context tokens, R target tokens, M tokens of the predictor.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_wavjepa.nnet.transformer import (
    Packing,
    find_true,
    map_tensors,
)

# draws before the settings count as impossible to meet
MAX_DRAWS = 1000


class JEPAMask:
    """The masks of a batch of windows, with all indices that the model needs.

    They are computed here once, on the CPU: finding True entries on a GPU
    makes the host wait. Not a tuple, whose tensors DistributedDataParallel
    would move one by one; the masks stay on the CPU, ``to`` moves the indices.

    Arguments
    ---------
    context_mask : [B, C*N] bool
        True for tokens that the context encoder sees.
    target_masks : [B, K, C*N] bool
        True for tokens that are predicted, per target block.

    find_gradient_rows : callable, optional
        The front-end's: what of its layers the context depends on. Without it
        the gradient is the same, and takes longer.

    Raises
    ------
    ValueError
        If the masks are not boolean or do not fit each other.

    Example
    -------
    >>> context_mask = torch.tensor([[True, False, False]])
    >>> target_masks = torch.tensor([[[False, True, False]]])
    >>> mask = JEPAMask(context_mask, target_masks)
    >>> mask.context.rows, mask.loss_rows
    (tensor([0]), tensor([1]))
    """

    def __init__(
        self,
        context_mask: Tensor,
        target_masks: Tensor,
        find_gradient_rows: Optional[Callable[[Tensor], Any]] = None,
    ):
        boolean = context_mask.dtype == target_masks.dtype == torch.bool
        if not boolean or target_masks.shape[::2] != context_mask.shape:
            raise ValueError(
                "JEPAMask takes boolean masks [B, C*N] and [B, K, C*N], got "
                f"{context_mask.dtype} {list(context_mask.shape)} and "
                f"{target_masks.dtype} {list(target_masks.shape)}."
            )
        self.context_mask = context_mask
        self.target_masks = target_masks
        # the context encoder's A tokens, a sequence for each window
        self.context = Packing.from_mask(context_mask)
        # the predictor's M tokens, a sequence for each target block: the
        # window's context and the block's targets
        seen = context_mask[:, None] | target_masks  # [B, K, C*N]
        self.predictor = Packing.from_mask(seen.flatten(0, 1))
        # rows of the targets and of the context tokens among the M
        rows, tokens = self.predictor.rows, context_mask.shape[1]
        is_target = target_masks.flatten().index_select(0, rows)
        self.target_rows = find_true(is_target)  # [R]
        self.context_rows = find_true(~is_target)  # [M - R]
        # rows that these have among the B*C*N and among the A
        window = rows // target_masks[0].numel()
        source = window * tokens + self.predictor.places  # [M]
        self.loss_rows = source[self.target_rows]  # [R]
        order = context_mask.flatten().cumsum(0) - 1  # [B*C*N]
        self.context_source = order[source[self.context_rows]]  # [M - R]
        # rows of the front-end's layers that send gradients
        self.gradient_rows = None
        if find_gradient_rows is not None:
            self.gradient_rows = find_gradient_rows(context_mask)

    def to(self, device: torch.device, non_blocking=False) -> "JEPAMask":
        """Copy it with its indices on a device."""
        return self._map(lambda i: i.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "JEPAMask":
        """Copy it with its indices in pinned memory, for a fast move."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "JEPAMask":
        """Apply a function to all indices of a copy."""
        mapped = copy.copy(self)
        for name, value in vars(self).items():
            if not name.endswith(("_mask", "_masks")):
                setattr(mapped, name, map_tensors(function, value))
        return mapped


@dataclasses.dataclass
class BlockMasker:
    """Draws the masks of a whole batch at once.

    A mask has ``floor(prob * N / span + u)`` spans, u uniform in [0, 1). Their
    starts are distinct and uniform over 0 to N-span-1, so the last token is
    never dropped and never a target. The context is what the drop spans and
    all target blocks leave over; a window that keeps less than
    ``min_context_ratio`` is drawn again.

    Arguments
    ---------
    num_targets : int
        Target blocks of each window.
    target_prob : float
        Tokens of a target block over all tokens, were spans not to overlap.
    target_span : int
        Tokens in a span of a target block.
    context_drop_prob, context_drop_span : float, int
        The same for the tokens dropped from the context.
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
    >>> mask = masker(8, 200, generator=torch.Generator().manual_seed(0))
    >>> mask.context_mask.shape, mask.target_masks.shape
    (torch.Size([8, 200]), torch.Size([8, 4, 200]))
    """

    num_targets: int = 4
    target_prob: float = 0.25
    target_span: int = 10
    context_drop_prob: float = 0.65
    context_drop_span: int = 10
    min_context_ratio: float = 0.1
    channel_order: str = "aligned"

    def __post_init__(self):
        counts = "num_targets", "target_span", "context_drop_span"
        shares = "target_prob", "context_drop_prob", "min_context_ratio"
        for name in counts + shares:
            low, high = (1, math.inf) if name in counts else (0, 1)
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"{name} must lie between {low} and {high}, got {value}."
                )
        if self.channel_order not in ("aligned", "interleaved"):
            raise ValueError(
                f"channel_order={self.channel_order!r} must be 'aligned' or "
                "'interleaved'."
            )

    def __call__(
        self,
        batch_size: int,
        num_tokens: int,
        channels: int = 1,
        generator: Optional[torch.Generator] = None,
        find_gradient_rows: Optional[Callable[[Tensor], Any]] = None,
    ) -> JEPAMask:
        """Draw the masks of batch_size windows of C * num_tokens tokens."""
        self._check(num_tokens)
        floor = max(self.min_context_ratio * num_tokens, 1)
        context, targets = self._draw(batch_size, num_tokens, generator)
        for _ in range(MAX_DRAWS):
            poor = find_true(context.sum(dim=1) < floor)
            if len(poor) == 0:
                break
            again = self._draw(len(poor), num_tokens, generator)
            context[poor], targets[poor] = again
        else:
            raise ValueError(
                f"No mask kept min_context_ratio={self.min_context_ratio} of "
                f"{num_tokens} tokens in {MAX_DRAWS} draws: lower it, "
                "num_targets, target_prob or context_drop_prob."
            )
        if self.channel_order == "aligned":
            # channel-major, as the tokens: all of one ear, then the other
            context = context.repeat(1, channels)
            targets = targets.repeat(1, 1, channels)
        else:
            context = context.repeat_interleave(channels, dim=1)
            targets = targets.repeat_interleave(channels, dim=2)
        return JEPAMask(context, targets, find_gradient_rows)

    def _check(self, num_tokens):
        """Refuse settings that no draw can meet with this many tokens."""
        for name in ("target", "context_drop"):
            prob = getattr(self, f"{name}_prob")
            span = getattr(self, f"{name}_span")
            spans = math.ceil(prob * num_tokens / span)
            starts = max(num_tokens - span, 0)
            if spans > starts:
                raise ValueError(
                    f"{name}_prob={prob} asks for {spans} spans of {name}_span="
                    f"{span} with distinct starts, but {num_tokens} tokens "
                    f"have {starts}: lower {name}_prob or change {name}_span."
                )
        if self.target_prob * num_tokens < self.target_span:
            raise ValueError(
                f"target_prob={self.target_prob} of {num_tokens} tokens is "
                f"less than one target_span={self.target_span}, so a target "
                "block could be empty: raise the one or lower the other."
            )

    def _draw(self, batch_size, num_tokens, generator):
        """Draw context [B, N] and targets [B, K, N] once, accepted or not."""
        drop = self.context_drop_prob, self.context_drop_span
        dropped = sample_spans(batch_size, num_tokens, *drop, generator)
        block = self.target_prob, self.target_span
        num_blocks = batch_size * self.num_targets
        targets = sample_spans(num_blocks, num_tokens, *block, generator)
        targets = targets.view(batch_size, -1, num_tokens)
        return ~(dropped | targets.any(dim=1)), targets


def sample_spans(num_masks, num_tokens, prob, span, generator=None):
    """Draw masks [num_masks, num_tokens] of spans with distinct starts."""
    options = {"generator": generator, "dtype": torch.float64}
    rounding = torch.rand(num_masks, **options)
    num_spans = (prob * num_tokens / span + rounding).long()
    # starts are the places of the smallest random numbers; float64: no ties
    numbers = torch.rand(num_masks, num_tokens - span + 1, **options)
    numbers[:, -1] = 1.0  # never a start, and above all that are
    ranked = torch.from_numpy(np.sort(numbers.numpy(), axis=1))  # 5x faster
    starts = numbers < ranked.gather(1, num_spans[:, None])
    # a token is covered if one of the last ``span`` places is a start
    padded = nn.functional.pad(starts.int(), (span, span - 1))
    count = padded.cumsum(dim=1, dtype=torch.int32)
    return count[:, span:] > count[:, :-span]
