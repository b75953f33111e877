#!/usr/bin/env python3
r"""Fine-tune a pretrained encoder on a task in the layout of HEAR.

Encoder and classifier learn together, the lower layers slower. Scene tasks
are learned clip by clip, event tasks token by token. The best checkpoint on
the validation split is tested and written as a folder that
EncoderClassifier.from_hparams loads.

> python train.py hparams/fine_tune.yaml --tasks_dir DIR \
    --task esc50-v2.0.0-full --pretrained FOLDER

Shapes: B clips, T samples, C channels, N tokens (1 of a scene), D dim, L
labels, R rows: all tokens of all clips.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import logging
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.data_pipeline import provides, takes
from torch.nn.functional import binary_cross_entropy_with_logits

from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.embeddings import SplitEmbeddings
from speechbrain_wavjepa.evaluation.hear import SplitScorer
from speechbrain_wavjepa.evaluation.hear_task import find_task
from speechbrain_wavjepa.evaluation.runs import (
    check_numbers,
    list_settings,
    name_run,
)
from speechbrain_wavjepa.inference import (
    LinearClassifier,
    MultilabelClassifier,
    hash_model,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import RUNTIME_SETTINGS, read_settings
from speechbrain_wavjepa.utils.environment import find_device
from speechbrain_wavjepa.utils.experiment import (
    build,
    experiment,
    override,
    run_script,
)
from speechbrain_wavjepa.utils.files import atomic_file

logger = logging.getLogger(__name__)

RATES = ("lr", "classifier_lr", "layer_decay", "weight_decay", "mixup_alpha")
# SpeechBrain's run options that change what is learned
RUN_OPTIONS = (
    "auto_mix_prec", "bfloat16_mix_prec", "eval_precision",
    "grad_accumulation_factor", "max_grad_norm", "nonfinite_patience",
    "optimizer_step_limit", "precision", "skip_nonfinite_grads",
)  # fmt: skip


def rank(checkpoint):
    """Order checkpoints: by score, and by loss where scores are equal."""
    meta = checkpoint.meta
    return meta.get("score", -math.inf), -meta.get("loss", math.inf)


class FineTuneBrain(sb.Brain):
    """Trains encoder and classifier; every number comes from the yaml."""

    def compute_forward(self, batch, stage):
        """Prepare, augment and mix clips, and classify their tokens."""
        wavs, wav_lens = batch.to(self.device).sig  # [B, T, C], [B]
        encoder, training = self.modules.encoder, stage == sb.Stage.TRAIN
        if training:
            wavs, wav_lens = self.augment(wavs, wav_lens)
        wavs = encoder.compute_features(wavs)
        waveform = encoder.mean_var_norm(wavs, wav_lens)
        mixes = training and self.hparams.mixup_alpha
        if mixes:
            share, other = self.draw_mix(len(waveform))
            waveform = share * waveform + (1 - share) * waveform[other]
            wav_lens = torch.maximum(wav_lens, wav_lens[other])
        task, embedding = self.hparams.hear_task, encoder.embedding_model
        if task.embedding_type == "event":
            tokens, times, counts = embedding.tokens(waveform, wav_lens)
            times = 1000 * times.cpu().numpy()  # milliseconds
        else:
            tokens = embedding(waveform, wav_lens)  # [B, 1, D]
            times, counts = None, torch.ones(len(tokens), device=self.device)
        places = zip(batch.split, batch.name)
        targets = np.stack([task.targets(*place, times) for place in places])
        targets = torch.from_numpy(targets).to(self.device)  # [B, N, L]
        if mixes:
            targets = share * targets + (1 - share) * targets[other]
        place = torch.arange(tokens.shape[1], device=self.device)
        valid = place < counts[:, None]  # padding is not learned
        logits = self.modules.classifier.linear(tokens[valid])  # [R, L]
        return logits, targets[valid], times, counts.int().tolist()

    def augment(self, wavs, wav_lens):
        """Augment the channels of a clip alike, one after the other.

        Each is given the same draws: what one ear loses, both lose. DropFreq
        would mix channels that it is given together.
        """
        channels, state = [], random.getstate()
        devices = [wavs.device] if wavs.is_cuda else []
        for number, waveform in enumerate(wavs.unbind(dim=2), 1):
            random.setstate(state)
            is_last = number == wavs.shape[2]  # its draws are not taken back
            with torch.random.fork_rng(devices, enabled=not is_last):
                channels.append(self.hparams.augmentation(waveform, wav_lens))
        waveforms, lengths = zip(*channels)
        return torch.stack(waveforms, dim=2), lengths[-1]

    def draw_mix(self, num_clips):
        """Draw another clip of the batch for each, and each one's share."""
        alpha = self.hparams.mixup_alpha
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        share = max(share, 1 - share)  # the clip itself is the louder one
        return share, torch.randperm(num_clips, device=self.device)

    def compute_objectives(self, predictions, batch, stage):
        """Compare with the labels; keep what is scored at the end."""
        logits, targets, times, counts = predictions
        logits = logits.float()  # half precision ends here
        if stage != sb.Stage.TRAIN:
            self.names += batch.name
            self.logits.append(logits.cpu())
            self.counts += counts
            if times is not None:
                self.times += [times[:count] for count in counts]
        if self.hparams.hear_task.prediction_type == "multiclass":
            loss = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
        else:
            loss = binary_cross_entropy_with_logits(logits, targets)
        if not loss.isfinite():
            raise ValueError(
                f"The loss is {loss.item()} after {self.optimizer_step} steps: "
                "lower lr and classifier_lr, or train with --precision fp32."
            )
        return loss

    def init_optimizers(self):
        """Give each layer its learning rate; SpeechBrain knows one for all."""
        hparams = self.hparams
        embedding = self.modules.encoder.embedding_model
        model, encoder = embedding.model, embedding.model.context_encoder
        below = [model.token_norm, model.token_projection]
        if hparams.freeze_frontend:
            model.frontend.requires_grad_(False)
        else:
            below.append(model.frontend)
        rates = [(self.modules.classifier, hparams.classifier_lr)]
        if embedding.layer_sum is not None:
            rates.append((embedding.layer_sum, hparams.classifier_lr))
        rates.append((encoder.norm, hparams.lr))
        for depth, layer in enumerate(reversed(encoder.layers)):
            rates.append((layer, hparams.lr * hparams.layer_decay**depth))
        lowest = hparams.lr * hparams.layer_decay ** len(encoder.layers)
        rates += [(module, lowest) for module in below]
        # weight decay would pull filters to 0 Hz
        spared = set(model.frontend.undecayed_parameters())
        groups = []
        for module, rate in rates:
            group = {"lr": rate, "base_lr": rate}
            weights = list(module.parameters())
            groups.append({"params": [w for w in weights if w not in spared]})
            groups[-1] |= group
            if module is model.frontend:
                weights = [weight for weight in weights if weight in spared]
                groups.append({"params": weights, **group, "weight_decay": 0.0})
        self.optimizer = self.opt_class([g for g in groups if g["params"]])
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def on_fit_batch_start(self, batch, should_step):
        """Warm up, then let the learning rates fall as a cosine."""
        step, warmup = self.optimizer_step, self.hparams.warmup_steps
        done = (step - warmup) / max(self.hparams.total_steps - warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        factor = min((step + 1) / warmup, cosine)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["base_lr"]

    def optimizers_step(self):
        """Clip all gradients together: SpeechBrain clips the first group's."""
        self.scaler.unscale_(self.optimizer)
        groups = self.optimizer.param_groups
        trained = [weight for group in groups for weight in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.max_grad_norm)
        # with fp16 the scaler skips such a step
        if not (norm.isfinite() or self.scaler.is_enabled()):
            raise ValueError(
                f"The gradient's norm is {norm.item()} after "
                f"{self.optimizer_step} steps: lower lr and classifier_lr."
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.modules.encoder.embedding_model.model.frontend.constrain()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def on_stage_start(self, stage, epoch=None):
        """Seed the epoch, so that a resumed run is the same; collect anew."""
        if stage == sb.Stage.TRAIN:
            sb.utils.seed_everything(self.hparams.seed + epoch, verbose=False)
        self.names, self.logits, self.counts, self.times = [], [], [], []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Score and log the epoch; keep the best checkpoint and the last."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        is_test, run = stage == sb.Stage.TEST, self.hparams.hear_run
        split = run.test if is_test else run.valid
        times = np.concatenate(self.times) if self.times else None
        rows = SplitEmbeddings(self.names, np.empty(0), self.counts, times)
        scorer = SplitScorer(self.hparams.hear_task, split, rows)
        logits, log = torch.cat(self.logits), self.hparams.train_logger
        if is_test:
            self.scores = scorer.scores(logits, self.best["choice"])
            stats = {k[len("test_") :]: v for k, v in self.scores.items()}
            log.log_stats({}, test_stats=stats)
            return
        score, choice = scorer.validate(logits)
        signed = float(scorer.sign * score)
        log.log_stats(
            stats_meta={"epoch": epoch},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss, "score": signed},
        )
        meta = {
            # events that are not found have none
            "score": -math.inf if math.isnan(score) else float(score),
            "validation_score": signed,
            "loss": stage_loss,
            "epoch": epoch,
            "choice": choice,
        }
        self.hparams.check_folder()
        self.checkpointer.save_and_keep_only(meta, importance_keys=[rank])

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Recover the best epoch by ``rank``, which no single key says."""
        best = self.checkpointer.recover_if_possible(rank)
        if best is None:
            raise ValueError("No epoch was trained: raise number_of_epochs.")
        self.best = best.meta


def read_task(settings, sample_rate):
    """Read the task, and the splits of the run that is asked for."""
    folder = find_task(str(settings["tasks_dir"]), settings["task"])
    task = HearTask(folder, sample_rate)
    task.check_leaks()
    runs = task.runs()
    if settings["run"] not in range(len(runs)):
        raise ValueError(
            f"{task.folder} has the runs 0 to {len(runs) - 1}, got "
            f"run={settings['run']}."
        )
    run = runs[settings["run"]]
    if absent := task.absent_labels(run):
        logger.warning(
            f"{task.name}: {len(absent)} labels of {run.test} are not in the "
            f"training splits and cannot be learned: {absent[:10]}."
        )
    return task, run


def collate_clips(examples):
    """Pad clips with zeros; name one of a batch of mixed channels."""
    channels = {example["sig"].shape[1]: example["id"] for example in examples}
    if len(channels) > 1:
        raise ValueError(
            f"Clips with {sorted(channels)} channels are in one batch, such as "
            f"{channels[max(channels)]}: give all clips the same channels."
        )
    return PaddedBatch(examples)


def dataio_prepare(hparams):
    """Make the datasets of the clips that train, select and test."""
    task, run = hparams["hear_task"], hparams["hear_run"]

    @takes("split", "name")
    @provides("sig")
    def audio_pipeline(split, name):
        return task.read_clip(split, name)  # [T, C]

    for name in ("train_dataloader_opts", "valid_dataloader_opts"):
        hparams[name]["collate_fn"] = collate_clips
    datasets, keys = [], ["id", "sig", "split", "name"]
    for splits in (run.train, [run.valid], [run.test]):
        places = [
            (split, clip) for split in splits for clip in task.clips[split]
        ]
        clips = {"/".join(x): {"split": x[0], "name": x[1]} for x in places}
        datasets.append(DynamicItemDataset(clips, [audio_pipeline], keys))
    return datasets


def fine_tune(hparams, made_with, run_opts):
    """Fine-tune, test, write the folder."""
    task, encoder = hparams["hear_task"], hparams["encoder"]
    embedding = encoder.embedding_model.requires_grad_(True)
    embedding.freeze = False
    is_multiclass = task.prediction_type == "multiclass"
    kind = LinearClassifier if is_multiclass else MultilabelClassifier
    classifier = kind(embedding.dim, len(task.labels))
    train, valid, test = dataio_prepare(hparams)
    steps = math.ceil(len(train) / hparams["batch_size"])
    hparams["total_steps"] = steps * hparams["number_of_epochs"]
    brain = FineTuneBrain(
        modules={"encoder": encoder, "classifier": classifier},
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"](
            recoverables={
                "counter": hparams["epoch_counter"],
                "embedding_model": embedding,
                "classifier": classifier,
            }
        ),
    )
    brain.fit(
        hparams["epoch_counter"],
        train,
        valid,
        train_loader_kwargs=hparams["train_dataloader_opts"],
        valid_loader_kwargs=hparams["valid_dataloader_opts"],
    )
    brain.evaluate(test, test_loader_kwargs=hparams["valid_dataloader_opts"])
    hparams["check_folder"]()
    write_results(brain, hparams, made_with, classifier)


def write_results(brain, hparams, made_with, classifier):
    """Write the scores under the HEAR kit's names, and the folder."""
    task, run, best = hparams["hear_task"], hparams["hear_run"], brain.best
    output_folder = Path(hparams["output_folder"])
    epoch = {key: best[key] for key in ("validation_score", "epoch")}
    results = {
        run.test: {**brain.scores, **epoch},
        "postprocessing": list(map(list, best["choice"].items())),
        "model": hparams["model_name"],
        "made_with": made_with,
    }
    with atomic_file(output_folder / "results.json") as aside:
        aside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    found = read_settings(hparams["pretrained"])
    embedding = hparams["encoder"].embedding_model
    settings = {
        **{key: found[key] for key in RUNTIME_SETTINGS if key in found},
        "layer_weights": embedding.layer_sum is not None,
    }
    settings["training"] = {"task": task.name, "seed": hparams["seed"]}
    settings["training"] |= best["choice"]
    figure = f"{task.evaluation[0]} on {run.test}"
    score = f"{brain.scores['test_score']:.3f}"
    model_card = {
        "name": f"WavJEPA, fine-tuned on {task.name}",
        "training_data": f"{task.name}, {', '.join(run.train)}",
        "figures": {figure: score},
    }
    write_pretrained(
        output_folder / "pretrained",
        embedding.model,
        settings,
        model_card,
        classifier,
        task.labels,
        layer_sum=embedding.layer_sum,
    )
    print(f"{figure}: {score}")
    print(f"Classifier for from_hparams: {output_folder / 'pretrained'}")


def main():
    """Check everything, then fine-tune."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    settings, overrides = name_run(hparams_file, overrides, "tasks_dir")
    if run_opts["debug"]:  # a dry run touches no other run's folder
        folder = f"{os.path.abspath(str(settings['output_folder']))}_debug"
        overrides = override(overrides, output_folder=folder)
    hparams = build(hparams_file, overrides)
    task, run = read_task(settings, hparams["encoder"].sample_rate)
    hparams |= {"hear_task": task, "hear_run": run}
    check_numbers(hparams, batch_size=1, number_of_epochs=1, warmup_steps=1)
    check_numbers(hparams, **dict.fromkeys(RATES, 0.0))
    find_device(run_opts.get("device"))
    given = run_opts.overridden_args
    made_with = {
        **{name: run_opts[name] for name in RUN_OPTIONS},
        **list_settings(settings, hash_model(settings["pretrained"])),
        **{name: run_opts[name] for name in RUN_OPTIONS if name in given},
        **task.fingerprints(),
    }
    output, fresh = hparams["output_folder"], run_opts["debug"]
    with experiment(
        output, hparams_file, overrides, made_with, fresh
    ) as check_folder:
        hparams["check_folder"] = check_folder
        fine_tune(hparams, made_with, run_opts)


if __name__ == "__main__":
    sys.exit(run_script(main))
