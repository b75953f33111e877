"""Packed attention against attention written out."""

import math

import numpy as np
import pytest
import torch

from speechbrain_wavjepa.nnet import TransformerEncoder
from speechbrain_wavjepa.nnet.positions import (
    channel_time_positions,
    time_positions,
)
from speechbrain_wavjepa.nnet.transformer import Attention, Block, Packing

# the kept tokens of 5 sequences: 5, 1, 9, 9 and 3 of 11
LENGTHS = torch.tensor([5, 1, 9, 9, 3])
KEPT = torch.arange(11) * 4 % 11 < LENGTHS[:, None]


def close(ours, theirs, atol=1e-12):
    """Assert closeness in float64."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.fixture
def packed(device):
    """Random packed tokens and where each sequence starts and stops."""
    packing = Packing.from_mask(KEPT).to(device)
    tokens = torch.randn(int(LENGTHS.sum()), 24, device=device).double()
    stops = LENGTHS.cumsum(0).tolist()
    return tokens, packing, list(zip([0, *stops], stops))


def test_packing_knows_the_kept_tokens(packed):
    tokens, packing, bounds = packed
    sequence, place = KEPT.nonzero(as_tuple=True)
    assert packing.places.tolist() == place.tolist()
    assert packing.rows.tolist() == (11 * sequence + place).tolist()
    grid = packing.to_grid(tokens)
    assert grid.shape == (5, 9, 24)
    assert torch.equal(packing.to_flat(grid), tokens)
    for row, (start, stop) in zip(grid, bounds):
        assert torch.equal(row[: stop - start], tokens[start:stop])
        assert torch.all(row[stop - start :] == 0)


def test_attention_equals_attention_written_out(packed):
    tokens, packing, bounds = packed
    attention = Attention(24, 3).double().to(tokens.device)
    ours = attention(tokens, packing)
    for start, stop in bounds:
        parts = attention.query_key_value(tokens[start:stop]).chunk(3, dim=1)
        query, key, value = (
            part.view(-1, 3, 8).transpose(0, 1) for part in parts
        )  # [H, L, D/H]
        scores = query @ key.transpose(1, 2) / math.sqrt(8)
        mixed = scores.softmax(dim=-1) @ value
        expected = attention.projection(mixed.transpose(0, 1).flatten(1))
        close(ours[start:stop], expected)


@pytest.mark.parametrize("norm_first", [False, True])
def test_packed_equals_one_by_one(packed, norm_first):
    tokens, packing, bounds = packed
    encoder = TransformerEncoder(24, 3, 3, norm_first=norm_first)
    encoder = encoder.double().to(tokens.device)
    ours = encoder(tokens, packing)
    for start, stop in bounds:
        alone = encoder(tokens[None, start:stop])[0]
        close(ours[start:stop], alone)


def test_sequences_do_not_attend_to_each_other(packed):
    tokens, packing, bounds = packed
    encoder = TransformerEncoder(24, 2, 3).double().to(tokens.device)
    before = encoder(tokens, packing)
    start, stop = bounds[2]
    tokens = tokens.clone()
    tokens[start:stop] += 100.0
    after = encoder(tokens, packing)
    others = torch.ones(len(tokens), dtype=torch.bool)
    others[start:stop] = False
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[start:stop], after[start:stop])


def test_output_rows_are_the_same_rows(packed):
    tokens, packing, _ = packed
    encoder = TransformerEncoder(24, 3, 3).double().to(tokens.device)
    rows = torch.tensor([0, 7, 20], device=tokens.device)
    expected = encoder(tokens, packing)[rows]
    close(encoder(tokens, packing, output_rows=rows), expected, 1e-13)


def test_block_equals_the_library_layer():
    ours = Block(24, 3).double()
    theirs = torch.nn.TransformerEncoderLayer(
        24, 3, 96, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True
    ).double()
    names = {
        "attention.query_key_value.": "self_attn.in_proj_",
        "attention.projection.": "self_attn.out_proj.",
        "mlp.0.": "linear1.",
        "mlp.2.": "linear2.",
    }
    pairs = ours.state_dict()
    for old, new in names.items():
        pairs = {key.replace(old, new): pairs[key] for key in pairs}
    theirs.load_state_dict(pairs)
    tokens = torch.randn(2, 7, 24).double()
    flat = ours(tokens.flatten(0, 1), Packing(2, 7))
    close(flat.view(2, 7, 24), theirs(tokens))


def test_layers_are_initialised_by_themselves():
    first, second = TransformerEncoder(24, 2, 3).layers
    assert not torch.equal(
        first.attention.query_key_value.weight,
        second.attention.query_key_value.weight,
    )


def test_heads_must_divide_dim():
    with pytest.raises(ValueError, match="dim=10.*num_heads=3"):
        TransformerEncoder(10, 1, 3)


def test_positions_equal_numpy():
    angle = np.arange(50)[:, None] * 10000.0 ** (-np.arange(6) / 6)
    expected = np.concatenate((np.sin(angle), np.cos(angle)), axis=1)
    np.testing.assert_allclose(
        time_positions(50, 12).numpy(), expected, rtol=0, atol=1e-12
    )
    binaural = channel_time_positions(50, 24, channels=2)
    np.testing.assert_allclose(binaural[:50, :12], expected, atol=1e-6)
    np.testing.assert_allclose(binaural[50:, :12], expected, atol=1e-6)
    assert torch.all(binaural[:50, 12:] == 0)
    assert binaural[50, 12:].tolist() == [0.0] * 6 + [1.0] * 6


@pytest.mark.parametrize("dim, channels", [(7, 1), (10, 2)])
def test_positions_refuse_odd_dims(dim, channels):
    with pytest.raises(ValueError, match=str(dim)):
        channel_time_positions(10, dim, channels)
