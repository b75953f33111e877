"""Block masks: their rules, their distribution, their refusals."""

import json
import re
from collections import defaultdict
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.utils import _recursive_to

from speechbrain_wavjepa.lobes import BlockMasker, ConvFrontend, JEPAMask
from speechbrain_wavjepa.lobes.masking import sample_spans
from speechbrain_wavjepa.nnet.transformer import map_tensors

TABLE = json.loads(
    (Path(__file__).parents[1] / "parity" / "mask_statistics.json").read_text()
)


def draw(seed=0, num_windows=500, num_tokens=200, channels=1, **settings):
    """Draw context mask and target masks with a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    masker = BlockMasker(**settings)
    mask = masker(num_windows, num_tokens, channels, generator)
    return mask.context_mask, mask.target_masks


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
    std = (expected * (1 - expected) / 4000) ** 0.5
    assert (frequency - expected).abs().max() < 4.5 * std


def test_aligned_and_interleaved_channels():
    context, targets = draw(channels=2)
    assert torch.equal(context[:, :200], context[:, 200:])
    assert torch.equal(targets[..., :200], targets[..., 200:])
    mono_context, mono_targets = draw(channels=1)
    assert torch.equal(context[:, :200], mono_context)
    context, targets = draw(channels=2, channel_order="interleaved")
    assert torch.equal(context[:, ::2], mono_context)
    assert torch.equal(targets[..., 1::2], mono_targets)


def test_the_seed_decides():
    first, again, other = draw(1), draw(1), draw(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


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
            std = (probability * (1 - probability) / 20000) ** 0.5
            assert abs(ours - probability) <= 5 * 2**0.5 * std


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


def test_indices_equal_a_loop_over_tokens():
    context, targets = draw(num_windows=3, num_tokens=40, target_span=4)
    order = {tuple(c): row for row, c in enumerate(context.nonzero().tolist())}
    expected = defaultdict(list)
    for sequence, (window, block) in enumerate(np.ndindex(3, 4)):
        for place in range(40):
            row = len(expected["predictor.rows"])
            if targets[window, block, place]:
                expected["target_rows"].append(row)
                expected["loss_rows"].append(window * 40 + place)
            elif context[window, place]:
                expected["context_rows"].append(row)
                expected["context_source"].append(order[window, place])
            else:
                continue
            expected["predictor.rows"].append(sequence * 40 + place)
            expected["predictor.places"].append(place)
    expected["context.rows"] = [window * 40 + place for window, place in order]
    expected["context.places"] = [place for _, place in order]
    mask = JEPAMask(context, targets)
    for name, indices in expected.items():
        assert attrgetter(name)(mask).tolist() == indices, name


def list_indices(mask):
    """List the indices of a mask, those within its parts included."""
    found = []
    parts = [x for name, x in vars(mask).items() if "_mask" not in name]
    map_tensors(found.append, parts)
    return found


def test_indices_move_and_masks_stay(device):
    frontend = ConvFrontend(8, [[8, 160, 160], [8, 3, 1], [8, 3, 1]])
    mask = JEPAMask(*draw(num_windows=3), frontend.find_gradient_rows)
    # its own, those of two packings, those of three layers of the front-end
    assert len(list_indices(mask)) == 4 + 2 * 6 + 3 * 3
    moved = mask.to("meta")
    assert all(i.device.type == "meta" for i in list_indices(moved))
    for kept in (*list_indices(mask), moved.context_mask, moved.target_masks):
        assert kept.device.type == "cpu"
    if device.type == "cuda":
        assert all(i.is_pinned() for i in list_indices(mask.pin_memory()))


def test_distributed_data_parallel_leaves_a_mask_where_it_is():
    mask = JEPAMask(*draw(num_windows=2))
    (((same,),),) = [_recursive_to((mask,), torch.device("meta"), False)]
    assert same is mask
    assert all(i.device.type == "cpu" for i in list_indices(mask))


def test_masks_that_do_not_fit_each_other_are_refused():
    context, targets = draw(num_windows=2)
    with pytest.raises(ValueError, match=r"\[2, 200\].*\[1, 4, 200\]"):
        JEPAMask(context, targets[:1])
    with pytest.raises(ValueError, match="torch.float32"):
        JEPAMask(context.float(), targets)
