"""Fine-tune a pretrained encoder on a task in the layout of HEAR.

Encoder and classifier learn together, the lower layers slower. Scene tasks
are learned clip by clip, event tasks token by token. The best checkpoint on
the validation split is tested and written as a folder that
EncoderClassifier.from_hparams loads.

    python train.py hparams/fine_tune.yaml --tasks_dir DIR \
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
from torch.nn.functional import binary_cross_entropy_with_logits

from speechbrain_wavjepa.evaluation.embeddings import (
    LabelledClips,
    SplitEmbeddings,
    batch_targets,
    collate_clips,
)
from speechbrain_wavjepa.evaluation.hear import SplitScorer
from speechbrain_wavjepa.evaluation.hear_task import HearTask, find_task
from speechbrain_wavjepa.evaluation.runs import (
    build,
    check_numbers,
    list_settings,
    name_run,
    override,
)
from speechbrain_wavjepa.inference.classifiers import (
    LinearClassifier,
    MultilabelClassifier,
)
from speechbrain_wavjepa.inference.config import RUNTIME_SETTINGS, read_settings
from speechbrain_wavjepa.inference.files import hash_model
from speechbrain_wavjepa.inference.pretrained import write_pretrained
from speechbrain_wavjepa.utils.environment import find_device
from speechbrain_wavjepa.utils.experiment import experiment, run_script
from speechbrain_wavjepa.utils.files import atomic_file

logger = logging.getLogger(__name__)

RATES = ("lr", "classifier_lr", "layer_decay", "weight_decay", "mixup_alpha")
# SpeechBrain's run options that change what is learned.
RUN_OPTIONS = (
    "auto_mix_prec",
    "eval_precision",
    "grad_accumulation_factor",
    "max_grad_norm",
    "nonfinite_patience",
    "optimizer_step_limit",
    "precision",
    "skip_nonfinite_grads",
)


def rank(checkpoint):
    """Order checkpoints: by score, and by loss where scores are equal."""
    meta = checkpoint.meta
    return meta.get("score", -math.inf), -meta.get("loss", math.inf)


class FineTuneBrain(sb.Brain):
    """Trains encoder and classifier."""

    def compute_forward(self, batch, stage):
        """Prepare, augment and mix clips, and classify their tokens."""
        wavs, wav_lens, places = batch
        wavs, wav_lens = wavs.to(self.device), wav_lens.to(self.device)
        encoder, training = self.modules.encoder, stage == sb.Stage.TRAIN
        if training:
            wavs, wav_lens = self.augment(wavs, wav_lens)
        waveform = encoder.compute_features(wavs)
        waveform = encoder.mean_var_norm(waveform, wav_lens)
        mixes = training and self.hparams.mixup_alpha
        if mixes:
            share, other = self.draw_mix(len(waveform))
            waveform = share * waveform + (1 - share) * waveform[other]
            wav_lens = torch.maximum(wav_lens, wav_lens[other])
        if self.hparams.is_event:
            tokens, times, counts = encoder.embedding_model.tokens(
                waveform, wav_lens
            )
            times = 1000 * times.cpu().numpy()  # milliseconds
        else:
            tokens = encoder.embedding_model(waveform, wav_lens)  # [B, 1, D]
            times, counts = None, torch.ones(len(tokens), device=self.device)
        targets = batch_targets(self.hparams.hear_task, places, times)
        targets = targets.to(self.device)  # [B, N, L]
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
                waveform, wav_lens_out = self.hparams.augmentation(
                    waveform, wav_lens
                )
            channels.append(waveform)
        return torch.stack(channels, dim=2), wav_lens_out

    def draw_mix(self, num_clips):
        """Draw another clip of the batch for each, and each one's share."""
        alpha = self.hparams.mixup_alpha
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        share = max(share, 1 - share)  # the clip itself is the louder one
        return share, torch.randperm(num_clips, device=self.device)

    def compute_objectives(self, predictions, batch, stage):
        """Compare with the labels; keep what is scored at the end."""
        logits, targets, times, counts = predictions
        if stage != sb.Stage.TRAIN:
            self.names += [name for _, name in batch[2]]
            self.logits.append(logits.float().cpu())
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
        """Give each layer its learning rate, the lower ones smaller ones."""
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
        groups = [
            {"params": list(module.parameters()), "lr": rate, "base_lr": rate}
            for module, rate in rates
        ]
        self.optimizer = self.opt_class([g for g in groups if g["params"]])
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def on_fit_batch_start(self, batch, should_step):
        """Warm up, then let the learning rates fall as a cosine."""
        hparams = self.hparams
        step = self.optimizer_step
        factor = min((step + 1) / hparams.warmup_steps, 1.0)
        if step > hparams.warmup_steps:
            done = (step - hparams.warmup_steps) / max(
                hparams.total_steps - hparams.warmup_steps, 1
            )
            factor = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["base_lr"]

    def optimizers_step(self):
        """Clip all gradients together: SpeechBrain clips the first group's."""
        self.scaler.unscale_(self.optimizer)
        groups = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(
            [parameter for group in groups for parameter in group["params"]],
            self.max_grad_norm,
        )
        # with fp16 the scaler skips such a step
        if not (norm.isfinite() or self.scaler.is_enabled()):
            raise ValueError(
                f"The gradient's norm is {norm.item()} after "
                f"{self.optimizer_step} steps: lower lr and classifier_lr."
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def on_stage_start(self, stage, epoch=None):
        """Begin to collect; an epoch is the same in a run that goes on."""
        if stage == sb.Stage.TRAIN:
            sb.utils.seed_everything(self.hparams.seed + epoch, verbose=False)
        self.names, self.logits, self.counts, self.times = [], [], [], []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Score and log the epoch; keep the best checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        rows = SplitEmbeddings(
            self.names,
            np.empty((sum(self.counts), 0)),
            self.counts,
            np.concatenate(self.times) if self.times else None,
        )
        logits, run = torch.cat(self.logits), self.hparams.hear_run
        if stage == sb.Stage.TEST:
            scorer = SplitScorer(self.hparams.hear_task, run.test, rows)
            self.scores = scorer.scores(logits, self.best["choice"])
            stats = {
                name.removeprefix("test_"): score
                for name, score in self.scores.items()
            }
            self.hparams.train_logger.log_stats({}, test_stats=stats)
            return
        scorer = SplitScorer(self.hparams.hear_task, run.valid, rows)
        score, choice = scorer.validate(logits)
        signed = float(scorer.sign * score)
        self.hparams.train_logger.log_stats(
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
        self.checkpointer.save_and_keep_only(meta, importance_keys=[rank])

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Go back to the best epoch and to how it found events."""
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


def fine_tune(task, run, hparams, made_with, run_opts):
    """Fine-tune, test, write the folder."""
    encoder = hparams["encoder"]
    embedding = encoder.embedding_model
    embedding.freeze = False
    embedding.requires_grad_(True)
    is_multiclass = task.prediction_type == "multiclass"
    kind = LinearClassifier if is_multiclass else MultilabelClassifier
    classifier = kind(embedding.dim, len(task.labels))
    train, valid, test = (
        LabelledClips(task, splits)
        for splits in (run.train, [run.valid], [run.test])
    )
    steps = math.ceil(len(train) / hparams["batch_size"])
    hparams |= {
        "hear_task": task,
        "hear_run": run,
        "is_event": task.embedding_type == "event",
        "total_steps": steps * hparams["number_of_epochs"],
    }
    checkpointer = hparams["checkpointer"](
        recoverables={
            "counter": hparams["epoch_counter"],
            "embedding_model": embedding,
            "classifier": classifier,
        }
    )
    brain = FineTuneBrain(
        modules={"encoder": encoder, "classifier": classifier},
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=checkpointer,
    )
    options = {"batch_size": hparams["batch_size"], "collate_fn": collate_clips}
    brain.fit(
        hparams["epoch_counter"],
        train,
        valid,
        train_loader_kwargs={**options, "shuffle": True},
        valid_loader_kwargs=options,
    )
    brain.evaluate(test, test_loader_kwargs=options)
    write_results(brain, hparams, made_with, classifier)


def write_results(brain, hparams, made_with, classifier):
    """Write the scores under the HEAR kit's names, and the folder."""
    task, run, best = hparams["hear_task"], hparams["hear_run"], brain.best
    output_folder = Path(hparams["output_folder"])
    results = {
        run.test: {
            **brain.scores,
            "validation_score": best["validation_score"],
            "epoch": best["epoch"],
        },
        "postprocessing": list(map(list, best["choice"].items())),
        "model": hparams["model_name"],
        "made_with": made_with,
    }
    with atomic_file(output_folder / "results.json") as aside:
        aside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    found = read_settings(hparams["pretrained"])
    settings = {key: found[key] for key in RUNTIME_SETTINGS if key in found}
    training = {"task": task.name, "seed": hparams["seed"], **best["choice"]}
    embedding = hparams["encoder"].embedding_model
    sums = embedding.layer_sum is not None
    score = f"{brain.scores['test_score']:.3f}"
    figure = f"{task.evaluation[0]} on {run.test}"
    write_pretrained(
        output_folder / "pretrained",
        embedding.model,
        {**settings, "layer_weights": sums, "training": training},
        {
            "name": f"WavJEPA, fine-tuned on {task.name}",
            "training_data": f"{task.name}, {', '.join(run.train)}",
            "figures": {figure: score},
        },
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
    with experiment(
        hparams["output_folder"],
        hparams_file,
        overrides,
        made_with,
        fresh=run_opts["debug"],
    ):
        fine_tune(task, run, hparams, made_with, run_opts)


if __name__ == "__main__":
    sys.exit(run_script(main))
