"""Probes on frozen embeddings, by the protocol of the HEAR kit.

Every task of a folder is embedded once and its probes trained; a suite that
was stopped goes on with the next task.

    python train.py hparams/hear.yaml --tasks_dir DIR --task esc50-v2.0.0-full \
        --pretrained FOLDER

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml

from speechbrain_wavjepa.downstream.embedding_cache import embed_task
from speechbrain_wavjepa.downstream.finished import is_finished, mark_finished
from speechbrain_wavjepa.downstream.grid import sample_grid
from speechbrain_wavjepa.downstream.neighbours import evaluate_neighbours
from speechbrain_wavjepa.downstream.probe_evaluation import evaluate_task
from speechbrain_wavjepa.downstream.report_plots import plot_confusion
from speechbrain_wavjepa.downstream.task_scores import HEAR_SCORES, read_score
from speechbrain_wavjepa.downstream.tasks import HearTask

logger = logging.getLogger(__name__)

NEIGHBOURS = "test.neighbour-scores.json"


def list_tasks(tasks_dir, task):
    """List the folders of the tasks that are asked for."""
    folder = Path(tasks_dir)
    if task != "all":
        if not (folder / task).is_dir():
            raise ValueError(
                f"{folder} has no task {task!r}: it has "
                f"{sorted(path.name for path in folder.glob('*/'))}."
            )
        return [folder / task]
    tasks = sorted(path.parent for path in folder.glob("*/task_metadata.json"))
    if not tasks:
        raise ValueError(
            f"{folder} holds no task: give the folder above the task folders."
        )
    return tasks


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


def probe_task(folder, hparams, device):
    """Embed a task, train its probes and write its scores."""
    start = time.perf_counter()
    encoder = hparams["encoder"].to(device).eval()
    task = HearTask(folder, encoder.sample_rate)
    task.check_leaks()
    for run in task.runs():
        if absent := task.absent_labels(run):
            logger.warning(
                f"{task.name}: {len(absent)} labels of {run.test} are not in "
                f"the training splits and cannot be learned: {absent[:10]}."
            )
    splits = embed_task(
        task,
        make_embedder(task, encoder, device),
        name_encoder(hparams),
        hparams["embeddings_folder"],
    )
    grid = hparams["grid"]
    parameters = task.metadata.get("evaluation_params") or {}
    points = sample_grid(
        grid,
        task.name,
        hparams["num_points"],
        parameters.get("task_specific_param_grid"),
    )
    output = Path(hparams["output_folder"]) / folder.name
    output.mkdir(parents=True, exist_ok=True)
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
    }
    mark_finished(output, made_with(hparams), done)  # the last file


def made_with(hparams):
    """List what the figures of a task depend on."""
    names = ("grid", "num_points", "neighbours", "seed")
    settings = {name: hparams[name] for name in names}
    return {"encoder_key": name_encoder(hparams), **settings}


def name_encoder(hparams):
    """Tell encoders apart, also those with random weights."""
    if hparams.get("random_weights"):
        return f"random-{hparams['seed']}-{hparams['encoder_key']}"
    return hparams["encoder_key"]


def main():
    """Probe the tasks, print their scores; 1 if one could not be done."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    tasks = list_tasks(hparams["tasks_dir"], hparams["task"])
    output_folder = Path(hparams["output_folder"])
    for path in output_folder.glob("*/"):  # what is there must be of this model
        is_finished(path, made_with(hparams))
    sb.create_experiment_directory(
        experiment_directory=output_folder,
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device, failed = run_opts.get("device") or "cpu", []
    for folder in tasks:
        output = output_folder / folder.name
        try:
            if not is_finished(output, made_with(hparams)):
                probe_task(folder, hparams, device)
        except ValueError as error:
            print(f"{folder.name:<40} error: {error}", file=sys.stderr)
            failed.append(folder.name)
            continue
        score = read_score(output / HEAR_SCORES)
        print(f"{folder.name:<40} {score.percent}")
    print(f"Scores, predictions and embeddings: {output_folder}")
    if failed:
        print(f"Not done: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
