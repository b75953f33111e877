"""What a run of an evaluation recipe is called, and what it depends on."""

import functools
import shutil
from pathlib import Path

import pytest
import torch

from speechbrain_wavjepa.evaluation.runs import (
    check_numbers,
    hash_encoder_settings,
    list_settings,
    load_encoder,
    name_run,
    run_suite,
)
from speechbrain_wavjepa.inference import hash_model
from speechbrain_wavjepa.utils.experiment import build, override

RECIPES = Path(__file__).parents[2] / "recipes"
HEAR = RECIPES / "HEAR/linear_probe/hparams/hear.yaml"
ARCH = RECIPES / "ARCH/hparams/arch.yaml"
FINE_TUNE = RECIPES / "HEAR/fine_tuning/hparams/fine_tune.yaml"


def name(path, data_key, **given):
    """Name a run's output folder; return it and its settings."""
    settings, _ = name_run(path, override("", **given), data_key)
    return settings["output_folder"], settings


@pytest.mark.parametrize(
    ("path", "data_key", "start"),
    [
        (HEAR, "tasks_dir", "results/hear/"),
        (ARCH, "data_folder", "results/arch/"),
        (FINE_TUNE, "tasks_dir", "results/fine_tune/"),
    ],
)
def test_other_models_and_data_have_folders_of_their_own(
    pretrained_folder, binaural_folder, tmp_path, path, data_key, start
):
    """As the README's commands: in rooms, and with random weights."""
    model = tmp_path / "wavjepa {a}: b" / "pretrained"
    shutil.copytree(pretrained_folder, model)
    more = {"task": "esc50"} if path is FINE_TUNE else {}
    folders = {
        name(path, data_key, **{data_key: data, "pretrained": str(model)}, **x)[
            0
        ]
        for data, model, x in (
            ("tasks", pretrained_folder, more),
            ("nat_tasks/binaural", pretrained_folder, more),
            ("nat_tasks/omni/", pretrained_folder, more),
            ("tasks", binaural_folder, more),
            ("tasks", pretrained_folder, {"random_weights": True, **more}),
            ("tasks", model, more),
        )
    }
    assert len(folders) == 6
    digits = hash_model(pretrained_folder)[:8]
    for part in ("tasks", f"tiny-{digits}", f"tiny-{digits}-random"):
        assert any(part in Path(folder).parts for folder in folders)
    assert any(f"wavjepa {{a}}: b-{digits}" in folder for folder in folders)
    assert all(folder.startswith(start) for folder in folders)


def test_names_on_the_command_line_win(pretrained_folder):
    given = {"tasks_dir": "tasks", "pretrained": str(pretrained_folder)}
    folder, _ = name(HEAR, "tasks_dir", **given, model_name="a", data_name="b")
    assert folder == "results/hear/b/a"
    folder, settings = name(HEAR, "tasks_dir", **given, output_folder="c")
    assert folder == "c"
    assert settings["embeddings_folder"] == "c/embeddings"


def test_folders_that_end_in_dots_have_names(
    pretrained_folder, tmp_path, monkeypatch
):
    (tmp_path / "esc10" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "esc10" / "inside")
    model = shutil.copytree(pretrained_folder, tmp_path / "wavjepa")
    digits = hash_model(model)[:8]
    for data in ("..", f"{tmp_path}/esc10/inside/..", "../../esc10/."):
        for pretrained in ("../../wavjepa", "../../esc10/../wavjepa/."):
            given = {"tasks_dir": data, "pretrained": pretrained}
            folder, _ = name(HEAR, "tasks_dir", **given)
            assert folder == f"results/hear/esc10/wavjepa-{digits}"
    monkeypatch.chdir(model)
    folder, _ = name(HEAR, "tasks_dir", tasks_dir="a", pretrained="../wavjepa/")
    assert folder == f"results/hear/a/wavjepa-{digits}"
    (model / "inside").mkdir()
    monkeypatch.chdir(model / "inside")
    folder, _ = name(HEAR, "tasks_dir", tasks_dir="a", pretrained="..")
    assert folder == f"results/hear/a/wavjepa-{digits}"
    given = {"tasks_dir": "a", "encoder": "hugging_face", "source": ".."}
    folder, _ = name(HEAR, "tasks_dir", **given)
    assert folder == "results/hear/a/wavjepa"


def test_a_missing_setting_is_named_before_anything_is_built():
    with pytest.raises(ValueError, match="'tasks_dir' is a .* Give it on"):
        name(HEAR, "tasks_dir")
    with pytest.raises(ValueError, match="No model is given: --pretrained"):
        name(HEAR, "tasks_dir", tasks_dir="a", model_name="b")
    with pytest.raises(ValueError, match="nowhere has no hyperparams.yaml"):
        name(HEAR, "tasks_dir", tasks_dir="a", pretrained="nowhere")
    with pytest.raises(ValueError, match="encoder='mel' is none of .'pretr"):
        name(HEAR, "tasks_dir", tasks_dir="a", encoder="mel")


def test_an_option_that_is_given_twice():
    with pytest.raises(ValueError, match='line: found duplicate key "seed"'):
        name_run(HEAR, "seed: 1\nseed: 2", "tasks_dir")


def test_a_wrong_setting_is_a_user_s_error(pretrained_folder):
    given = override("", tasks_dir="a", pretrained=str(pretrained_folder))
    with pytest.raises(ValueError, match=r"setting sead, did .* .'seed'\]"):
        build(HEAR, override(given, sead=3))
    with pytest.raises(ValueError, match="seed_everything"):
        build(HEAR, override(given, seed="abc"))


@pytest.mark.parametrize(
    "change",
    [
        {"tasks_dir": "elsewhere"},
        {"task": "esc50"},
        {"output_folder": "elsewhere"},
        {"embeddings_folder": "elsewhere"},
        {"model_name": "another"},
    ],
)
def test_what_changes_nothing_in_a_figure_does_not_count(
    pretrained_folder, tmp_path, change
):
    moved = shutil.copytree(pretrained_folder, tmp_path / "moved")
    given = {"tasks_dir": "tasks", "pretrained": str(pretrained_folder)}
    _, first = name(HEAR, "tasks_dir", **given)
    given = {**given, "pretrained": str(moved), **change}
    _, second = name(HEAR, "tasks_dir", **given)
    assert list_settings(first, "0a") == list_settings(second, "0a")


@pytest.mark.parametrize(
    "change",
    [
        {"random_weights": True},
        {"seed": 1},
        {"learning_rates": [0.1]},
        {"num_points": None},
        {"neighbours": []},
        {"precision": "bf16"},
        {"encoders": {"pretrained": {"pooling": "max"}}},
    ],
)
def test_what_changes_a_figure_counts(pretrained_folder, change):
    given = {"tasks_dir": "tasks", "pretrained": str(pretrained_folder)}
    _, first = name(HEAR, "tasks_dir", **given)
    _, second = name(HEAR, "tasks_dir", **given, **change)
    first, second = (list_settings(x, "0a") for x in (first, second))
    assert first != second
    needs = {"random_weights", "encoders"} & set(change)
    keys = [hash_encoder_settings(settings) for settings in (first, second)]
    assert (keys[0] != keys[1]) == bool(needs)


@pytest.mark.parametrize(
    ("value", "low", "message"),
    [
        ("abc", 0.0, "lr='abc' must be a number of 0.0 or more"),
        (float("nan"), 0.0, "lr=nan must be a number"),
        (1.5, 1, "lr=1.5 must be an integer of 1 or more"),
        (True, 1, "lr=True must be an integer"),
        (None, 1, "lr=None must be an integer"),
    ],
)
def test_settings_that_are_no_numbers(value, low, message):
    with pytest.raises(ValueError, match=message):
        check_numbers({"lr": value}, lr=low)


def test_a_suite_names_what_fails_and_does_nothing_twice(tmp_path, capsys):
    evaluated = []

    def open_task(name, folder):
        if name == "broken":
            raise ValueError("no label")

        def evaluate(aside):
            evaluated.append(name)
            (aside / "score").write_text(folder)
            assert not (tmp_path / name).exists()

        return {"clips": folder}, evaluate

    def show(name, output):
        return (output / "score").read_text()

    folders = {"one": "1", "broken": "2", "last": "3"}
    for _ in range(2):
        assert run_suite(folders, tmp_path, open_task, show) == 1
        printed = capsys.readouterr()
        assert printed.out.splitlines()[:2] == ["one    1", "last   3"]
        assert printed.err == "broken error: no label\nNot done: broken\n"
    assert evaluated == ["one", "last"]
    assert run_suite({"one": "4"}, tmp_path, open_task, show) == 1
    assert "was made with clips=1, not clips=4" in capsys.readouterr().err


def test_a_wrong_argument_of_an_encoder_is_a_user_s_error():
    encoders = {"a": functools.partial(torch.nn.Linear, 2, 2, poling="max")}
    with pytest.raises(ValueError, match="encoder=a: .* argument 'poling'"):
        load_encoder(encoders, "a")
