"""What a pretraining run hears: streams of clips, complete with scenes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path

from speechbrain.utils.distributed import run_on_main

from speechbrain_wavjepa.data.manifest import describe_shards
from speechbrain_wavjepa.data.sources import expand_shards
from speechbrain_wavjepa.rooms import BRIRBank
from speechbrain_wavjepa.shards import ClipCollator, ClipStream


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
    """Describe what decides, besides settings, which clips a step hears."""
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
        data["noise_data"] = describe_shards(hparams["noises"].files)
    return data


def make_streams(hparams):
    """Make the streams of training and held-out clips."""
    train_shards = expand_shards(hparams["train_shards"])
    if hparams["valid_shards"] is not None:
        valid_shards = expand_shards(hparams["valid_shards"])
    else:
        held_out = hparams["num_valid_shards"]
        valid_shards = train_shards[-held_out:]
        train_shards = train_shards[:-held_out]
    if not train_shards or set(train_shards) & set(valid_shards):
        raise ValueError(
            f"Training needs shards apart from the {len(valid_shards)} held "
            f"out for validation, {valid_shards[:3]}: give more train_shards "
            "or other valid_shards."
        )
    train_stream = ClipStream(
        train_shards,
        shuffle_buffer=hparams["shuffle_buffer"],
        **hparams["clip_options"],
    )
    # every process validates on the same clips
    valid_stream = ClipStream(
        valid_shards,
        passes=1,
        shuffle=False,
        rank=0,
        world_size=1,
        **hparams["clip_options"],
    )
    train_stream.check_split(hparams["num_workers"])
    train_stream.check_shards()
    hparams["stream_state"].attach(train_stream, hparams["num_workers"])
    return train_stream, valid_stream


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
    )


def make_scene_sampler(hparams, receivers, split="train"):
    """Make what draws the rooms and noises of a split, if the yaml has any."""
    if "brir_folder" not in hparams:
        return None
    bank = BRIRBank(
        hparams["brir_folder"], hparams["sample_rate"], split, receivers
    )
    return hparams["scene_sampler"](bank, hparams["noises"])
