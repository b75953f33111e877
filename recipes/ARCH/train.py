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
from speechbrain_wavjepa.downstream.arch.readers import READERS, read_dataset
from speechbrain_wavjepa.downstream.finished import is_finished, mark_finished

logger = logging.getLogger(__name__)

SCORES = "arch-scores.json"
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
        logger.warning(f"{name}: {note}")
    results["unreadable"] = list(embeddings.unreadable.values())
    output = Path(hparams["output_folder"]) / name
    output.mkdir(parents=True, exist_ok=True)
    (output / SCORES).write_text(json.dumps(results, indent=4))
    seconds = {"time": time.perf_counter() - start}
    mark_finished(output, name_encoder(hparams), seconds)  # the last file


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
        path = folder / name / SCORES
        if path.exists():
            scores = json.loads(path.read_text())["scores"].values()
            cells = [hparams["model_name"], num_parameters, True, name]
            for score in scores:
                cells += [score["mean"], score["deviation"]]
            rows.append("\t".join(map(str, cells)))
    (folder / TABLE).write_text("\n".join(rows) + "\n")


def main():
    """Probe the data sets, print their scores."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    datasets = find_datasets(
        hparams["data_folder"], hparams["dataset"], hparams["folders"]
    )
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device = run_opts.get("device") or "cpu"
    for name, folder in datasets.items():
        output = Path(hparams["output_folder"]) / name
        if not is_finished(output, name_encoder(hparams)):
            probe_dataset(name, folder, hparams, device)
        results = json.loads((output / SCORES).read_text())
        score = results["scores"][results["main_score"]]
        spread = ""
        if hparams["repetitions"] > 1:
            spread = f" ± {100 * score['deviation']:.1f}"
        print(
            f"{name:<18} {100 * score['mean']:5.1f}{spread}  "
            f"{results['main_score']}"
        )
    write_table(hparams)
    print(f"Scores, their table and embeddings: {hparams['output_folder']}")


if __name__ == "__main__":
    main()
