"""What the Brain of the fine-tuning recipe does, step by step."""

import copy
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import DropChunk, DropFreq
from speechbrain.utils.autocast import AMPConfig
from task_writer import (
    LabelledFile,
    write_task,
)

from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.hear_task import Run
from speechbrain_wavjepa.inference import MultilabelClassifier, load_pretrained

RECIPE = Path(__file__).parents[2] / "recipes" / "HEAR" / "fine_tuning"


@pytest.fixture(scope="module")
def recipe():
    path = RECIPE / "train.py"
    spec = importlib.util.spec_from_file_location("fine_tuning_recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def events(tmp_path):
    """A task of two training clips of 1 s and 0.5 s, and its clips."""
    random, files = np.random.default_rng(0), []
    for number, split in enumerate(("train", "train", "valid", "test")):
        path = tmp_path / f"{number}.wav"
        length = (16000, 8000)[number % 2]
        soundfile.write(path, 0.1 * random.standard_normal(length), 16000)
        labels = [("dog", 100.0, 300.0), ("cat", 200.0 * number, 400.0)]
        files.append(LabelledFile(path, labels, split))
    write_task(tmp_path / "task", files, "pets")
    return HearTask(tmp_path / "task")


@pytest.fixture
def brain(events, pretrained_folder):
    """What compute_forward and init_optimizers need of a Brain."""
    encoder = load_pretrained(pretrained_folder, layer_weights=True)
    encoder.requires_grad_(True)
    return SimpleNamespace(
        device="cpu",
        hparams=SimpleNamespace(
            hear_task=events,
            mixup_alpha=0.5,
            lr=1.0,
            classifier_lr=7.0,
            layer_decay=0.5,
            freeze_frontend=True,
        ),
        modules=SimpleNamespace(
            encoder=encoder, classifier=MultilabelClassifier(16, 2)
        ),
        augment=lambda wavs, wav_lens: (wavs, wav_lens),
        draw_mix=lambda num_clips: (0.75, torch.tensor([1, 0])),
        optimizer_step=3,
        opt_class=torch.optim.SGD,
        checkpointer=SimpleNamespace(add_recoverable=lambda *_: None),
    )


def make_batch(recipe, events, splits):
    """A batch of all clips of some splits."""
    settings = {"hear_task": events, "hear_run": Run(splits, "valid", "test")}
    settings |= {"train_dataloader_opts": {}, "valid_dataloader_opts": {}}
    train, _, _ = recipe.dataio_prepare(settings)
    return recipe.collate_clips(list(train))


def stack_targets(events, batch, times):
    places = zip(batch.split, batch.name)
    targets = [events.targets(split, name, times) for split, name in places]
    return torch.from_numpy(np.stack(targets))


def test_clips_and_targets_of_events(recipe, events):
    batch = make_batch(recipe, events, ["train", "test"])
    wavs, wav_lens = batch.sig
    assert wavs.shape == (3, 16000, 1)
    assert wav_lens.tolist() == [1.0, 0.5, 0.5]
    assert not wavs[1, 8000:].any()
    times = np.array([99.0, 100.0, 250.0, 301.0, 399.0, 401.0])
    targets = stack_targets(events, batch, times)
    assert events.labels == ["cat", "dog"]
    assert targets[0].T.tolist() == [[1, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]]
    assert targets[1].T.tolist() == [[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]]


def test_clips_of_other_channels_are_refused(recipe):
    examples = [
        {"id": f"train/{channels}.wav", "sig": torch.zeros(8, channels)}
        for channels in (1, 2)
    ]
    with pytest.raises(ValueError, match=r"with \[1, 2\] channels are in one"):
        recipe.collate_clips(examples)


def test_tokens_are_mixed_with_their_targets(recipe, brain, events):
    batch = make_batch(recipe, events, ["train"])
    forward = recipe.FineTuneBrain.compute_forward
    logits, targets, times, counts = forward(brain, batch, sb.Stage.TRAIN)
    encoder, classifier = brain.modules.encoder, brain.modules.classifier
    levelled = encoder.mean_var_norm(*batch.sig)
    mixed = 0.75 * levelled + 0.25 * levelled.flip(0)
    tokens = encoder.embedding_model.tokens(mixed)[0]
    # the shorter clip is as long as the one that was added to it
    assert counts == [99, 99] and len(times) == 99
    torch.testing.assert_close(logits, classifier.linear(tokens).flatten(0, 1))
    alone = stack_targets(events, batch, times)
    expected = 0.75 * alone + 0.25 * alone.flip(0)
    assert torch.equal(targets, expected.flatten(0, 1))
    assert set(targets.unique().tolist()) == {0.0, 0.25, 0.75, 1.0}

    brain.hparams.mixup_alpha = 0
    for stage in (sb.Stage.TRAIN, sb.Stage.VALID):
        logits, targets, _, counts = forward(brain, batch, stage)
        assert counts == [99, 49] and len(logits) == len(targets) == 148
        assert torch.equal(targets, torch.cat([alone[0], alone[1, :49]]))


@pytest.mark.parametrize("prediction_type", ["multiclass", "multilabel"])
def test_a_loss_that_is_not_finite(recipe, brain, prediction_type):
    brain.hparams.hear_task.prediction_type = prediction_type
    targets, objective = torch.eye(2), recipe.FineTuneBrain.compute_objectives
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    predictions = logits, targets, None, [1, 1]
    loss = objective(brain, predictions, None, sb.Stage.TRAIN)
    if prediction_type == "multiclass":
        expected = torch.nn.functional.cross_entropy(logits, torch.arange(2))
    else:
        likely = logits.mul(2 * targets - 1).sigmoid()
        expected = -likely.log().mean()
    torch.testing.assert_close(loss, expected)
    logits[1, 0] = torch.nan
    with pytest.raises(ValueError, match="loss is nan after 3 steps: lower lr"):
        objective(brain, predictions, None, sb.Stage.TRAIN)


def test_a_step_obeys_the_precision(recipe, brain, events):
    """Activations and gradients inside the encoder are of half precision."""
    embedding = brain.modules.encoder.embedding_model
    embedding.freeze = False
    projection = embedding.model.context_encoder.layers[0].mlp[0]
    classifier = copy.deepcopy(brain.modules.classifier.state_dict())
    settings = {"warmup_steps": 4, "total_steps": 9, "mixup_alpha": 0}
    losses, found = {}, set()

    def note(module, inputs, output):
        found.add(output.dtype)
        output.register_hook(lambda gradient: found.add(gradient.dtype))

    projection.register_forward_hook(note)
    state = copy.deepcopy(brain.modules.encoder.state_dict())
    for precision in ("fp32", "bf16"):
        brain.modules.encoder.load_state_dict(state)
        brain.modules.classifier.load_state_dict(classifier)
        found.clear()
        trainer = recipe.FineTuneBrain(
            vars(brain.modules),
            torch.optim.SGD,
            {**vars(brain.hparams), **settings},
            {"precision": precision, "device": "cpu"},
        )
        trainer.augment = brain.augment
        trainer.checkpointer = brain.checkpointer
        trainer.init_optimizers()
        batch = make_batch(recipe, events, ["train"])
        losses[precision] = trainer.fit_batch(batch)
        assert trainer.optimizer_step == 1
        expected = AMPConfig.from_name(precision).dtype
        assert found == {expected}
    assert losses["bf16"].dtype == torch.float32
    exact, near = losses["fp32"].item(), losses["bf16"].item()
    assert near != exact and near == pytest.approx(exact, rel=0.02)


def test_learning_rates(recipe, brain):
    recipe.FineTuneBrain.init_optimizers(brain)
    rates = {
        parameter: group["lr"]
        for group in brain.optimizer.param_groups
        for parameter in group["params"]
    }
    encoder = brain.modules.encoder.embedding_model
    model = encoder.model.context_encoder
    assert rates[brain.modules.classifier.linear.weight] == 7
    assert rates[encoder.layer_sum.weights] == 7
    assert rates[model.norm.weight] == 1
    assert {rates[p] for p in model.layers[1].parameters()} == {1}
    assert {rates[p] for p in model.layers[0].parameters()} == {0.5}
    assert rates[encoder.model.token_norm.weight] == 0.25
    frontend = list(encoder.model.frontend.parameters())
    assert not any(p in rates or p.requires_grad for p in frontend)


def test_all_gradients_are_clipped_together(recipe, brain):
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    brain.optimizer = torch.optim.SGD([{"params": [w]} for w in weights], lr=1)
    brain.scaler = torch.amp.GradScaler("cpu", enabled=False)
    brain.max_grad_norm = 1.0
    for weight, value in zip(weights, (3.0, 4.0)):
        weight.grad = torch.tensor([value, 0.0])
    recipe.FineTuneBrain.optimizers_step(brain)
    moved = [weight[0].item() for weight in weights]
    assert moved == pytest.approx([-0.6, -0.8], abs=1e-5)
    assert brain.optimizer_step == 4
    weights[1].grad = torch.tensor([torch.nan, 0.0])
    with pytest.raises(ValueError, match="norm is nan after 4 steps: lower lr"):
        recipe.FineTuneBrain.optimizers_step(brain)
    assert weights[0][0].item() == pytest.approx(-0.6, abs=1e-5)


def test_dropped_frequencies_do_not_mix_the_ears(recipe, brain):
    brain.hparams.augmentation = Augmenter(augmentations=[DropFreq()])
    wavs = torch.randn(2, 1000, 2)
    wavs[0, :, 1] = 0
    lengths = torch.tensor([1.0, 0.5])
    torch.manual_seed(0)
    both, same = recipe.FineTuneBrain.augment(brain, wavs, lengths)
    torch.manual_seed(0)
    left, _ = brain.hparams.augmentation(wavs[:, :, 0], lengths)
    assert torch.equal(same, lengths)
    assert not both[0, :, 1].any()
    torch.testing.assert_close(both[:, :, 0], left)
    assert (left - wavs[:, :, 0]).abs().max() > 0.01


def test_both_ears_lose_the_same_parts(recipe, brain):
    drop = DropChunk(10, 200, drop_count_low=1, drop_count_high=5)
    brain.hparams.augmentation = Augmenter(
        augment_prob=0.5, augmentations=[drop]
    )
    lengths, found = torch.tensor([1.0, 1.0, 0.5]), []
    for _ in range(40):
        wavs = torch.randn(3, 1000, 2)
        wavs, _ = recipe.FineTuneBrain.augment(brain, wavs, lengths)
        left, right = (wavs == 0).unbind(dim=2)
        assert torch.equal(left, right)
        found.append(tuple(left.sum(dim=1).tolist()))
    assert len(set(found)) > 2  # others in each batch, and none in some


def test_the_best_epoch_has_the_lower_loss_of_equal_scores(recipe):
    metas = [
        {"score": 0.5, "loss": 2.0},
        {"score": 0.5, "loss": 1.0},
        {"score": float("-inf"), "loss": 0.1},
        {},
    ]
    checkpoints = [SimpleNamespace(meta=meta) for meta in metas]
    assert max(checkpoints, key=recipe.rank).meta == metas[1]
    assert min(checkpoints, key=recipe.rank).meta == {}


def test_nothing_is_saved_in_a_folder_that_another_run_made(
    recipe, brain, events
):
    def refuse():
        raise OSError("out was removed during the run")

    brain.hparams.hear_run = Run(["train"], "valid", "test")
    brain.hparams.train_logger = SimpleNamespace(log_stats=lambda **_: None)
    brain.hparams.check_folder = refuse
    brain.names, brain.counts = list(events.clips["valid"]), [3]
    brain.logits, brain.times = [torch.zeros(3, 2)], [np.arange(3) * 100.0]
    brain.train_loss = 1.0
    saved = []
    brain.checkpointer.save_and_keep_only = lambda *_, **__: saved.append(1)
    with pytest.raises(OSError, match="out was removed"):
        recipe.FineTuneBrain.on_stage_end(brain, sb.Stage.VALID, 1.0, 1)
    assert not saved
    brain.hparams.check_folder = lambda: None
    recipe.FineTuneBrain.on_stage_end(brain, sb.Stage.VALID, 1.0, 1)
    assert saved


def test_nothing_was_trained(recipe, brain):
    brain.checkpointer.recover_if_possible = lambda *_: None
    with pytest.raises(ValueError, match="No epoch was trained"):
        recipe.FineTuneBrain.on_evaluate_start(brain)


@pytest.mark.parametrize(
    ("task", "run", "message"),
    [
        ("nowhere", 0, "has no task 'nowhere': it has .*'task'"),
        ("task", 1, "has the runs 0 to 0, got run=1"),
        ("task", -1, "has the runs 0 to 0, got run=-1"),
        ("task", "first", "got run=first"),
        ("../task", 0, "cannot be a name"),
    ],
)
def test_a_task_or_run_that_is_not_there(recipe, events, task, run, message):
    settings = {
        "tasks_dir": events.folder.parent,
        "task": task,
        "run": run,
    }
    with pytest.raises(ValueError, match=message):
        recipe.read_task(settings, 16000)


def test_a_task_without_a_split(recipe, events):
    path = events.folder / "task_metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "splits": ["train", "test"]}))
    settings = {
        "tasks_dir": events.folder.parent,
        "task": "task",
        "run": 0,
    }
    with pytest.raises(ValueError, match=r"lacks the splits \['valid'\]"):
        recipe.read_task(settings, 16000)
