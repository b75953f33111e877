#!/usr/bin/env python3
r"""Pretrain WavJEPA (https://arxiv.org/abs/2509.23238) from raw waveforms.

To try it without any download (minutes on a laptop's CPU):
> python train.py hparams/wavjepa_mini.yaml
> python train.py hparams/wavjepa_nat_mini.yaml

To run the paper's settings on AudioSet shards:
> python train.py hparams/wavjepa.yaml --data_folder /path/to/shards
> python train.py hparams/wavjepa_nat.yaml --data_folder /path/to/shards \
    --brir_folder /path/to/bank --noise_folder /path/to/noises

Authors
 * The speechbrain_wavjepa developers 2026
"""

import difflib
import json
import logging
import os
import re
import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from results import draw_input, load_probe, write_results
from ruamel.yaml.constructor import DuplicateKeyError
from speechbrain.utils.distributed import (
    ddp_init_group,
    if_main_process,
)
from streams import (
    describe_data,
    make_collator,
    make_streams,
    make_synthetic_data,
)
from torch.utils.data import DataLoader
from tqdm import tqdm

from speechbrain_wavjepa.lobes.wavjepa import masked_mse
from speechbrain_wavjepa.processing.audio import standardize
from speechbrain_wavjepa.processing.windows import random_windows
from speechbrain_wavjepa.utils.collapse import (
    effective_rank,
    mean_std,
    pool_windows,
)
from speechbrain_wavjepa.utils.experiment import (
    RESUME,
    experiment,
    log_early,
    read_made_with,
    run_script,
)
from speechbrain_wavjepa.utils.processes import (
    LoaderWorkers,
    exit_by_signal,
    explain_dead_workers,
    largest,
    on_end_signals,
)

logger = logging.getLogger(__name__)

# Settings that change nothing in the model, and those that describe_data reads
UNCOUNTED = {
    "__set_seed", "batches_per_epoch", "brir_folder", "checkpointer",
    "checkpoints_to_keep", "ckpt_interval_steps", "compare_with",
    "data_folder", "data_root", "epoch_counter", "log_interval_steps",
    "max_bad_fraction",
    "noise_folder", "nonfinite_patience", "output_folder", "probe_folds",
    "probe_task", "save_folder", "step_log", "stream_state",
    "synthetic_corpus", "synthetic_folder", "synthetic_rooms",
    "synthetic_rooms_folder", "tensorboard_folder", "train_logger",
    "train_shards", "valid_shards",
}  # fmt: skip
# Run options of SpeechBrain that this recipe does not follow
UNUSED_OPTIONS = {
    "data_parallel_backend": "start it with torchrun",
    "optimizer_step_limit": "total_steps says how long a run is",
    "remove_vector_weight_decay": "set weight_decay",
    "skip_nonfinite_grads": "steps that are not finite are skipped anyway",
    "test_only": "the table at the end comes with every start",
}


class WavJEPABrain(sb.Brain):
    """Pretrains WavJEPA; every number it uses comes from the yaml."""

    def compute_forward(self, batch, stage):
        """Cut windows out of the clips and predict their hidden blocks."""
        self.batch = batch
        windows = self.cut_windows(batch.to(self.device))
        return self.modules.wavjepa(windows, batch.mask)

    def cut_windows(self, batch):
        """Mix scenes and cut standardized windows, a function of the batch."""
        waveform = batch.waveform
        if batch.scene is not None:
            waveform = self.hparams.scene_mixer(waveform, batch.scene)
        windows, lengths = random_windows(
            waveform,
            self.hparams.window_samples,
            self.hparams.windows_per_clip,
            batch.lengths,
            torch.Generator().manual_seed(batch.seed),
        )
        return standardize(windows, lengths)

    def compute_objectives(self, output, batch, stage):
        """Compare predictions and targets."""
        return masked_mse(output.prediction, output.target, output.mask)

    def check_loss_isfinite(self, loss):
        """Remember whose clips gave a loss that is not finite.

        What follows from it is decided in ``optimizers_step``, alike on all
        processes, since their gradients are averaged there.
        """
        if not torch.isfinite(loss):
            self.suspects.append(self.batch.keys)

    def optimizers_step(self):
        """Clip all gradients and step, unless they are not finite."""
        learning_rate = self.hparams.learning_rate(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(
            self.trainable, self.max_grad_norm
        )
        self.stepped = bool(torch.isfinite(self.gradient_norm))
        if self.stepped:
            self.optimizer.step()
            self.optimizer_step += 1
        else:
            self.count_nonfinite_step()
        self.optimizer.zero_grad(set_to_none=True)
        self.suspects = []

    def count_nonfinite_step(self):
        """Report a skipped step; stop after too many of them."""
        self.nonfinite_count += 1
        suspects = self.suspects or [self.batch.keys]
        clips = ", ".join(key for keys in suspects for key in keys)
        report = (
            f"Step {self.optimizer_step}: the loss or a gradient is not "
            f"finite (time {self.nonfinite_count} in this epoch). Neither "
            f"weights nor target encoder were changed. Clips: {clips}."
        )
        if self.nonfinite_count > self.nonfinite_patience:
            raise ValueError(
                f"{report} That is more than nonfinite_patience="
                f"{self.nonfinite_patience}: check these clips, lower lr, or "
                "train with --precision fp32."
            )
        logger.warning(report)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Move the target encoder behind the context encoder; log."""
        self.hparams.stream_state.update(batch.position)
        if batch.scene is not None:
            self.hparams.stream_state.num_bad_scenes += batch.scene.num_bad
        if should_step and self.stepped:
            self.hparams.wavjepa.target_encoder.update(
                self.hparams.wavjepa.context_encoder,
                self.hparams.ema_decay(self.optimizer_step - 1),
            )
            if self.optimizer_step % self.hparams.log_interval_steps == 0:
                self.log_step(outputs, loss.item())
        self.progress.set_postfix(
            loss=f"{loss.item():.3f}",
            lr=f"{self.optimizer.param_groups[0]['lr']:.1e}",
            refresh=False,
        )
        self.progress.update(batch.batchsize)

    progress = tqdm(disable=True)

    signal = 0  # one that asks this process to end
    waiting_after = None  # the batch after which the next one is waited for

    def fit(self, epoch_counter, *args, train_loader_kwargs, **kwargs):
        """Train for total_steps, or until a signal asks to save and end."""
        self.optimizer_step_limit = self.hparams.total_steps
        epochs = self.nominal_epochs(epoch_counter)
        options = {**train_loader_kwargs, "worker_init_fn": LoaderWorkers()}
        advice = (
            f"{RESUME}. If it happens again, lower num_workers "
            f"({self.hparams.num_workers}), shuffle_buffer "
            f"({self.hparams.shuffle_buffer}) or clips_per_batch "
            f"({self.hparams.clips_per_batch}) and begin in another "
            "output_folder."
        )
        try:
            with explain_dead_workers(advice), on_end_signals(self.note_signal):
                super().fit(
                    epochs, *args, train_loader_kwargs=options, **kwargs
                )
        except ChildProcessError:
            if self.signal:  # it came before the worker could ignore it
                exit_by_signal(self.signal)
            raise
        finally:
            self.progress.close()  # before an error is shown
            self.hparams.step_log.close()

    def note_signal(self, number, frame):
        """Note a signal; the run ends as soon as its state can be saved.

        A process that is alone saves at once while it waits for data, which
        may take longer than what a cluster grants before it kills.
        """
        self.signal = number
        if self.waiting_after == self.step and not self.distributed_launch:
            self.waiting_after = None
            self._save_intra_epoch_ckpt()

    @property
    def signal_to_any(self):
        """A signal that asks one of the processes to end; 0 if none."""
        return largest(self.signal, self.device)

    def nominal_epochs(self, epoch_counter):
        """Give nominal epochs until total_steps steps were taken."""
        total_steps = self.hparams.total_steps
        if not self.step and self.optimizer_step >= total_steps:
            logger.info(f"All {total_steps} steps were taken before.")
        # a recovered place in an epoch: its validation was interrupted
        while self.step or self.optimizer_step < total_steps:
            before = self.optimizer_step
            yield next(epoch_counter)
            if self.nonfinite_count and self.optimizer_step == before:
                raise ValueError(
                    f"No step of nominal epoch {epoch_counter.current} was "
                    "finite: lower lr, or train with --precision fp32."
                )

    def init_optimizers(self):
        """Give the optimizer the trainable parameters only."""
        self.trainable = [
            parameter
            for parameter in self.modules.parameters()
            if parameter.requires_grad
        ]
        self.optimizer = self.opt_class(self.trainable)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)
        self.suspects = []

    def on_fit_start(self):
        """Prepare as usual, then forget logs behind the recovered step."""
        super().on_fit_start()
        if if_main_process():
            # an epoch's last step is 0 once it was validated and saved
            self.hparams.step_log.forget_after(
                self.optimizer_step, validated=self.step == 0
            )

    def on_stage_start(self, stage, epoch=None):
        """Open a progress bar that counts clips."""
        self.waiting_after = None
        training = stage == sb.Stage.TRAIN
        clips = self.hparams.clips_per_batch if training else 0
        steps_left = self.hparams.total_steps - self.optimizer_step
        batches_left = steps_left * self.grad_accumulation_factor
        batches = min(self.hparams.batches_per_epoch, self.step + batches_left)
        self.progress = tqdm(
            desc=f"epoch {epoch}, {stage.name.lower()}",
            total=batches * clips or None,
            initial=self.step * clips,
            unit=" clips",
            dynamic_ncols=True,
            disable=self.noprogressbar or not if_main_process(),
        )

    def evaluate_batch(self, batch, stage):
        """Compute the loss of a held-out batch."""
        self.progress.update(batch.batchsize)
        if self.signal_to_any:
            # as behind the last step of the epoch: it is validated anew
            self.step = self.hparams.batches_per_epoch
            self.avg_train_loss = self.train_loss
            self.save_checkpoint(end_of_epoch=False, meta={})
        return super().evaluate_batch(batch, stage)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation, log the epoch and save a checkpoint."""
        self.waiting_after = None
        self.progress.close()
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "step": self.optimizer_step},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss},
        )
        self.write_log(valid_loss=stage_loss)
        self.save_checkpoint(end_of_epoch=True, meta={"loss": stage_loss})

    def _should_save_intra_epoch_ckpt(self, *args):
        """Decide as usual, but between optimizer steps only."""
        if self.step % self.grad_accumulation_factor:
            return False  # the gradients so far would be lost
        asked = super()._should_save_intra_epoch_ckpt(*args)
        if asked or self.signal_to_any:
            return True
        self.waiting_after = self.step
        return False

    def _save_intra_epoch_ckpt(self):
        """Save within an epoch, keeping the checkpoint before."""
        self.save_checkpoint(end_of_epoch=False, meta={})
        self.waiting_after = self.step

    def check_folder(self):
        """Raise if the output folder is not this run's any more."""

    def save_checkpoint(self, end_of_epoch, meta):
        """Save, delete all but the most recent; end if a signal asks to."""
        self.check_folder()
        self.checkpointer.save_and_keep_only(
            meta={"step": self.optimizer_step, **meta},
            end_of_epoch=end_of_epoch,
            num_to_keep=self.hparams.checkpoints_to_keep,
        )
        if signal := self.signal_to_any:
            exit_by_signal(signal)

    @torch.no_grad()
    def log_step(self, output, loss):
        """Log a step; a collapse shows in the stds and the rank."""
        pooled = pool_windows(output.context.float(), output.mask.context_mask)
        self.write_log(
            loss=loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            ema_decay=self.hparams.ema_decay(self.optimizer_step - 1),
            gradient_norm=self.gradient_norm.item(),
            target_std=mean_std(output.target.flatten(0, 1)),
            prediction_std=mean_std(output.prediction),
            effective_rank=effective_rank(pooled),
            bad_clips=self.hparams.stream_state.num_bad,
            bad_scenes=self.hparams.stream_state.num_bad_scenes,
        )

    def write_log(self, **figures):
        """Write figures of this step to the log."""
        if if_main_process():
            self.hparams.step_log.append(self.optimizer_step, **figures)


def read_settings(hparams_file, run_opts, overrides):
    """Read the yaml and what the command line changes in it, as it is saved.

    A run option, as precision, counts as the setting of its name.
    """
    for name, way_out in UNUSED_OPTIONS.items():
        if name in run_opts.overridden_args:
            raise ValueError(f"Pretraining has no --{name}: {way_out}.")
    try:
        if run_opts.debug:
            overrides = use_debug_folder(hparams_file, overrides)
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except KeyError as error:
        name = str(error).split("'")[1]
        raise ValueError(
            f"{hparams_file} has no setting {name}: did you mean one of "
            f"{difflib.get_close_matches(name, read_names(hparams_file), 3)}?"
        ) from error
    except DuplicateKeyError as error:
        raise ValueError(f"The command line: {error.problem}.") from error
    except ValueError as error:
        if "!PLACEHOLDER" not in str(error):
            raise
        raise ValueError(
            f"{error} Give it on the command line, or begin with "
            "hparams/wavjepa_mini.yaml or hparams/wavjepa_nat_mini.yaml, "
            "which need no data."
        ) from error
    for name in sorted(run_opts.overridden_args & set(hparams)):
        hparams[name] = run_opts[name]
        overrides += f"\n{name}: {run_opts[name]}"
    return hparams, overrides


def read_names(hparams_file):
    """List the settings of a yaml."""
    with open(hparams_file, encoding="utf-8") as file:
        return re.findall(r"^(\w+):", file.read(), re.MULTILINE)


def use_debug_folder(hparams_file, overrides):
    """Let a dry run write beside the output folder, never into it."""
    folder = read_made_with(hparams_file, overrides, set(), {})["output_folder"]
    kept = [
        line
        for line in overrides.split("\n")
        if not line.startswith("output_folder:")
    ]
    beside = json.dumps(f"{os.path.abspath(folder)}_debug")
    return "\n".join([*kept, f"output_folder: {beside}"])


def check_settings(hparams):
    """Check settings that depend on each other."""
    accumulation = hparams["grad_accumulation_factor"]
    for key in ("batches_per_epoch", "ckpt_interval_steps"):
        if hparams[key] % accumulation:
            raise ValueError(
                f"{key}={hparams[key]} must be a multiple of "
                f"grad_accumulation_factor={accumulation}, so that no "
                "gradient is lost between two steps."
            )
    save, output = (
        Path(hparams[name]).resolve()
        for name in ("save_folder", "output_folder")
    )
    if output not in save.parents:
        raise ValueError(
            f"save_folder={hparams['save_folder']} must lie in output_folder="
            f"{hparams['output_folder']}, to which its checkpoints belong: "
            "leave it out."
        )
    if hparams["precision"] == "fp16":
        raise ValueError("Train with --precision bf16 or fp32, not fp16.")


def report_settings(hparams):
    """Print how much a step and the whole run hear."""
    accumulation = hparams["grad_accumulation_factor"]
    batches = hparams["batches_per_epoch"]
    processes = int(os.environ.get("WORLD_SIZE", 1))
    clips = hparams["clips_per_batch"] * processes
    hours = clips * batches * hparams["clip_seconds"] / 3600
    epochs = hparams["total_steps"] * accumulation / batches
    logger.info(
        f"Effective batch: {clips * accumulation} clips x "
        f"{hparams['windows_per_clip']} windows = "
        f"{clips * accumulation * hparams['windows_per_clip']} windows on "
        f"{processes} process(es); {hours:.1f} hours of audio in a "
        f"nominal epoch of {batches} batches; {hparams['total_steps']} steps "
        f"are {epochs:g} nominal epochs."
    )


def main():
    """Read the yaml, pretrain, write what was learned."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    ddp_init_group(run_opts)
    log_early()
    hparams, overrides = read_settings(hparams_file, run_opts, overrides)
    check_settings(hparams)

    # all that can be wrong shows before anything is written
    make_synthetic_data(hparams)
    train_stream, valid_stream = make_streams(hparams)
    loader_options = {
        "batch_size": hparams["clips_per_batch"],
        "collate_fn": make_collator(hparams),
    }
    example = next(iter(DataLoader(valid_stream, **loader_options)))
    brain = WavJEPABrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    probe, data = None, {}
    if if_main_process():
        logger.info("Looking at the data that the output folder belongs to.")
        data = describe_data(hparams, train_stream, valid_stream)
        probe = None if run_opts.debug else load_probe(hparams)
    made_with = read_made_with(hparams_file, overrides, UNCOUNTED, data)
    with experiment(
        hparams["output_folder"],
        hparams_file,
        overrides,
        made_with,
        fresh=run_opts.debug,
    ) as check_folder:
        brain.check_folder = check_folder
        report_settings(hparams)
        if if_main_process():
            draw_input(brain, hparams, example)
        brain.fit(
            hparams["epoch_counter"],
            train_stream,
            valid_stream,
            progressbar=False,  # the Brain has its own
            train_loader_kwargs={
                "num_workers": hparams["num_workers"],
                "looped_nominal_epoch": hparams["batches_per_epoch"],
                "pin_memory": "cuda" in brain.device,
                **loader_options,
            },
            valid_loader_kwargs=loader_options,
        )
        if if_main_process():
            # last, and without the other processes, which may have ended
            write_results(brain, hparams, data["train_data"], probe)


if __name__ == "__main__":
    sys.exit(run_script(main))
