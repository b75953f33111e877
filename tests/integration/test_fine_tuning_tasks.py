"""Fine-tuning on tags and events: the folder scores as the recipe did."""

import json

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score
from speechbrain.inference.classifiers import EncoderClassifier
from task_writer import (
    LabelledFile,
    write_task,
)
from test_fine_tuning import fine_tune

from speechbrain_wavjepa.evaluation import HearTask, find_events
from speechbrain_wavjepa.evaluation.events import event_f_measure
from speechbrain_wavjepa.inference.pretrained import read_weights

TONES = {"high": 3000, "low": 300}
COUNTS = {"train": 16, "valid": 8, "test": 8}


def make_tone(label, num_samples, random):
    times = np.arange(num_samples) / 16000
    phase = random.uniform(0, 2 * np.pi)
    return 0.3 * np.sin(2 * np.pi * TONES[label] * times + phase)


@pytest.fixture
def tags_folder(tmp_path):
    """Clips of two lengths with none, one or two tones."""
    random, files = np.random.default_rng(0), []
    for split, count in COUNTS.items():
        for number in range(count):
            length = (1600, 2400)[number % 2]
            clip = 0.01 * random.standard_normal(length)
            labels = [
                label for bit, label in enumerate(TONES) if number >> bit & 1
            ]
            for label in labels:
                clip += make_tone(label, length, random)
            path = tmp_path / f"{split}{number}.wav"
            soundfile.write(path, clip, 16000)
            labels = [(label, None, None) for label in labels]
            files.append(LabelledFile(path, labels, split))
    # in the first of them nothing is heard
    files = [file for file in files if file.labels]
    write_task(tmp_path / "tasks" / "tags-v1-full", files, "tags")
    return tmp_path / "tasks" / "tags-v1-full"


@pytest.fixture
def events_folder(tmp_path):
    """Clips of two lengths, in each one tone for a while."""
    random, files = np.random.default_rng(0), []
    for split, count in COUNTS.items():
        for number in range(count):
            length = (16000, 24000)[number % 2]
            label = list(TONES)[number // 2 % 2]
            clip = 0.03 * random.standard_normal(length)
            start = random.integers(1600, 6400)
            clip[start : start + 8000] += make_tone(label, 8000, random)
            path = tmp_path / f"{split}{number}.wav"
            soundfile.write(path, clip, 16000)
            event = (label, start / 16, start / 16 + 500)
            files.append(LabelledFile(path, [event], split))
    write_task(tmp_path / "tasks" / "beeps-v1-full", files, "beeps")
    return tmp_path / "tasks" / "beeps-v1-full"


def load(tmp_path):
    return EncoderClassifier.from_hparams(
        source=str(tmp_path / "out" / "pretrained"),
        savedir=str(tmp_path / "cache"),
    )


def read_results(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


FAST = ("--lr=0.01", "--classifier_lr=0.05", "--warmup_steps=5")


def test_tags(tags_folder, binaural_folder, tmp_path):
    options = (*FAST, "--number_of_epochs=4", "--layer_weights=True")
    fine_tune(tags_folder, binaural_folder, tmp_path / "out", *options)
    test = read_results(tmp_path)["test"]
    assert test["test_score"] == test["test_mAP"] > 0.5
    task, classifier = HearTask(tags_folder), load(tmp_path)
    scores, truth = [], []
    for name, labels in task.clips["test"].items():
        found, best, _, (label,) = classifier.classify_file(
            str(task.path("test", name))
        )
        assert found[0, task.labels.index(label)] == best == found.max()
        scores.append(found[0])
        truth.append([label in labels for label in task.labels])
    scores, truth = torch.stack(scores), np.array(truth)
    expected = average_precision_score(truth, scores.exp(), average="macro")
    assert test["test_score"] == pytest.approx(expected, abs=1e-6)
    probabilities = scores.double().exp().numpy()
    losses = np.where(truth, -np.log(probabilities), -np.log1p(-probabilities))
    assert test["test_loss"] == pytest.approx(losses.mean(), abs=1e-4)
    weights = read_weights(tmp_path / "out" / "pretrained" / "layer_sum.ckpt")
    assert weights["weights"].abs().max() > 0


def test_events(events_folder, pretrained_folder, tmp_path):
    options = (
        *FAST,
        "--number_of_epochs=10",
        "--mixup_alpha=0",
        "--freeze_frontend=False",
    )
    fine_tune(events_folder, pretrained_folder, tmp_path / "out", *options)
    results = read_results(tmp_path)
    test, choice = results["test"], dict(results["postprocessing"])
    assert set(choice) == {"median_filter_ms", "min_duration"}
    assert {"test_segment_1s_er", "validation_score", "epoch"} < set(test)
    task, classifier = HearTask(events_folder), load(tmp_path)
    found, losses = {}, []
    for name, events in task.clips["test"].items():
        clip = classifier.load_audio(str(task.path("test", name)))[None]
        output = classifier.mods.encoder(clip)
        scores = classifier.mods.classifier(output["embeddings"])
        probabilities = scores[0].exp().numpy()  # [N, L]
        times = 1000 * output["times"].numpy()
        (event,) = events
        on = (times >= event.start) & (times < event.end)
        truth = np.zeros(probabilities.shape, bool)
        truth[on, task.labels.index(event.label)] = True
        losses.append(
            -np.log(np.where(truth, probabilities, 1 - probabilities))
        )
        found[name] = find_events(probabilities, times, task.labels, **choice)
    # tokens of padding would move the mean
    assert len({len(loss) for loss in losses}) == 2
    expected = np.concatenate(losses).mean()
    assert test["test_loss"] == pytest.approx(expected, abs=1e-5)
    measures = event_f_measure(task.clips["test"], found)
    assert test["test_score"] == pytest.approx(measures["f_measure"])
    assert test["test_score"] > 0.25
