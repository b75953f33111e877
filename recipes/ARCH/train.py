"""Linear probes on frozen embeddings, by the protocol of ARCH.

Every data set is embedded once and its probes trained; a suite that was
stopped goes on with the next data set.

    python train.py hparams/arch.yaml --data_folder DIR --dataset esc50 \
        --pretrained FOLDER

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import logging
import sys
import time
from pathlib import Path

import speechbrain as sb
from arch_prepare import find_datasets, read_options
from hyperpyyaml import load_hyperpyyaml

from speechbrain_wavjepa.downstream.arch.embeddings import embed_dataset
from speechbrain_wavjepa.downstream.arch.evaluation import evaluate_dataset
from speechbrain_wavjepa.downstream.arch.probe import check_settings
from speechbrain_wavjepa.downstream.arch.readers import READERS, read_dataset
from speechbrain_wavjepa.downstream.finished import is_finished, mark_finished
from speechbrain_wavjepa.downstream.task_scores import ARCH_SCORES, read_score

logger = logging.getLogger(__name__)

TABLE = "results.tsv"


def probe_dataset(name, folder, hparams, device):
    """Embed a data set, train its probes and write its scores."""
    start = time.perf_counter()
    dataset = read_dataset(name, folder, **read_options(name, hparams))
    encoder = hparams["encoder"].to(device).eval()
    if hparams.get("pad_to_max_seconds"):
        encoder.pad_to_seconds = READERS[name].max_seconds
    embeddings = embed_dataset(
        dataset,
        lambda clip: encoder.embed(clip.to(device))[:, 0],
        encoder.sample_rate,
        name_encoder(hparams),
        hparams["embeddings_folder"],
        hparams["max_bad_fraction"],
        hparams["num_workers"],
    )
    results = evaluate_dataset(
        dataset,
        embeddings,
        hparams["probe_settings"],
        hparams["repetitions"],
        device,
        hparams["seed"],
    )
    for note in results["notes"]:
        logger.info(f"{name}: {note}")
    results["unreadable"] = list(embeddings.unreadable.values())
    output = Path(hparams["output_folder"]) / name
    output.mkdir(parents=True, exist_ok=True)
    (output / ARCH_SCORES).write_text(json.dumps(results, indent=4))
    seconds = {"time": time.perf_counter() - start}
    mark_finished(output, made_with(name, hparams), seconds)  # the last file


def made_with(name, hparams):
    """List what the figures of a data set depend on."""
    return {
        "encoder_key": name_encoder(hparams),
        **hparams["probe_settings"]._asdict(),
        "repetitions": hparams["repetitions"],
        "seed": hparams["seed"],
        **read_options(name, hparams),
    }


def name_encoder(hparams):
    """Tell encoders apart, also those that hear padding."""
    key = hparams["encoder_key"]
    if hparams.get("random_weights"):
        key = f"random-{hparams['seed']}-{key}"
    if hparams.get("pad_to_max_seconds"):
        key = f"padded-{key}"
    return key


def write_table(hparams):
    """Write a row for each finished data set, with the columns of ARCH."""
    encoder, folder = hparams["encoder"], Path(hparams["output_folder"])
    num_parameters = sum(value.numel() for value in encoder.parameters())
    rows = []
    for name in READERS:
        path = folder / name / ARCH_SCORES
        if path.exists():
            scores = json.loads(path.read_text())["scores"].values()
            cells = [hparams["model_name"], num_parameters, True, name]
            for score in scores:
                cells += [score["mean"], score["deviation"]]
            rows.append("\t".join(map(str, cells)))
    (folder / TABLE).write_text("\n".join(rows) + "\n")


def show(name, output):
    """Print the figure of a data set, and what must be known of it."""
    results = json.loads((output / ARCH_SCORES).read_text())
    score = read_score(output / ARCH_SCORES).percent
    print(f"{name:<18} {score:<11} {results['main_score']}")
    for note in results["notes"]:
        print(f"{'':<18} {note}")


def main():
    """Probe the data sets, print their scores; 1 if one could not be done."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    check_settings(hparams["probe_settings"])
    if hparams["repetitions"] < 1:
        raise ValueError(
            f"repetitions must be 1 or more, got {hparams['repetitions']}."
        )
    datasets = find_datasets(
        hparams["data_folder"], hparams["dataset"], hparams["folders"]
    )
    output_folder = Path(hparams["output_folder"])
    for name in READERS:  # what is there must be of this model
        is_finished(output_folder / name, made_with(name, hparams))
    sb.create_experiment_directory(
        experiment_directory=output_folder,
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device, failed = run_opts.get("device") or "cpu", []
    for name, folder in datasets.items():
        output = output_folder / name
        try:
            if not is_finished(output, made_with(name, hparams)):
                probe_dataset(name, folder, hparams, device)
        except ValueError as error:
            print(f"{name:<18} error: {error}", file=sys.stderr)
            failed.append(name)
            continue
        show(name, output)
        write_table(hparams)
    print(f"Scores, their table and embeddings: {output_folder}")
    if failed:
        print(f"Not done: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
