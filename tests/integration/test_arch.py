"""The recipe of ARCH through its command lines."""

import functools
import json

import arch_factory
import numpy as np
import pytest
from recipe_run import read_files, run_script

run = functools.partial(run_script, "ARCH")


@pytest.fixture
def data(tmp_path):
    """Two of the data sets."""
    folder = tmp_path / "data"
    arch_factory.write_esc50(folder / "ESC-50-master")
    arch_factory.write_fsd50k(folder / "FSD50K")
    return folder


def test_a_suite_goes_on_where_it_was(data, pretrained_folder, tmp_path):
    output = tmp_path / "scores"
    command = [
        "evaluate.py",
        "hparams/arch.yaml",
        f"--data_folder={data}",
        f"--pretrained={pretrained_folder}",
        f"--output_folder={output}",
        "--lr=0.05",
        "--num_workers=0",
    ]
    printed = run(*command, "--dataset=esc50")
    results = json.loads((output / "esc50" / "arch-scores.json").read_text())
    assert results["main_score"] == "accuracy"
    assert len(results["runs"]) == 5
    accuracy = results["scores"]["accuracy"]["mean"]
    assert accuracy > 0.8  # a low and a high tone
    assert f"esc50 {100 * accuracy:<11.1f} accuracy" in printed

    done = output / "esc50" / "arch-scores.json"
    time = done.stat().st_mtime_ns
    (data / "FSD50K" / "FSD50K.dev_audio" / "1.wav").write_bytes(b"")
    printed = run(*command, "--max_bad_fraction=0.2")
    assert done.stat().st_mtime_ns == time
    assert "Not in" in printed and "us8k" in printed
    results = json.loads((output / "fsd50k" / "arch-scores.json").read_text())
    assert results["main_score"] == "map_macro"
    assert "1.wav is empty" in results["unreadable"][0]

    rows = (output / "results.tsv").read_text().splitlines()
    cells = [row.split("\t") for row in rows]
    assert [row[3] for row in cells] == ["esc50", "fsd50k"]
    assert [len(row) for row in cells] == [8, 8]
    assert cells[0][0].startswith("tiny-") and cells[0][2] == "True"
    assert float(cells[0][4]) == accuracy and float(cells[0][5]) == 0

    before = read_files(output)
    others = ("--random_weights=True", "--repetitions=2", "--epochs=9")
    printed = run(*command, *others, code=1)
    lines = printed.splitlines()
    (line,) = (line for line in lines if line.startswith("error:"))
    assert f"{output} was made with " in line and len(lines) == 2
    for option in others:
        assert "{}={}".format(*option[2:].split("=")) in line
    assert read_files(output) == before

    arch_factory.write_clip(data / "ESC-50-master/audio/1-0-A-0.wav", 1, 44100)
    printed = run(*command, "--dataset=esc50", code=1)
    assert "esc50 error:" in printed
    assert f"{output / 'esc50'} was made with clips=" in printed


def test_a_broken_data_set_does_not_end_a_suite(
    data, pretrained_folder, tmp_path
):
    (data / "ESC-50-master" / "meta" / "esc50.csv").write_text("filename\n")
    command = [
        "evaluate.py",
        "hparams/arch.yaml",
        f"--data_folder={data}",
        f"--pretrained={pretrained_folder}",
        f"--output_folder={tmp_path / 'scores'}",
        "--epochs=2",
    ]
    printed = run(*command, code=1)
    assert "esc50  error:" in printed
    assert "8 clips; the whole data set has 51197." in printed
    assert "Not done: esc50" in printed
    table = (tmp_path / "scores" / "results.tsv").read_text()
    assert "fsd50k" in table
    printed = run(*command, "--probe=deep", code=1)
    assert "probe='deep' must be one of" in printed
    printed = run(*command, "--repetitions=0", code=1)
    assert "repetitions=0 must be an integer of 1 or more" in printed


def test_clips_of_one_length_for_an_encoder_of_the_hub(
    data, hugging_face_folder, tmp_path
):
    rows, seen = {}, set()
    for pad in (True, False):
        output = tmp_path / f"scores-{pad}"
        run(
            "evaluate.py",
            "hparams/arch.yaml",
            "--encoder=hugging_face",
            f"--data_folder={data}",
            "--dataset=fsd50k",
            f"--source={hugging_face_folder}",
            f"--pad_to_max_seconds={pad}",
            f"--output_folder={output}",
            f"--embeddings_folder={tmp_path / 'embeddings'}",
            "--epochs=2",
        )
        name = (output / "results.tsv").read_text().split("\t")[0]
        assert name == hugging_face_folder.name
        (new,) = {*(tmp_path / "embeddings" / "fsd50k").iterdir()} - seen
        rows[pad] = np.load(new / "rows.npy")
        seen.add(new)
    # a clip of 0.1 s is 1 % of 10 s
    assert np.abs(rows[True] - rows[False]).max() > 0.01
    assert np.ptp(rows[True], axis=0).max() < np.ptp(rows[False], axis=0).max()


def test_looking_at_the_data_first(data):
    printed = run("arch_prepare.py", data)
    assert "esc50                  40 clips of   2000     2 classes" in printed
    (data / "FSD50K" / "FSD50K.dev_audio" / "1.wav").unlink()
    assert "1 of its files are not there" in run("arch_prepare.py", data)
    (data / "ESC-50-master" / "meta" / "esc50.csv").unlink()
    printed = run("arch_prepare.py", data, code=1)
    assert "esc50              error:" in printed and "is missing" in printed


def test_a_folder_without_any_data_set(tmp_path):
    printed = run("arch_prepare.py", tmp_path, code=1)
    assert "has no folder ESC-50-master, UrbanSound8K" in printed
    assert "--folders '{esc50: NAME}'" in printed
    printed = run("arch_prepare.py", tmp_path, "--dataset=esc", code=1)
    assert "ARCH has no data set ['esc']" in printed
    folders = "--folders={us8k: city}"
    arch_factory.write_us8k(tmp_path / "city")
    printed = run("arch_prepare.py", tmp_path, "--dataset=us8k", folders)
    assert "20 clips of   8732" in printed


def test_a_precision_that_would_not_be_followed():
    options = ("--precision=bf16", "--data_folder=x", "--pretrained=x")
    printed = run("evaluate.py", "hparams/arch.yaml", *options, code=1)
    *_, line = printed.splitlines()
    assert line == "error: ARCH trains probes in fp32: leave --precision out."
