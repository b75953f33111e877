"""The authors' way of a training step, as oracle and baseline.

All tokens run through ``torch.nn.TransformerEncoder`` under key padding
masks, targets are normalised as one stack of layers, masks are drawn one by
one. Parameter names are the authors', so that weights cross over by
``speechbrain_wavjepa.integrations``. Tests compare the package with it,
benchmarks time it.

Shapes: B windows, K target blocks, N tokens, D dim.
"""

import math

import numpy as np
import torch
from torch import nn

from speechbrain_wavjepa.integrations import map_to_official_state
from speechbrain_wavjepa.nnet.positions import channel_time_positions


class DenseReference(nn.Module):
    """A WavJEPA's weights, run on all tokens with hidden ones masked out."""

    def __init__(self, model):
        super().__init__()
        frontend, predictor = model.frontend, model.predictor
        encoder = model.context_encoder
        self.channels = frontend.channels
        self.top_k_layers = model.target_encoder.top_k_layers
        stacks = [self._convolutions(stack) for stack in frontend.stacks]
        self.extract_audio = nn.Module()
        if self.channels == 1:
            self.extract_audio.cnn = stacks[0]
        else:
            self.extract_audio.cnns = nn.ModuleList(stacks)
        self.feature_norms = nn.LayerNorm(frontend.dim)
        if frontend.dim != encoder.dim:
            self.post_extraction_mapper = nn.Linear(frontend.dim, encoder.dim)
        self.encoder = self._transformer(encoder)
        self.teacher_encoder = self._transformer(encoder)
        self.teacher_encoder.requires_grad_(False)
        self.decoder = self._transformer(predictor.encoder)
        self.encoder_to_decoder_mapper = nn.Linear(encoder.dim, predictor.dim)
        self.decoder_to_encoder_mapper = nn.Linear(predictor.dim, encoder.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, predictor.dim))
        self.load_state_dict(map_to_official_state(model.state_dict()))

    @staticmethod
    def _convolutions(stack):
        """Build one channel's convolutions with fresh weights."""
        blocks = nn.Sequential()
        for index, layer in enumerate(stack.layers):
            parts = [
                nn.Conv1d(
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,
                    layer.stride,
                    bias=False,
                ),
                nn.Identity(),
                nn.GELU(),
            ]
            if index == 0:
                dim = layer.out_channels
                parts = [
                    parts[0], nn.Identity(), nn.GroupNorm(dim, dim), nn.GELU()
                ]  # fmt: skip
            blocks.append(nn.Sequential(*parts))
        return blocks

    @staticmethod
    def _transformer(encoder):
        """Build the library's encoder of the same architecture."""
        block = encoder.layers[0]
        layer = nn.TransformerEncoderLayer(
            encoder.dim,
            block.attention.num_heads,
            block.mlp[0].out_features,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
        )
        norm = nn.LayerNorm(encoder.dim, eps=1e-5)
        return nn.TransformerEncoder(
            layer, encoder.depth, norm, enable_nested_tensor=False
        )

    def embed(self, waveform):
        """Turn [B, T, C] into encoder input [B, N, D]."""
        if self.channels == 1:
            stacks = [self.extract_audio.cnn]
        else:
            stacks = self.extract_audio.cnns
        tokens = torch.cat(
            [
                stack(channel[:, None])
                for stack, channel in zip(stacks, waveform.unbind(2))
            ],
            dim=2,
        ).transpose(1, 2)
        tokens = self.feature_norms(tokens)
        if hasattr(self, "post_extraction_mapper"):
            tokens = self.post_extraction_mapper(tokens)
        return tokens + self.positions(tokens)

    def positions(self, tokens):
        """Look up the position table for tokens [B, N, D]."""
        return channel_time_positions(
            tokens.shape[1] // self.channels,
            tokens.shape[2],
            self.channels,
            tokens.device,
            self.mask_token.dtype,
        )

    @torch.no_grad()
    def targets(self, tokens):
        """Stack the last layers, normalise them together, average."""
        outputs = []
        for layer in self.teacher_encoder.layers:
            tokens = layer(tokens)
            outputs.append(tokens)
        stacked = torch.stack(outputs[-self.top_k_layers :])  # [k, B, N, D]
        stacked = nn.functional.instance_norm(
            stacked.to(torch.promote_types(stacked.dtype, torch.float32))
        )
        return stacked.mean(dim=0)

    def forward(self, waveform, mask):
        """Compute (loss, predictions [B, K, N, D], targets [B, N, D])."""
        context_mask = mask.context_mask.to(waveform.device)
        target_masks = mask.target_masks.to(waveform.device)
        num_blocks = target_masks.shape[1]
        local = self.embed(waveform)
        encoded = self.encoder(local, src_key_padding_mask=~context_mask)
        encoded = self.encoder_to_decoder_mapper(encoded)
        target = self.targets(local.detach())
        tokens = torch.where(
            context_mask[:, :, None], encoded, self.mask_token.to(encoded)
        )
        tokens = tokens + self.positions(tokens)
        seen = context_mask[:, None] | target_masks  # [B, K, N]
        predicted = self.decoder(
            tokens.repeat_interleave(num_blocks, dim=0),
            src_key_padding_mask=~seen.flatten(0, 1),
        )
        prediction = self.decoder_to_encoder_mapper(predicted)
        prediction = prediction.unflatten(0, (-1, num_blocks))
        error = (prediction - target[:, None]).square().mean(dim=-1)
        loss = (error * target_masks).sum() / target_masks.sum()
        return loss, prediction, target

    @torch.no_grad()
    def update_teacher(self, decay):
        """Move the teacher, parameter by parameter."""
        for old, new in zip(
            self.teacher_encoder.parameters(), self.encoder.parameters()
        ):
            old.mul_(decay).add_(new, alpha=1 - decay)


def draw_masks_one_by_one(masker, num_windows, num_tokens, generator):
    """Draw context [B, N] and targets [B, K, N] in a loop over the windows.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import BlockMasker
    >>> context, targets = draw_masks_one_by_one(
    ...     BlockMasker(), 2, 200, np.random.default_rng(0)
    ... )
    >>> targets.shape
    (2, 4, 200)
    """

    def spans(prob, span):
        count = math.floor(prob * num_tokens / span + generator.random())
        starts = generator.choice(num_tokens - span, count, replace=False)
        mask = np.zeros(num_tokens, dtype=bool)
        for start in starts:
            mask[start : start + span] = True
        return mask

    contexts, targets = [], []
    while len(contexts) < num_windows:
        dropped = spans(masker.context_drop_prob, masker.context_drop_span)
        blocks = np.stack(
            [
                spans(masker.target_prob, masker.target_span)
                for _ in range(masker.num_targets)
            ]
        )
        context = ~(dropped | blocks.any(axis=0))
        if context.sum() >= masker.min_context_ratio * num_tokens:
            contexts.append(context)
            targets.append(blocks)
    return np.stack(contexts), np.stack(targets)
