"""Fine-tune a pretrained encoder on a task in the layout of HEAR.

Encoder and classifier learn together, the lower layers slower. The best
checkpoint on the validation split is tested and written as a folder that
EncoderClassifier.from_hparams loads.

    python train.py hparams/fine_tune.yaml --tasks_dir DIR \
        --task esc50-v2.0.0-full --pretrained FOLDER

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import math
import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from torch.nn.utils.rnn import pad_sequence

from speechbrain_wavjepa.downstream.tasks import HearTask
from speechbrain_wavjepa.hyperparams import read_settings
from speechbrain_wavjepa.inference import LinearClassifier
from speechbrain_wavjepa.model_settings import RUNTIME_SETTINGS
from speechbrain_wavjepa.pretrained import write_pretrained


class LabelledClips(torch.utils.data.Dataset):
    """Clips of some splits, read from the disk one by one."""

    def __init__(self, task, splits):
        self.task = task
        self.clips = [
            (split, name, task.labels.index(label))
            for split in splits
            for name, (label,) in task.clips[split].items()
        ]

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        split, name, label = self.clips[index]
        return self.task.read_clip(split, name), label


def collate(examples):
    """Pad clips to one length: [B, T, C], relative lengths, labels."""
    clips, labels = zip(*examples)
    wavs = pad_sequence(list(clips), batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips])
    return wavs, lengths / wavs.shape[1], torch.tensor(labels)


class FineTuneBrain(sb.Brain):
    """Trains encoder and classifier."""

    def compute_forward(self, batch, stage):
        """Prepare, augment and mix clips, and classify them."""
        wavs, wav_lens, labels = (part.to(self.device) for part in batch)
        encoder, training = self.modules.encoder, stage == sb.Stage.TRAIN
        if training:
            wavs, wav_lens = self.hparams.augmentation(wavs, wav_lens)
        waveform = encoder.compute_features(wavs)
        waveform = encoder.mean_var_norm(waveform, wav_lens)
        targets = torch.eye(self.hparams.num_classes, device=self.device)
        targets = targets[labels]
        if training and self.hparams.mixup_alpha:
            waveform, wav_lens, targets = self.mix(waveform, wav_lens, targets)
        embeddings = encoder.embedding_model(waveform, wav_lens)
        return self.modules.classifier(embeddings)[:, 0], targets

    def mix(self, waveform, wav_lens, targets):
        """Add another clip of the batch to each, and its label alike."""
        alpha = self.hparams.mixup_alpha
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        share = max(share, 1 - share)  # the clip itself is the louder one
        other = torch.randperm(len(waveform), device=waveform.device)
        return (
            share * waveform + (1 - share) * waveform[other],
            torch.maximum(wav_lens, wav_lens[other]),
            share * targets + (1 - share) * targets[other],
        )

    def compute_objectives(self, predictions, batch, stage):
        """Compare with the labels; count the right ones."""
        scores, targets = predictions
        if stage != sb.Stage.TRAIN:
            right = scores.argmax(dim=1) == targets.argmax(dim=1)
            self.right += right.sum().item()
            self.count += len(right)
        return -(targets * scores).sum(dim=1).mean()

    def init_optimizers(self):
        """Give each layer its learning rate, the lower ones smaller ones."""
        hparams, model = self.hparams, self.hparams.model
        encoder = model.context_encoder
        layers = [*encoder.layers]
        below = [model.token_norm, model.token_projection]
        if hparams.freeze_frontend:
            model.frontend.requires_grad_(False)
        else:
            below.append(model.frontend)
        rates = [(self.modules.classifier, hparams.classifier_lr)]
        rates.append((encoder.norm, hparams.lr))
        for depth, layer in enumerate(reversed(layers)):
            rates.append((layer, hparams.lr * hparams.layer_decay**depth))
        lowest = hparams.lr * hparams.layer_decay ** len(layers)
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

    def on_stage_start(self, stage, epoch=None):
        """Begin to count."""
        self.right = self.count = 0

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log the epoch; keep the best checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        self.accuracy = self.right / self.count
        stats = {"loss": stage_loss, "accuracy": self.accuracy}
        if stage == sb.Stage.TEST:
            self.hparams.train_logger.log_stats({}, test_stats=stats)
            return
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch},
            train_stats={"loss": self.train_loss},
            valid_stats=stats,
        )
        self.checkpointer.save_and_keep_only(
            meta={"accuracy": self.accuracy}, max_keys=["accuracy"]
        )


def read_task(hparams):
    """Read the task and refuse what this recipe cannot learn."""
    task = HearTask(
        Path(hparams["tasks_dir"]) / hparams["task"],
        hparams["encoder"].sample_rate,
    )
    if (task.embedding_type, task.prediction_type) != ("scene", "multiclass"):
        raise ValueError(
            f"{task.folder} is a {task.prediction_type} {task.embedding_type} "
            "task; fine-tuning takes multiclass scene tasks. Probes take all: "
            "recipes/HEAR/linear_probe."
        )
    task.check_leaks()
    runs = task.runs()
    if not 0 <= hparams["run"] < len(runs):
        raise ValueError(
            f"{task.folder} has the runs 0 to {len(runs) - 1}, got "
            f"run={hparams['run']}."
        )
    return task, runs[hparams["run"]]


def main():
    """Read the yaml, fine-tune, test, write the folder."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    task, run = read_task(hparams)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    encoder = hparams["encoder"]
    embedding = encoder.embedding_model
    embedding.freeze = False
    embedding.model.requires_grad_(True)
    hparams["model"] = embedding.model
    hparams["num_classes"] = len(task.labels)
    classifier = LinearClassifier(embedding.dim, len(task.labels))
    train, valid, test = (
        LabelledClips(task, splits)
        for splits in (run.train, [run.valid], [run.test])
    )
    steps = math.ceil(len(train) / hparams["batch_size"])
    hparams["total_steps"] = steps * hparams["number_of_epochs"]
    hparams["checkpointer"].add_recoverables(
        {"model": embedding.model, "classifier": classifier}
    )
    brain = FineTuneBrain(
        modules={"encoder": encoder, "classifier": classifier},
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    options = {"batch_size": hparams["batch_size"], "collate_fn": collate}
    brain.fit(
        hparams["epoch_counter"],
        train,
        valid,
        train_loader_kwargs={**options, "shuffle": True},
        valid_loader_kwargs=options,
    )
    brain.evaluate(test, max_key="accuracy", test_loader_kwargs=options)
    found = read_settings(hparams["pretrained"])
    settings = {key: found[key] for key in RUNTIME_SETTINGS if key in found}
    output_folder = Path(hparams["output_folder"])
    write_pretrained(
        output_folder / "pretrained",
        embedding.model,
        {**settings, "training": {"task": task.name, "seed": hparams["seed"]}},
        {
            "name": f"WavJEPA, fine-tuned on {task.name}",
            "training_data": f"{task.name}, {', '.join(run.train)}",
            "figures": {f"accuracy on {run.test}": f"{brain.accuracy:.3f}"},
        },
        classifier,
        task.labels,
    )
    results = {"test": {"test_score": brain.accuracy, "split": run.test}}
    (output_folder / "results.json").write_text(json.dumps(results, indent=1))
    print(f"Accuracy on {run.test}: {100 * brain.accuracy:.1f} %")
    print(f"Classifier for from_hparams: {output_folder / 'pretrained'}")


if __name__ == "__main__":
    main()
