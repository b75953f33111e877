"""Probes on frozen embeddings, by the protocol of the HEAR kit.

Every task of a folder is embedded once and its probes trained; a suite that
was stopped resumes with the next task.

    python evaluate.py hparams/hear.yaml --tasks_dir DIR \
        --task esc50-v2.0.0-full --pretrained FOLDER

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
import speechbrain as sb

from speechbrain_wavjepa.evaluation import HearTask, evaluate_task
from speechbrain_wavjepa.evaluation.embeddings import embed_task
from speechbrain_wavjepa.evaluation.hear_task import find_task
from speechbrain_wavjepa.evaluation.probes import sample_grid
from speechbrain_wavjepa.evaluation.quick_probe import evaluate_neighbours
from speechbrain_wavjepa.evaluation.report import HEAR_SCORES, read_score
from speechbrain_wavjepa.evaluation.runs import (
    check_numbers,
    hash_encoder_settings,
    list_settings,
    load_encoder,
    name_run,
    run_suite,
)
from speechbrain_wavjepa.integrations import hash_encoder
from speechbrain_wavjepa.utils.environment import find_device
from speechbrain_wavjepa.utils.experiment import (
    build,
    experiment,
    override,
    run_script,
)
from speechbrain_wavjepa.utils.plots import plot_confusion

logger = logging.getLogger(__name__)

NEIGHBOURS = "test.neighbour-scores.json"
DONE = "prediction-done.json"  # the kit's name


def list_tasks(tasks_dir, task):
    """List the folders of the tasks that are asked for, by their names."""
    folder = Path(str(tasks_dir))
    if task != "all":
        tasks = [find_task(folder, task)]
    else:
        found = folder.glob("[!.]*/task_metadata.json")
        tasks = sorted(path.parent for path in found)
    if not tasks:
        raise ValueError(
            f"{folder} holds no task: give the folder above the task folders."
        )
    return {path.name: path for path in tasks}


def make_embedder(task, encoder, device):
    """Make what embeds clips as the task wants it."""

    def embed_scenes(clips):
        return encoder.embed(clips.to(device))[:, 0]

    def embed_timestamps(clips):
        output = encoder(clips.to(device))
        milliseconds = 1000 * output["times"].expand(len(clips), -1)
        return output["embeddings"], milliseconds

    if task.embedding_type == "event":
        return embed_timestamps
    return embed_scenes


def probe_task(task, encoder, hparams, made_with, device, output):
    """Embed a task, train its probes and write its scores."""
    start = time.perf_counter()
    for run in task.runs():
        if absent := task.absent_labels(run):
            logger.warning(
                f"{task.name}: {len(absent)} labels of {run.test} are not in "
                f"the training splits and cannot be learned: {absent[:10]}."
            )
    splits = embed_task(
        task,
        make_embedder(task, encoder, device),
        hash_encoder_settings(made_with),
        hparams["embeddings_folder"],
    )
    points = sample_grid(
        hparams["grid"],
        task.name,
        hparams["num_points"],
        task.evaluation_params.get("task_specific_param_grid"),
    )
    if hparams["neighbours"] and task.embedding_type == "scene":
        scores = evaluate_neighbours(task, splits, hparams["neighbours"])
        (output / NEIGHBOURS).write_text(json.dumps(scores, indent=4))
    results = evaluate_task(task, splits, points, device, hparams["seed"])
    for split, (_, logits, scorer) in results.pop("runs").items():
        np.savez(
            output / f"{split}.predictions.npz",
            names=np.array(scorer.embeddings.names),
            logits=logits.numpy(force=True),
            targets=scorer.targets,
        )
        if task.prediction_type == "multiclass":
            plot_confusion(
                output / f"{split}.predictions.npz",
                task.labels,
                output / f"{split}.confusion.png",
            )
    results["embedding_path"] = str(hparams["embeddings_folder"])
    (output / HEAR_SCORES).write_text(json.dumps(results, indent=4))
    done = {
        "time": time.perf_counter() - start,
        "embedding_path": results["embedding_path"],
        "grid_points": len(points),
        "made_with": made_with,
    }
    (output / DONE).write_text(json.dumps(done, indent=4))


def main():
    """Check everything, then probe the tasks."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "precision" in run_opts.overridden_args:  # SpeechBrain takes it away
        overrides = override(overrides, precision=run_opts["precision"])
    settings, overrides = name_run(hparams_file, overrides, "tasks_dir")
    tasks = list_tasks(settings["tasks_dir"], settings["task"])
    hparams = build(hparams_file, overrides)
    if hparams["num_points"] is not None:
        check_numbers(hparams, num_points=1)
    if not isinstance(hparams["neighbours"], list):
        raise ValueError(
            f"neighbours={hparams['neighbours']!r} must be a list."
        )
    for k in hparams["neighbours"]:
        check_numbers({"neighbours": k}, neighbours=1)
    sample_grid(hparams["grid"], num_points=hparams["num_points"])
    device = find_device(run_opts.get("device"))
    encoder = load_encoder(hparams["encoders"], hparams["encoder"]).to(device)
    is_of_hub = hparams["encoder"] == "hugging_face"
    key = hash_encoder(encoder) if is_of_hub else None
    made_with = list_settings(settings, key)

    def open_task(name, folder):
        task = HearTask(folder, encoder.sample_rate)
        task.check_leaks()
        return task.fingerprints(), functools.partial(
            probe_task, task, encoder, hparams, made_with, device
        )

    def show(name, output):
        return read_score(output / HEAR_SCORES).percent

    with experiment(
        hparams["output_folder"], hparams_file, overrides, made_with
    ):
        return run_suite(tasks, hparams["output_folder"], open_task, show)


if __name__ == "__main__":
    sys.exit(run_script(main))
