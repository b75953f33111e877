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
from arch_datasets import READERS, read_dataset
from arch_prepare import find_datasets, read_options

from speechbrain_wavjepa.evaluation.arch import check_settings, evaluate_dataset
from speechbrain_wavjepa.evaluation.arch_dataset import fingerprint_dataset
from speechbrain_wavjepa.evaluation.embeddings import embed_dataset
from speechbrain_wavjepa.evaluation.report import ARCH_SCORES, read_score
from speechbrain_wavjepa.evaluation.runs import (
    build,
    check_numbers,
    finish,
    hash_encoder_settings,
    list_settings,
    name_run,
)
from speechbrain_wavjepa.inference.files import hash_model
from speechbrain_wavjepa.utils.environment import find_device
from speechbrain_wavjepa.utils.experiment import experiment, run_script
from speechbrain_wavjepa.utils.files import fingerprint, is_made

logger = logging.getLogger(__name__)

TABLE = "results.tsv"


def probe_dataset(dataset, content, output, hparams, made_with, device):
    """Embed a data set, train its probes and write its scores."""
    start, name = time.perf_counter(), dataset.name
    encoder = hparams["encoder"].to(device).eval()
    if hparams.get("pad_to_max_seconds"):
        encoder.pad_to_seconds = READERS[name].max_seconds
    embeddings = embed_dataset(
        dataset,
        lambda clip: encoder.embed(clip.to(device))[:, 0],
        encoder.sample_rate,
        fingerprint(hash_encoder_settings(made_with), content),
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
    results["time"] = time.perf_counter() - start
    results["made_with"] = made_with
    (output / ARCH_SCORES).write_text(json.dumps(results, indent=4))


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
                cells += [score["mean"], score["std"]]
            rows.append("\t".join(map(str, cells)))
    (folder / TABLE).write_text("\n".join(rows) + "\n")


def show(name, output):
    """Print the figure of a data set, and what must be known of it."""
    results = json.loads((output / ARCH_SCORES).read_text())
    score = read_score(output / ARCH_SCORES).percent
    print(f"{name:<18} {score:<11} {results['main_score']}")
    for note in results["notes"]:
        print(f"{'':<18} {note}")


def probe_datasets(datasets, hparams, made_with, device):
    """Probe data sets, print their scores; 1 if one could not be done."""
    output_folder, failed = Path(hparams["output_folder"]), []
    for name, folder in datasets.items():
        output = output_folder / name
        try:
            dataset = read_dataset(name, folder, **read_options(name, hparams))
            content = fingerprint_dataset(dataset)
            if not is_made(output, content):
                with finish(output, content) as aside:
                    probe_dataset(
                        dataset, content, aside, hparams, made_with, device
                    )
            show(name, output)
        except (OSError, ValueError) as error:
            print(f"{name:<18} error: {error}", file=sys.stderr)
            failed.append(name)
            continue
        write_table(hparams)
    print(f"Scores, their table and embeddings: {output_folder}")
    if failed:
        print(f"Not done: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main():
    """Check everything, then probe the data sets."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    settings, overrides = name_run(
        hparams_file, overrides, "data_folder", hash_model
    )
    datasets = find_datasets(
        settings["data_folder"], settings["dataset"], settings["folders"]
    )
    hparams = build(hparams_file, overrides)
    check_settings(hparams["probe_settings"])
    check_numbers(hparams, repetitions=1, num_workers=0, max_bad_fraction=0.0)
    device = find_device(run_opts.get("device"))
    made_with = list_settings(settings, hparams["encoder_key"])
    with experiment(
        hparams["output_folder"], hparams_file, overrides, made_with
    ):
        return probe_datasets(datasets, hparams, made_with, device)


if __name__ == "__main__":
    sys.exit(run_script(main))
