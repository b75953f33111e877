"""What a pretraining run leaves: pictures, a table and a pretrained folder.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import logging
from pathlib import Path

import torch
from streams import make_scene_sampler

from speechbrain_wavjepa.downstream.learning_table import (
    format_tables,
    learning_table,
)
from speechbrain_wavjepa.plots import plot_learning_curve, plot_masks
from speechbrain_wavjepa.pretrained import load_pretrained, write_pretrained
from speechbrain_wavjepa.rooms import RECEIVERS
from speechbrain_wavjepa.scene_plots import plot_scene
from speechbrain_wavjepa.scenes import SceneMixer

logger = logging.getLogger(__name__)


def draw_input(brain, hparams, batch):
    """Draw what the model hears, before it learns."""
    output_folder = Path(hparams["output_folder"])
    batch = batch.to(brain.device)
    windows = brain.cut_windows(batch)
    plot_masks(
        windows[0, :, 0],
        batch.block_mask.context_mask[0],
        batch.block_mask.target_masks[0],
        output_folder / "masks.png",
        hparams["sample_rate"],
        channels=hparams["channels"],
    )
    if batch.scene is not None and len(batch.scene.rows):
        row = int(batch.scene.rows[0])
        scenes = hparams["scene_mixer"](batch.waveform, batch.scene)
        plot_scene(
            batch.scene.about[0],
            batch.scene.source_response[0].T,
            batch.waveform[row],
            scenes[row],
            output_folder / "scene.png",
            hparams["sample_rate"],
        )


def write_results(brain, hparams, folds, encoders):
    """Write learning curve, table and pretrained folder."""
    output_folder = Path(hparams["output_folder"])
    steps = hparams["step_log"].read()
    plot_learning_curve(steps, output_folder / "learning_curve.png")
    tables = {}
    if folds is not None:
        brain.modules.eval()
        conditions = {"clean": folds}
        if "brir_folder" in hparams:
            conditions["naturalistic"] = make_naturalistic(hparams, folds)
        tables = {
            name: learning_table(
                condition,
                {k: v.to(brain.device).eval() for k, v in encoders.items()},
                hparams["window_samples"],
                brain.device,
            )
            for name, condition in conditions.items()
        }
        (output_folder / "learning_table.json").write_text(
            json.dumps(tables, indent=1)
        )
        print(format_tables(tables, "Linear probe accuracy"))
    pretrained = output_folder / "pretrained"
    export_model(pretrained, hparams, steps, tables)
    print(f"Checkpoint, log and pictures: {output_folder}")
    print(f"Model for SpeechBrain's from_hparams: {pretrained}")


def export_model(folder, hparams, steps, tables):
    """Write the model with what a user of it should know."""
    training = {"seed": hparams["seed"], "data": str(hparams["train_shards"])}
    for row in steps:
        training |= {
            name: row[name]
            for name in ("step", "loss", "valid_loss")
            if name in row
        }
    settings = {
        name: hparams[name]
        for name in (
            "sample_rate",
            "channel_policy",
            "level_db",
            "window_samples",
        )
    }
    write_pretrained(
        folder,
        hparams["wavjepa"],
        {**settings, "training": training},
        {
            "name": f"WavJEPA, {Path(hparams['output_folder']).parent.name}",
            "training_data": training["data"],
            "figures": {
                f"linear probe, {condition}, {name}": f"{100 * score:.1f} %"
                for condition, table in tables.items()
                for name, score in table.items()
            },
        },
    )


def load_runs(folders):
    """Load the models of other runs of this recipe, where there are any."""
    models = {}
    for name, folder in (folders or {}).items():
        pretrained = Path(folder) / "pretrained"
        if not pretrained.exists():
            logger.info(f"{folder} holds no run: the table leaves out {name}.")
            continue
        models[name] = load_pretrained(pretrained).embedding_model.model
    return models


def make_naturalistic(hparams, folds):
    """Put labelled clips into rooms that pretraining has not heard."""
    sampler = make_scene_sampler(hparams, RECEIVERS, split="test")
    sampler.scene_prob = 1.0
    mixer = SceneMixer(channels=len(RECEIVERS))
    generator = torch.Generator().manual_seed(hparams["seed"])
    return [
        (
            torch.cat(
                [
                    mixer(clips, sampler(*clips.shape[:2], generator))
                    for clips in waveform.split(32)
                ]
            ),
            labels,
        )
        for waveform, labels in folds
    ]
