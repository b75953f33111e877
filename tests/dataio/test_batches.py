"""Batches: padding, masks, seeds."""

import pytest
import torch

from speechbrain_wavjepa.dataio import ClipCollator
from speechbrain_wavjepa.dataio.stream import Clip, StreamPosition
from speechbrain_wavjepa.lobes import BlockMasker


def make_clips(lengths, channels=1, **position):
    position = StreamPosition(**{"seen": len(lengths), **position})
    return [
        Clip(torch.full((n, channels), float(n)), f"0.tar::{n}", position)
        for n in lengths
    ]


def collate(clips, **options):
    options = {
        "masker": BlockMasker(),
        "num_tokens": 200,
        "windows_per_clip": 3,
        "window_samples": 100,
        "clip_samples": 400,
        **options,
    }
    return ClipCollator(**options)(clips)


def test_clips_are_padded_and_short_ones_counted():
    batch = collate(make_clips([400, 99, 100]))
    assert batch.waveform.shape == (3, 400, 1)
    assert batch.lengths.tolist() == [400, 99, 100]
    assert batch.waveform.sum(dim=(1, 2)).tolist() == [400**2, 99**2, 100**2]
    assert batch.num_short == 1
    assert batch.keys == ["0.tar::400", "0.tar::99", "0.tar::100"]
    assert batch.batchsize == 3


def test_masks_for_all_windows_and_channels():
    batch = collate(make_clips([400, 400], channels=2), channels=2)
    context_mask = batch.mask.context_mask
    assert context_mask.shape == (6, 400)
    assert batch.mask.target_masks.shape == (6, 4, 400)
    assert context_mask[:, :200].equal(context_mask[:, 200:])
    assert collate(make_clips([400]), masker=None).mask is None


def test_batch_is_a_pure_function_of_clips_and_seed():
    torch.manual_seed(1)
    first = collate(make_clips([400]))
    torch.manual_seed(2)
    again = collate(make_clips([400]))
    assert first.starts.equal(again.starts)
    assert first.mask.target_masks.equal(again.mask.target_masks)


@pytest.mark.parametrize(
    "change", [{"rank": 1}, {"worker": 1}, {"seen": 7}, {"seed": 1}]
)
def test_everything_that_tells_batches_apart_changes_the_draws(change):
    first = collate(make_clips([400]))
    seed = {"seed": change["seed"]} if "seed" in change else {}
    position = {} if seed else change
    other = collate(make_clips([400], **position), **seed)
    assert not other.starts.equal(first.starts)
    masks = first.mask.target_masks
    assert not other.mask.target_masks.equal(masks)


def test_window_longer_than_a_clip():
    with pytest.raises(ValueError, match="window_samples=401 .* clip's 400"):
        collate(make_clips([400]), window_samples=401)


def test_all_but_the_masks_themselves_moves():
    batch = collate(make_clips([400]))
    moved = batch.to("meta")
    for tensor in (moved.waveform, moved.lengths, moved.starts):
        assert tensor.device.type == "meta"
    assert moved.mask.context_mask.device.type == "cpu"
    assert moved.mask.loss_rows.device.type == "meta"
