"""The data of a pretraining run: streams of clips, complete with scenes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import logging
from pathlib import Path

from speechbrain.utils.distributed import ddp_broadcast, run_on_main
from survey import describe_shards, hold_out, survey_shards
from torch.utils.data import IterableDataset

from speechbrain_wavjepa.augment import BRIRBank
from speechbrain_wavjepa.dataio import ClipCollator, ClipStream, expand_shards
from speechbrain_wavjepa.dataio.shards import shard_name, shard_place
from speechbrain_wavjepa.utils.files import fingerprint
from speechbrain_wavjepa.utils.processes import name_machines

logger = logging.getLogger(__name__)


def is_synthetic(hparams):
    """Say whether a run learns from the synthetic corpus."""
    return hparams["train_shards"] == hparams.get("synthetic_folder")


def make_synthetic_data(hparams):
    """Make the sounds and rooms of the small yamls; every process waits."""
    if is_synthetic(hparams):
        run_on_main(
            hparams["synthetic_corpus"].write_shards,
            args=[hparams["synthetic_folder"]],
        )
    rooms = hparams.get("synthetic_rooms_folder")
    if rooms is not None and hparams["brir_folder"] == rooms:
        run_on_main(hparams["synthetic_rooms"])


def describe_data(hparams, train_stream, valid_stream):
    """Describe what decides, besides settings, which clips a step takes."""
    data = {
        "processes": train_stream.world_size,
        "num_workers": max(hparams["num_workers"], 1),
        "train_data": describe_shards(train_stream.shards),
        "valid_data": describe_shards(valid_stream.shards),
    }
    if "brir_folder" in hparams:
        rooms = sorted(Path(hparams["brir_folder"]).rglob("*.tar"))
        data["rooms"] = describe_shards(map(str, rooms))
    if "noise_folder" in hparams:
        data["noise_data"] = describe_shards(map(str, hparams["noises"].files))
    return data


def make_streams(hparams):
    """Make the streams of training and held-out clips."""
    train_shards, valid_shards = list_shards(hparams)
    check_machines(train_shards + valid_shards)
    train_stream = ClipStream(
        train_shards,
        shuffle_buffer=hparams["shuffle_buffer"],
        **hparams["clip_options"],
    )
    valid_stream = HeldOutBatches(
        valid_shards,
        hparams["valid_dataloader_opts"]["batch_size"],
        train_stream.rank,
        train_stream.world_size,
        hparams["clip_options"],
    )
    train_stream.check_split(hparams["num_workers"])
    run_on_main(report_sound, args=[train_stream, valid_stream])
    hparams["stream_state"].attach(train_stream, hparams["num_workers"])
    return train_stream, valid_stream


class HeldOutBatches(IterableDataset):
    """Every world_size-th batch of held-out clips.

    Each process reads all of them, since a single shard may hold them, and
    decodes its own. Batches lie at fixed places, so masks and losses are the
    same for any number of processes.
    """

    def __init__(self, shards, batch_size, rank, world_size, clip_options):
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.stream = ClipStream(
            shards,
            passes=1,
            shuffle=False,
            rank=0,
            world_size=1,
            wanted=self.is_own,
            **clip_options,
        )
        self.shards = self.stream.shards

    def is_own(self, place):
        """Say whether this process validates on the clip at a place."""
        return place // self.batch_size % self.world_size == self.rank

    def __iter__(self):
        """Give the clips of each batch; unreadable ones are missing."""

        def number(clip):
            return (clip.position.seen - 1) // self.batch_size

        for _, clips in itertools.groupby(self.stream, number):
            yield list(clips)


def list_shards(hparams):
    """List the shards to train on and those to validate on."""
    spec, data_root = hparams["train_shards"], hparams["data_root"]
    if hparams["valid_shards"] is None:
        clip_seconds = hparams["clip_options"]["clip_seconds"]
        num_clips = hparams["num_valid_clips"]
        return hold_out(spec, num_clips, clip_seconds, data_root)
    train_shards = expand_shards(spec, data_root)
    valid_shards = expand_shards(hparams["valid_shards"], data_root)
    places = set(map(shard_place, train_shards))
    shared = [shard for shard in valid_shards if shard_place(shard) in places]
    if shared:
        raise ValueError(
            f"{len(shared)} of valid_shards are also in train_shards, such as "
            f"{shard_name(shared[0])}: name others, or leave valid_shards out "
            "to hold out num_valid_clips."
        )
    return train_shards, valid_shards


def check_machines(shards):
    """Refuse machines that see other data: clips would be lost or repeated."""
    names = [shard_name(shard).rsplit("/", 1)[-1] for shard in shards]
    names = fingerprint(names)
    if machines := name_machines(names != ddp_broadcast(names)):
        raise ValueError(
            f"The shards on {machines} are others than those of the main "
            "process: put the data on a disk that all machines share, or the "
            "same files on each."
        )


def report_sound(train_stream, valid_stream):
    """Refuse shards without clips; tell how much sound there is."""
    for name, stream in (
        ("Training", train_stream),
        ("Validation", valid_stream.stream),
    ):
        options = stream.decode_settings
        seconds = options["clip_samples"] / options["sample_rate"]
        logger.info(f"{name}: {survey_shards(stream.shards, seconds)}.")


def make_collator(hparams):
    """Make what turns clips into batches, with masks and scenes."""
    return ClipCollator(
        hparams["block_masker"],
        hparams["frontend"].num_tokens(hparams["window_samples"]),
        windows_per_clip=hparams["windows_per_clip"],
        window_samples=hparams["window_samples"],
        clip_samples=round(hparams["clip_seconds"] * hparams["sample_rate"]),
        channels=hparams["channels"],
        seed=hparams["seed"],
        scene_sampler=make_scene_sampler(hparams, hparams.get("receivers")),
        find_gradient_rows=hparams["frontend"].find_gradient_rows,
    )


def make_scene_sampler(hparams, receivers, split="train"):
    """Make what draws the rooms and noises of a split, if the yaml has any."""
    if "brir_folder" not in hparams:
        return None
    bank = BRIRBank(
        hparams["brir_folder"], hparams["sample_rate"], split, receivers
    )
    return hparams["scene_sampler"](bank, hparams["noises"])
