"""Block masks: their rules, their distribution, their refusals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from speechbrain_wavjepa.lobes.masking import BlockMasker, sample_spans

TABLE = json.loads(
    (Path(__file__).parents[1] / "parity" / "mask_statistics.json").read_text()
)


def draw(seed=0, num_windows=500, num_tokens=200, channels=1, **settings):
    """Draw masks with a fixed seed."""
    return BlockMasker(**settings)(
        num_windows,
        num_tokens,
        channels,
        torch.Generator().manual_seed(seed),
    )


def test_context_and_targets_are_disjoint_and_large_enough():
    context, targets = draw(num_windows=2000, min_context_ratio=0.15)
    assert not (context[:, None] & targets).any()
    assert context.float().mean(dim=1).min() >= 0.15
    assert targets.any(dim=2).all()


@pytest.mark.parametrize("span", [1, 3, 10, 15])
def test_spans_have_their_length(span):
    prob = span / 200  # one span
    mask = sample_spans(300, 200, prob, span)
    for row in mask.numpy():
        positions = row.nonzero()[0]
        assert len(positions) == span
        assert positions[-1] - positions[0] == span - 1


def test_starts_are_distinct_and_uniform():
    generator = torch.Generator().manual_seed(0)
    # spans of one token are their starts; 30.5 expected
    mask = sample_spans(4000, 41, 30.5 / 41, 1, generator)
    assert not mask[:, -1].any()  # the last token is never taken
    counts = mask.sum(dim=1)
    assert set(counts.tolist()) == {30, 31}
    assert abs((counts == 31).float().mean().item() - 0.5) < 0.03
    frequency = mask[:, :-1].float().mean(dim=0)
    expected = 30.5 / 40
    deviation = (expected * (1 - expected) / 4000) ** 0.5
    assert (frequency - expected).abs().max() < 4.5 * deviation


def test_aligned_and_interleaved_channels():
    context, targets = draw(channels=2)
    assert torch.equal(context[:, :200], context[:, 200:])
    assert torch.equal(targets[..., :200], targets[..., 200:])
    mono = draw(channels=1)
    assert torch.equal(context[:, :200], mono.context_mask)
    interleaved = draw(channels=2, channel_order="interleaved")
    assert torch.equal(interleaved.context_mask[:, ::2], mono.context_mask)
    assert torch.equal(interleaved.target_masks[..., 1::2], mono.target_masks)


def test_the_seed_decides():
    first, again, other = draw(1), draw(1), draw(2)
    assert torch.equal(first.context_mask, again.context_mask)
    assert torch.equal(first.target_masks, again.target_masks)
    assert not torch.equal(first.target_masks, other.target_masks)


def parse(text):
    """Read 'mean [low, high]'."""
    return [float(number) for number in re.findall(r"[\d.]+", text)]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["paper_context"])
def test_the_table_of_the_paper(row):
    context, targets = draw(
        num_windows=20000,
        target_prob=row["target_prob"],
        target_span=row["target_span"],
        context_drop_span=row["context_drop_span"],
    )
    for mask, expected in (
        (context, row["paper_context"]),
        (targets.flatten(0, 1), row["paper_target"]),
    ):
        percent = 100 * mask.double().mean(dim=1).numpy()
        mean, low, high = parse(expected)
        assert abs(percent.mean() - mean) <= 0.2
        assert abs(np.percentile(percent, 2.5) - low) <= 1
        assert abs(np.percentile(percent, 97.5) - high) <= 1
    for mask, by_position in (
        (context, row["context_prob_by_position"]),
        (targets.flatten(0, 1), row["target_prob_by_position"]),
    ):
        for position, probability in by_position.items():
            ours = mask[:, int(position)].double().mean().item()
            deviation = (probability * (1 - probability) / 20000) ** 0.5
            assert abs(ours - probability) <= 5 * 2**0.5 * deviation


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"min_context_ratio": 0.9}, "min_context_ratio=0.9"),
        ({"target_prob": 0.01}, "target_prob=0.01"),
        (
            {"context_drop_prob": 1.0, "context_drop_span": 1},
            "context_drop_prob",
        ),
        ({"target_span": 300}, "target_span=300"),
    ],
)
def test_settings_that_cannot_be_met_name_themselves(settings, name):
    with pytest.raises(ValueError, match=name):
        draw(num_windows=2, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_prob": 1.2},
        {"num_targets": 0},
        {"target_span": 0},
        {"channel_order": "shuffled"},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        BlockMasker(**settings)
