"""Encoders of the hub in the recipe of HEAR probes."""

import json

import numpy as np
import soundfile
import torch
import transformers
from recipe_run import run_script


def probe(task_folder, source, output, *more, path=(), fails=False):
    """Run the recipe; return what it prints."""
    command = [
        "evaluate.py",
        "hparams/hear.yaml",
        "--encoder=hugging_face",
        f"--tasks_dir={task_folder.parent}",
        f"--source={source}",
        f"--output_folder={output}",
        "--num_points=1",
        "--neighbours=[1]",
        *more,
    ]
    return run_script("HEAR/linear_probe", *command, code=int(fails), path=path)


def test_probes_of_a_model(task_folder, hugging_face_folder, tmp_path):
    probe(task_folder, hugging_face_folder, tmp_path)
    output = tmp_path / task_folder.name
    results = json.loads((output / "test.predicted-scores.json").read_text())
    assert 0 <= results["test"]["test_score"] <= 1
    (folder,) = (tmp_path / "embeddings" / task_folder.name).glob("*/valid")
    rows = np.load(folder / "rows.npy")
    names = json.loads((folder / "clips.json").read_text())["names"]
    model = transformers.AutoModel.from_pretrained(hugging_face_folder).eval()
    for name, row in zip(names, rows):
        clip, _ = soundfile.read(
            task_folder / "16000" / "valid" / name, dtype="float32"
        )
        clip = torch.from_numpy((clip - clip.mean()) / clip.std())
        with torch.no_grad():
            expected = model(clip[None]).last_hidden_state.mean(dim=1)[0]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4)

    printed = probe(
        task_folder,
        hugging_face_folder,
        tmp_path,
        "--pad_to_seconds=1",
        fails=True,
    )
    assert "was made with encoder_key=" in printed
    assert "pad_to_seconds=1: go back to the former" in printed


def test_without_transformers(task_folder, hugging_face_folder, tmp_path):
    (tmp_path / "transformers.py").write_text(
        "raise ImportError('there is none')\n"
    )
    printed = probe(
        task_folder,
        hugging_face_folder,
        tmp_path / "output",
        path=[tmp_path],
        fails=True,
    )
    assert "pip install transformers" in printed
