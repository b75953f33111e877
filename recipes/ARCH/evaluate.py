"""Linear probes on frozen embeddings, by the protocol of ARCH.

Every data set is embedded once and its probes trained; a suite that was
stopped resumes with the next data set.

    python evaluate.py hparams/arch.yaml --data_folder DIR --dataset esc50 \
        --pretrained FOLDER

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import json
import logging
import sys
import time
from pathlib import Path

import speechbrain as sb
from arch_datasets import READERS, read_dataset
from arch_prepare import find_datasets, read_options

from speechbrain_wavjepa.evaluation import evaluate_dataset
from speechbrain_wavjepa.evaluation.arch_dataset import fingerprint_dataset
from speechbrain_wavjepa.evaluation.embeddings import embed_dataset
from speechbrain_wavjepa.evaluation.report import ARCH_SCORES, read_score
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
from speechbrain_wavjepa.utils.experiment import build, experiment, run_script
from speechbrain_wavjepa.utils.files import fingerprint

logger = logging.getLogger(__name__)

TABLE = "results.tsv"


def probe_dataset(
    dataset, content, encoder, hparams, made_with, device, output
):
    """Embed a data set, train its probes and write its scores."""
    start, name = time.perf_counter(), dataset.name
    if hparams["encoder"] == "hugging_face" and hparams["pad_to_max_seconds"]:
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


def write_table(encoder, hparams):
    """Write a row for each finished data set, with the columns of ARCH."""
    folder = Path(hparams["output_folder"])
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


def main():
    """Check everything, then probe the data sets."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    if "precision" in run_opts.overridden_args:
        raise ValueError("ARCH trains probes in fp32: leave --precision out.")
    settings, overrides = name_run(hparams_file, overrides, "data_folder")
    datasets = find_datasets(
        settings["data_folder"], settings["dataset"], settings["folders"]
    )
    hparams = build(hparams_file, overrides)
    hparams["probe_settings"].check()
    check_numbers(hparams, repetitions=1, num_workers=0, max_bad_fraction=0.0)
    device = find_device(run_opts.get("device"))
    encoder = load_encoder(hparams["encoders"], hparams["encoder"]).to(device)
    is_of_hub = hparams["encoder"] == "hugging_face"
    key = hash_encoder(encoder) if is_of_hub else None
    made_with = list_settings(settings, key)

    def open_dataset(name, folder):
        dataset = read_dataset(name, folder, **read_options(name, hparams))
        content = fingerprint_dataset(dataset)
        return content, functools.partial(
            probe_dataset, dataset, content, encoder, hparams, made_with, device
        )

    def show(name, output):
        write_table(encoder, hparams)
        results = json.loads((output / ARCH_SCORES).read_text())
        score = read_score(output / ARCH_SCORES).percent
        line = f"{score:<11} {results['main_score']}"
        return "\n".join([line, *(f"    {note}" for note in results["notes"])])

    with experiment(
        hparams["output_folder"], hparams_file, overrides, made_with
    ):
        return run_suite(datasets, hparams["output_folder"], open_dataset, show)


if __name__ == "__main__":
    sys.exit(run_script(main))
