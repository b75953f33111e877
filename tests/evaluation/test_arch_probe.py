"""The probe of ARCH and its figures."""

import math
import os

import arch_factory
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from speechbrain_wavjepa.evaluation import (
    ArchDataset,
    ProbeSettings,
    evaluate_dataset,
)
from speechbrain_wavjepa.evaluation.arch import schedule_factor, train_probe
from speechbrain_wavjepa.evaluation.arch_dataset import (
    ArchRun,
    multi_hot,
    one_hot,
)
from speechbrain_wavjepa.evaluation.embeddings import (
    ClipEmbeddings,
    embed_dataset,
    read_mono,
)
from speechbrain_wavjepa.evaluation.probes import Rows

CLIPS = list(range(60))
RUN = ArchRun("test", CLIPS[:30], CLIPS[30:40], CLIPS[40:])


def make_rows(num_rows, num_labels=3, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_rows) % num_labels
    embeddings = torch.randn(num_rows, dim, generator=generator)
    embeddings[:, :num_labels] += 4 * torch.eye(num_labels)[labels]
    return Rows(embeddings, torch.eye(num_labels)[labels])


def test_the_schedule_of_four_batches_and_twenty_epochs():
    used = [step + step // 4 for step in range(80)]  # one more an epoch
    factors = [schedule_factor(counter, 80) for counter in used]
    assert factors[:5] == [0, 0.125, 0.25, 0.375, 0.625]
    assert max(factors) == 1 and factors[63] > 0
    assert factors[64:] == [0] * 16


def test_a_schedule_of_a_few_steps():
    assert [schedule_factor(step, 4) for step in range(5)] == pytest.approx(
        [0, 1, 2 / 3, 1 / 3, 0]
    )


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("extra", [True, False])
def test_training_equals_torch_s_own_scheduler(multilabel, extra):
    rows = make_rows(21)
    settings = ProbeSettings(
        epochs=6, batch_size=8, lr=0.01, extra_step_per_epoch=extra
    )
    found = train_probe(rows, rows, multilabel, settings, seed=3)

    torch.manual_seed(3)
    probe = nn.Linear(6, 3)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.01)
    warm = math.floor(0.1 * 18)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: i / warm if i <= warm else max(0, 1 - (i - warm) / 17),
    )
    loss_of = nn.BCELoss() if multilabel else nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        for some in torch.randperm(21, generator=generator).split(8):
            logits, targets = probe(rows.embeddings[some]), rows.targets[some]
            if multilabel:
                loss = loss_of(logits.sigmoid(), targets)
            else:
                loss = loss_of(logits, targets.argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        if extra:
            scheduler.step()
    torch.testing.assert_close(found.weight, probe.weight)
    torch.testing.assert_close(found.bias, probe.bias)


def test_the_last_epoch_is_tested_unless_the_best_is_asked_for():
    train = make_rows(24)
    wrong = Rows(train.embeddings, train.targets.roll(1, 1))
    probes = {
        selection: train_probe(
            train,
            wrong,
            False,
            ProbeSettings(epochs=20, lr=0.05, selection=selection),
        )
        for selection in ("last", "best")
    }
    losses = {
        name: nn.functional.cross_entropy(
            probe(wrong.embeddings), wrong.targets.argmax(1)
        )
        for name, probe in probes.items()
    }
    assert losses["best"] < losses["last"] - 0.5


def test_a_probe_with_a_hidden_layer():
    rows = make_rows(48)
    settings = ProbeSettings(probe="non_linear", lr=0.01, epochs=50)
    probe = train_probe(rows, rows, False, settings)
    assert probe[0].weight.shape == (6, 6) and probe[1].p == 0.1
    right = probe(rows.embeddings).argmax(1) == rows.targets.argmax(1)
    assert right.float().mean() > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probe": "attention"}, "probe='attention' must be one of"),
        ({"selection": "first"}, "selection='first' must be one of"),
        ({"epochs": 0}, "epochs=0 must be an integer above 0"),
        ({"batch_size": 1.5}, "batch_size=1.5 must be an integer above 0"),
        ({"lr": "abc"}, "lr='abc' must be a number above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    rows = make_rows(6)
    with pytest.raises(ValueError, match=message):
        train_probe(rows, rows, False, ProbeSettings(**settings))


def make_dataset(tmp_path, multilabel=False):
    """Sixty clips of two kinds; their files do not matter here."""
    labels = ["low", "high", "never"]
    if multilabel:
        targets = multi_hot([[labels[clip % 2]] for clip in CLIPS], labels)
    else:
        targets = one_hot([clip % 2 for clip in CLIPS], 3)
    paths = [tmp_path / f"{clip}.wav" for clip in CLIPS]
    return ArchDataset("tones", paths, targets, labels, multilabel, [RUN], [])


def test_labels_stay_with_their_clips_when_one_is_unreadable(tmp_path):
    dataset = make_dataset(tmp_path, multilabel=True)
    embeddings = ClipEmbeddings(dataset.targets, {0: "a", 41: "b"})
    found = evaluate_dataset(dataset, embeddings, ProbeSettings(lr=0.05))
    (run,) = found["runs"]
    assert (run["num_train"], run["num_test"]) == (29, 19)
    # two of the three labels are found without fault, one is never there
    assert found["scores"]["map_macro"]["mean"] == pytest.approx(2 / 3)
    assert found["scores"]["map_weighted"]["mean"] == pytest.approx(1)
    assert found["notes"] == [
        "2 of 60 clips could not be read and are left out.",
        "1 labels have no clip in test and count 0 in map_macro: never.",
    ]


def test_the_std_is_over_repetitions(tmp_path):
    noise = np.random.default_rng(0).standard_normal((60, 4))
    found = evaluate_dataset(
        make_dataset(tmp_path),
        ClipEmbeddings(noise, {}),
        ProbeSettings(epochs=3),
        repetitions=3,
    )
    accuracies = [run["scores"]["accuracy"] for run in found["runs"]]
    assert len(set(accuracies)) > 1
    assert found["scores"]["accuracy"]["mean"] == np.mean(accuracies)
    assert found["scores"]["accuracy"]["std"] == np.std(accuracies)


def write_tones(dataset):
    for clip, path in enumerate(dataset.paths):
        arch_factory.write_clip(path, clip % 2)


def two_bands(clip):
    """The power of clips [1, T] below and above 600 Hz."""
    power = torch.fft.rfft(clip).abs().square()
    return torch.stack([power[:, :60].sum(1), power[:, 60:].sum(1)], 1)


def test_embeddings_are_kept_and_belong_to_a_model_and_its_clips(tmp_path):
    dataset = make_dataset(tmp_path)
    write_tones(dataset)
    first = embed_dataset(dataset, two_bands, 16000, "a", tmp_path / "kept")
    again = embed_dataset(dataset, None, 16000, "a", tmp_path / "kept")
    np.testing.assert_array_equal(first.rows, again.rows)
    assert isinstance(again.rows, np.memmap)
    other = embed_dataset(
        dataset, lambda clip: -two_bands(clip), 16000, "b", tmp_path / "kept"
    )
    np.testing.assert_array_equal(first.rows, -other.rows)
    fewer = dataset._replace(paths=dataset.paths[1:])
    with pytest.raises(ValueError, match="embeddings of other clips"):
        embed_dataset(fewer, two_bands, 16000, "a", tmp_path / "kept")
    scores = evaluate_dataset(dataset, first, ProbeSettings())["scores"]
    assert scores["accuracy"]["mean"] == 1


def test_broken_clips_are_left_out_up_to_a_limit(tmp_path):
    dataset = make_dataset(tmp_path)
    write_tones(dataset)
    dataset.paths[3].write_bytes(b"no sound")
    soundfile.write(dataset.paths[5], np.zeros(0), 16000)
    dataset.paths[7].unlink()
    found = embed_dataset(dataset, two_bands, 16000, "a", tmp_path / "kept")
    assert sorted(found.unreadable) == [3, 5, 7]
    by_worker = embed_dataset(
        dataset, two_bands, 16000, "worker", tmp_path / "kept", num_workers=1
    )
    assert by_worker.unreadable == found.unreadable
    np.testing.assert_array_equal(by_worker.rows, found.rows)
    assert "5.wav is empty" in found.unreadable[5]
    assert not found.rows[3].any() and found.rows[4].any()
    read = []

    def count(clip):
        read.append(clip)
        return two_bands(clip)

    with pytest.raises(ValueError, match="3 or more of 60 clips cannot be"):
        embed_dataset(dataset, count, 16000, "b", tmp_path, 0.04)
    assert len(read) == 5  # no more than is needed to know it
    with pytest.raises(ValueError, match="3 or more of 60 clips cannot be"):
        embed_dataset(dataset, None, 16000, "a", tmp_path / "kept", 0.04)
    with pytest.raises(ValueError, match="1 of 60 clips of tones are not the"):
        embed_dataset(dataset, None, 16000, "c", tmp_path, 0.01)


def test_a_pipe_and_a_name_without_a_format_are_no_clips(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.ones(80), 16000)
    (tmp_path / "b.wav").rename(tmp_path / "b.raw")
    for name in ("a.wav", "b.raw"):
        with pytest.raises(ValueError, match=f"{name} (is no regular|cannot)"):
            read_mono(tmp_path / name, 16000)


def test_a_clip_that_has_no_token_is_left_out(tmp_path):
    dataset = make_dataset(tmp_path)
    write_tones(dataset)
    soundfile.write(dataset.paths[9], np.ones(8), 16000)

    def embed(clip):
        if clip.shape[1] < 100:
            raise ValueError("shorter than a token")
        return two_bands(clip)

    found = embed_dataset(dataset, embed, 16000, "a", tmp_path / "kept")
    assert found.unreadable == {
        9: "9.wav cannot be embedded: shorter than a token"
    }


def test_a_data_set_may_be_moved(tmp_path):
    dataset = make_dataset(tmp_path / "here")
    write_tones(dataset)
    first = embed_dataset(dataset, two_bands, 16000, "a", tmp_path / "kept")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = make_dataset(tmp_path / "there")
    again = embed_dataset(moved, None, 16000, "a", tmp_path / "kept")
    np.testing.assert_array_equal(first.rows, again.rows)


def test_an_embedding_that_is_not_finite_names_the_clip(tmp_path):
    dataset = make_dataset(tmp_path)
    write_tones(dataset)
    with pytest.raises(ValueError, match="0.wav holds NaN or Inf"):
        embed_dataset(
            dataset, lambda clip: clip[:, :2] * torch.inf, 16000, "a", tmp_path
        )
    assert not (tmp_path / "tones" / "a").exists()


def test_channels_are_averaged_after_resampling(tmp_path):
    path = tmp_path / "stereo.wav"
    time = np.arange(44100) / 44100
    left = 0.5 * np.sin(2 * np.pi * 440 * time)
    right = 0.25 * np.sin(2 * np.pi * 880 * time)
    soundfile.write(path, np.stack([left, right], 1), 44100, subtype="FLOAT")
    clip = read_mono(path, 16000).numpy()
    time = np.arange(16000) / 16000
    wanted = np.sin(2 * np.pi * 440 * time) / 4
    wanted += np.sin(2 * np.pi * 880 * time) / 8
    assert len(clip) == 16000
    np.testing.assert_allclose(clip[200:-200], wanted[200:-200], atol=2e-3)
