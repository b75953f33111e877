"""What a pretraining run leaves: pictures, a table and a pretrained folder.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import copy
import json
import logging
from pathlib import Path

import torch
from streams import is_synthetic, make_scene_sampler

from speechbrain_wavjepa.augment import SceneMixer
from speechbrain_wavjepa.augment.brir import RECEIVERS
from speechbrain_wavjepa.evaluation.filter_analysis import (
    describe_channels,
    write_filters,
)
from speechbrain_wavjepa.evaluation.hear_task import read_multiclass_folds
from speechbrain_wavjepa.evaluation.quick_probe import (
    format_tables,
    learning_table,
)
from speechbrain_wavjepa.inference import load_pretrained, write_pretrained
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import atomic_file
from speechbrain_wavjepa.utils.plots import (
    plot_learning_curve,
    plot_masks,
    plot_scene,
)

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def picture(path):
    """Name a picture to draw; one that fails is reported, and stops no run."""
    try:
        yield path
    except Exception:
        logger.exception(f"{path} could not be drawn; the run continues.")


def draw_input(brain, hparams, batch):
    """Draw what the model sees, before it learns."""
    output_folder = Path(hparams["output_folder"])
    batch = batch.to(brain.device)
    windows = brain.cut_windows(batch)
    with picture(output_folder / "masks.png") as path:
        plot_masks(
            windows[0, :, 0],
            batch.mask.context_mask[0],
            batch.mask.target_masks[0],
            path,
            hparams["sample_rate"],
            channels=hparams["channels"],
        )
    if batch.scene is not None and len(batch.scene.rows):
        row = int(batch.scene.rows[0])
        scenes = hparams["scene_mixer"](batch.waveform, batch.scene)
        with picture(output_folder / "scene.png") as path:
            plot_scene(
                batch.scene.metadata[0],
                batch.scene.source_response[0].T,
                batch.waveform[row],
                scenes[row],
                path,
                hparams["sample_rate"],
            )


def describe_frontend(hparams):
    """Describe the filters of the front-end, if it has any."""
    return describe_channels(
        "front-end", hparams["frontend"], hparams["sample_rate"]
    )


def load_probe(hparams):
    """Load labelled clips and the models of the table at the end.

    Own sounds have no labels: without a probe_task there is no table.
    """
    if hparams["probe_task"] is not None:
        task = hparams["probe_task"]
        folds = read_multiclass_folds(task, hparams["sample_rate"])
        name = f"the task {Path(task).name}"
    elif is_synthetic(hparams) and hparams["probe_folds"] is not None:
        folds = [corpus.load() for corpus in hparams["probe_folds"]]
        name = "synthetic sounds"
    else:
        return None
    require("sklearn", "plots")  # or the table would fail at the end
    counts = [len(labels) for _, labels in folds]
    if len(folds) == 2:
        parts = f"{counts[0]} clips to train, {counts[1]} to test"
    else:
        parts = f"{sum(counts)} clips, each of {len(folds)} folds held out once"
    return {
        "measured_on": f"{name}: {parts}",
        "folds": folds,
        "encoders": {
            "random encoder": copy.deepcopy(hparams["wavjepa"]),
            **load_runs(hparams.get("compare_with")),
            "pretrained encoder": hparams["wavjepa"],
        },
    }


def write_results(brain, hparams, data, probe, initial):
    """Write the pretrained folder, then what may fail: picture and table."""
    output_folder = Path(hparams["output_folder"])
    pretrained = output_folder / "pretrained"
    table = output_folder / "learning_table.json"
    steps = hparams["step_log"].read()
    brain.check_folder()
    # the table of an earlier start: a finished run's model stays what it is
    export_model(pretrained, hparams, steps, data, read_figures(table))
    print(f"Checkpoint, log and pictures: {output_folder}")
    print(f"Model for SpeechBrain's from_hparams: {pretrained}")
    with picture(output_folder / "learning_curve.png") as path:
        plot_learning_curve(steps, path)
    with picture(output_folder / "filters.png"):
        write_filters(
            {"front-end": hparams["frontend"]},
            output_folder,
            initial,
            hparams["sample_rate"],
        )
    if probe is None:
        return
    tables = measure(brain, hparams, probe)
    report = {"measured_on": probe["measured_on"], "accuracy": tables}
    with atomic_file(table) as aside:
        aside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(format_tables(tables, "Linear probe accuracy"))
    print(f"Measured on {probe['measured_on']}.")
    export_model(pretrained, hparams, steps, data, read_figures(table))


def read_figures(path):
    """Read the table of a run as figures for its model card."""
    if not path.exists():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    figures = {"linear probes measured on": report["measured_on"]}
    for condition, table in report["accuracy"].items():
        for name, score in table.items():
            key = f"linear probe, {condition}, {name}"
            figures[key] = f"{100 * score:.1f} %"
    return figures


def measure(brain, hparams, probe):
    """Measure the table: clean clips and, where there are rooms, scenes."""
    brain.modules.eval()
    conditions = {"clean": probe["folds"]}
    if "brir_folder" in hparams:
        conditions["naturalistic"] = make_naturalistic(hparams, probe["folds"])
    return {
        name: learning_table(
            folds,
            {
                k: v.to(brain.device).eval()
                for k, v in probe["encoders"].items()
            },
            hparams["window_samples"],
            brain.device,
        )
        for name, folds in conditions.items()
    }


def export_model(folder, hparams, steps, data, figures):
    """Write the model with what a user of it should know."""
    source = "synthetic sounds"
    if not is_synthetic(hparams):
        shards = hparams["train_shards"]
        source = Path(shards if isinstance(shards, str) else shards[0]).name
    training = {"seed": hparams["seed"], "data": f"{source}: {data}"}
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
    model = "WavJEPA-Nat" if "brir_folder" in hparams else "WavJEPA"
    write_pretrained(
        folder,
        hparams["wavjepa"],
        {**settings, "training": training},
        {
            "name": f"{model}, pretrained on {source}",
            "training_data": training["data"],
            "figures": figures,
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
    """Put labelled clips into rooms that pretraining has not used."""
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
