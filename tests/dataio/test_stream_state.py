"""A resumed run sees the next batches, and refuses what it cannot resume."""

import json
import os

import pytest
import torch
from shard_factory import write_shards
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.utils.checkpoints import Checkpointer
from torch.utils.data import DataLoader

from speechbrain_wavjepa.dataio import ClipCollator, ClipStream, StreamState
from speechbrain_wavjepa.lobes import BlockMasker

COUNTS = [3, 5, 2, 4, 6, 1]


def make_stream(folder, **options):
    return ClipStream(
        str(folder), clip_seconds=0.1, shuffle_buffer=4, **options
    )


def make_loader(stream, num_workers, batch_size=3):
    collator = ClipCollator(
        BlockMasker(), 200, 2, window_samples=800, clip_samples=1600
    )
    return DataLoader(
        stream, batch_size, collate_fn=collator, num_workers=num_workers
    )


def assert_equal_batches(batch, other):
    assert batch.keys == other.keys
    assert batch.starts.equal(other.starts)
    assert batch.position == other.position
    assert batch.waveform.equal(other.waveform)
    assert batch.lengths.equal(other.lengths)
    assert batch.mask.context_mask.equal(other.mask.context_mask)
    assert batch.mask.target_masks.equal(other.mask.target_masks)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_resume_gives_the_next_batches(tmp_path, num_workers):
    write_shards(tmp_path, COUNTS)
    batches = iter(make_loader(make_stream(tmp_path), num_workers))
    expected = [next(batches) for _ in range(30)]  # several passes
    del batches
    for used in (1, 2, 3, 4, 7, 12, 20):
        state = StreamState()
        state.attach(make_stream(tmp_path), num_workers)
        for batch in expected[:used]:
            state.update(batch.position)
        state.save(tmp_path / "state.json")
        stream = make_stream(tmp_path)
        fresh = StreamState()
        fresh.attach(stream, num_workers)
        fresh.load(tmp_path / "state.json")
        resumed = iter(make_loader(stream, num_workers))
        for batch in expected[used : used + 10]:
            assert_equal_batches(next(resumed), batch)


def test_checkpointer_brings_the_position_back(tmp_path):
    write_shards(tmp_path, COUNTS)
    stream, state = make_stream(tmp_path), StreamState()
    state.attach(stream, num_workers=2)
    checkpointer = Checkpointer(tmp_path / "save", {"stream": state})
    batches = iter(make_loader(stream, 2))
    for _ in range(5):
        state.update(next(batches).position)
    checkpointer.save_checkpoint()
    expected = [next(batches) for _ in range(5)]
    for batch in expected:
        state.update(batch.position)
    checkpointer.recover_if_possible()
    resumed = iter(make_loader(stream, 2))
    for batch in expected:
        assert_equal_batches(next(resumed), batch)


def test_bad_scenes_are_counted_on_after_a_resume(tmp_path):
    write_shards(tmp_path, COUNTS)
    states = [StreamState(), StreamState()]
    for state in states:
        state.attach(make_stream(tmp_path))
    states[0].num_bad_scenes = 3
    states[0].save(tmp_path / "state.json")
    states[1].load(tmp_path / "state.json")
    assert states[1].num_bad_scenes == 3


def test_nominal_epochs_of_speechbrain_go_on_where_they_stopped(tmp_path):
    write_shards(tmp_path, COUNTS)
    expected = iter(make_loader(make_stream(tmp_path), 0))
    options = {"batch_size": 3, "collate_fn": make_loader([], 0).collate_fn}
    loader = make_dataloader(
        make_stream(tmp_path), looped_nominal_epoch=4, **options
    )
    for _ in range(3):
        epoch = list(loader)
        assert len(epoch) == 4
        for batch in epoch:
            assert_equal_batches(batch, next(expected))
    assert loader.total_samples == 36


def make_state(folder, num_workers=2, **options):
    stream, state = make_stream(folder, **options), StreamState()
    state.attach(stream, num_workers)
    return state


def use_batches(state, num_workers, state_path):
    batches = iter(make_loader(state.stream, num_workers))
    for _ in range(num_workers + 1):
        state.update(next(batches).position)
    state.save(state_path)
    return state_path


def test_other_number_of_workers_is_refused(tmp_path):
    write_shards(tmp_path, COUNTS)
    saved = use_batches(make_state(tmp_path), 2, tmp_path / "a.json")
    message = (
        "saved with num_workers=2, and this run has num_workers=1.*"
        "Resume with the shards, .* num_workers of the checkpoint"
    )
    with pytest.raises(ValueError, match=message):
        make_state(tmp_path, num_workers=0).load(saved)
    late = make_state(tmp_path, num_workers=None)
    late.load(saved)
    with pytest.raises(ValueError, match=message):
        next(iter(make_loader(late.stream, 0)))


@pytest.mark.parametrize(
    "change, name",
    [({"seed": 5}, "seed=0"), ({"shuffle": False}, "block_size=4")],
)
def test_other_order_is_refused(tmp_path, change, name):
    write_shards(tmp_path, COUNTS)
    saved = use_batches(make_state(tmp_path), 2, tmp_path / "a.json")
    with pytest.raises(ValueError, match=f"saved with {name}, and this run"):
        make_state(tmp_path, **change).load(saved)


def test_other_shards_are_refused_but_may_move(tmp_path):
    write_shards(tmp_path, COUNTS)
    saved = use_batches(make_state(tmp_path), 2, tmp_path / "a.json")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in tmp_path.glob("*.tar"):
        path.rename(moved / path.name)
    make_state(moved).load(saved)
    (moved / "shard-000003.tar").rename(moved / "other.tar")
    with pytest.raises(ValueError, match="saved with shard_names_crc32="):
        make_state(moved).load(saved)


def test_other_number_of_processes_is_refused(tmp_path):
    write_shards(tmp_path, COUNTS)
    state = make_state(tmp_path)
    saved = use_batches(state, 2, tmp_path / "a.json")
    other = make_state(tmp_path, rank=0, world_size=2)
    message = "with world_size=1, and this run has world_size=2. Resume with"
    with pytest.raises(ValueError, match=message):
        other.load(saved)


def test_bad_clips_are_summed_over_workers(tmp_path):
    write_shards(tmp_path, COUNTS)
    for number in range(2):
        (tmp_path / f"bad-{number}.tar").write_bytes(b"")
    state = make_state(tmp_path, max_bad_fraction=0.9)
    for batch, _ in zip(make_loader(state.stream, 2), range(20)):
        state.update(batch.position)
    bad = {w: p.bad for w, p in state.stream.positions.items()}
    assert min(bad.values()) > 0 and state.num_bad == bad[0] + bad[1]


def run_process(rank, folder):
    """Use some batches, save, resume in one of two gloo processes."""
    os.environ["RANK"] = str(rank)
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    stream, state = make_stream(folder), StreamState()
    assert (stream.rank, stream.world_size) == (rank, 2)
    state.attach(stream, 0)
    batches = iter(make_loader(stream, 0))
    for _ in range(2 + rank):
        state.update(next(batches).position)
    # what SpeechBrain's Checkpointer calls in every process
    state.save(folder / "state.json")
    torch.distributed.barrier()
    expected = next(batches)
    fresh_stream, fresh = make_stream(folder), StreamState()
    fresh.attach(fresh_stream, 0)
    fresh.load(folder / "state.json")
    assert_equal_batches(next(iter(make_loader(fresh_stream, 0))), expected)
    torch.save(expected.keys, folder / f"keys-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_save_one_file_and_resume_each_its_own(tmp_path):
    write_shards(tmp_path, COUNTS)
    torch.multiprocessing.spawn(run_process, (tmp_path,), nprocs=2)
    states = json.loads((tmp_path / "state.json").read_text())["processes"]
    assert [s["positions"][0]["rank"] for s in states] == [0, 1]
    assert [s["positions"][0]["seen"] for s in states] == [6, 9]
    keys = [set(torch.load(tmp_path / f"keys-{r}.pt")) for r in (0, 1)]
    assert not keys[0] & keys[1]
