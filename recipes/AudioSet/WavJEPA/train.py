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

import logging
import os
import sys
from pathlib import Path

import speechbrain as sb
import torch
from results import (
    describe_frontend,
    draw_input,
    load_probe,
    write_results,
)
from resumable_brain import ResumableBrain
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

from speechbrain_wavjepa.lobes import masked_mse
from speechbrain_wavjepa.processing import standardize
from speechbrain_wavjepa.processing.windows import cut_windows
from speechbrain_wavjepa.utils.collapse import (
    effective_rank,
    mean_std,
    pool_windows,
)
from speechbrain_wavjepa.utils.experiment import (
    build,
    experiment,
    log_early,
    override,
    read_made_with,
    run_script,
)
from speechbrain_wavjepa.utils.processes import gather

logger = logging.getLogger(__name__)

# Settings that change nothing in the model, and those that describe_data reads
UNCOUNTED = set(
    """
    __set_seed brir_folder checkpointer checkpoints_to_keep
    ckpt_interval_steps compare_with data_folder data_root epoch_counter
    log_interval_steps max_bad_fraction noise_folder nonfinite_patience
    output_folder probe_folds probe_task save_folder step_log steps_per_epoch
    stream_state synthetic_corpus synthetic_folder synthetic_rooms
    synthetic_rooms_folder tensorboard_folder train_dataloader_opts
    train_logger train_shards valid_dataloader_opts valid_shards
    """.split()
)
NO_DATA = (
    "Give it on the command line, or begin with hparams/wavjepa_mini.yaml or "
    "hparams/wavjepa_nat_mini.yaml, which need no data."
)
# Run options of SpeechBrain that this recipe does not follow
UNUSED_OPTIONS = {
    "auto_mix_prec": "give --precision bf16",
    "bfloat16_mix_prec": "give --precision bf16",
    "data_parallel_backend": "start it with torchrun",
    "grad_accumulation_factor": "set effective_batch and batch_size",
    "jit": "give --compile",
    "jit_module_keys": "give --compile --compile_module_keys",
    "optimizer_step_limit": "total_steps says how long a run is",
    "remove_vector_weight_decay": "set weight_decay",
    "skip_nonfinite_grads": "steps that are not finite are skipped anyway",
    "test_only": "the table at the end comes with every start",
}
# The parts of the model that --compile compiles
COMPILED = ("context_encoder", "target_encoder", "predictor")


class WavJEPABrain(ResumableBrain):
    """Pretrains WavJEPA; every number it uses comes from the yaml."""

    def compute_forward(self, batch, stage):
        """Cut windows out of the clips and predict their hidden blocks."""
        self.batch = batch
        batch = batch.to(self.device, non_blocking=True)
        windows = self.cut_windows(batch)
        if stage == sb.Stage.TRAIN:
            return self.modules.wavjepa(windows, batch.mask)
        # without the wrapper, which may wait for processes that have no batch
        return self.hparams.wavjepa(windows, batch.mask)

    def cut_windows(self, batch):
        """Mix scenes and cut standardized windows, a function of the batch."""
        waveform = batch.waveform
        if batch.scene is not None:
            waveform = self.hparams.scene_mixer(waveform, batch.scene)
        windows, lengths = cut_windows(
            waveform, batch.lengths, batch.starts, self.hparams.window_samples
        )
        return standardize(windows, lengths)

    def compute_objectives(self, output, batch, stage):
        """Compare predictions and targets."""
        return masked_mse(output.prediction, output.target, output.mask)

    def check_loss_isfinite(self, loss):
        """Remember whose clips gave a loss that is not finite.

        SpeechBrain's decides on each process alone; ``optimizers_step``
        decides alike on all, since their gradients are averaged by then.
        """
        if not torch.isfinite(loss):
            self.suspects.append(self.batch.keys)

    def optimizers_step(self):
        """Clip all gradients and step, unless they are not finite.

        SpeechBrain's clips the first group of parameters only.
        """
        learning_rate = self.hparams.lr_scheduler(self.optimizer_step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(
            self.trainable, self.max_grad_norm
        )
        self.stepped = bool(torch.isfinite(self.gradient_norm))
        if self.stepped:
            self.optimizer.step()
            self.hparams.wavjepa.frontend.constrain()
            self.optimizer_step += 1
        else:
            self.count_nonfinite_step()
        self.optimizer.zero_grad(set_to_none=True)
        self.suspects = []

    def count_nonfinite_step(self):
        """Report a skipped step; stop after too many of them."""
        self.nonfinite_count += 1
        suspects = gather(self.suspects)  # of the process that had them
        if not any(suspects):
            suspects = gather([self.batch.keys])
        clips = ", ".join(key for keys in sum(suspects, []) for key in keys)
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
        if if_main_process():
            logger.warning(report)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Move the target encoder behind the context encoder; log."""
        self.hparams.stream_state.update(batch.position)
        if batch.scene is not None:
            self.hparams.stream_state.num_bad_scenes += batch.scene.num_bad
        if should_step and self.stepped:
            self.hparams.wavjepa.update_target(
                self.hparams.ema_decay(self.optimizer_step - 1)
            )
            if self.optimizer_step % self.hparams.log_interval_steps == 0:
                self.log_step(outputs, loss.item())

    def _compile(self):
        """Compile parts of the model in place, for any number of tokens.

        SpeechBrain's wraps whole modules, which renames their weights, and
        compiles anew for each number of tokens.
        """
        if not self.compile:
            return
        # it splits graphs between DDP's buckets, not those of changing sizes
        torch._dynamo.config.optimize_ddp = False
        for name in self.compile_module_keys or COMPILED:
            getattr(self.hparams.wavjepa, name).compile(
                mode=self.compile_mode,
                fullgraph=self.compile_using_fullgraph,
                dynamic=True,
            )

    def init_optimizers(self):
        """Give the optimizer the trainable parameters only.

        SpeechBrain's adds the frozen ones of the target encoder. Weight decay
        would pull filters to 0 Hz.
        """
        self.trainable = [
            parameter
            for parameter in self.modules.parameters()
            if parameter.requires_grad
        ]
        frontend = self.hparams.wavjepa.frontend
        undecayed = set(frontend.undecayed_parameters())
        groups = [{"params": [p for p in self.trainable if p not in undecayed]}]
        if undecayed:
            spared = [p for p in self.trainable if p in undecayed]
            groups.append({"params": spared, "weight_decay": 0.0})
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)
        self.suspects = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation, log the epoch and save a checkpoint."""
        self.waiting_after = None
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        stage_loss = self.average_valid_loss()
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "step": self.optimizer_step},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss},
        )
        self.write_log(valid_loss=stage_loss)
        self.save_checkpoint(end_of_epoch=True, meta={"loss": stage_loss})

    @torch.no_grad()
    def log_step(self, output, loss):
        """Log a step; a collapse shows in standard deviations and rank."""
        lengths = output.mask.context.lengths
        pooled = pool_windows(output.context.float(), lengths)
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
    if run_opts.debug:  # beside the output folder, never into it
        plain = read_made_with(hparams_file, overrides, set(), {})
        folder = f"{os.path.abspath(plain['output_folder'])}_debug"
        overrides = override(overrides, output_folder=folder)
    hparams = build(hparams_file, overrides, NO_DATA)
    for name in sorted(run_opts.overridden_args & set(hparams)):
        hparams[name] = run_opts[name]
        overrides += f"\n{name}: {run_opts[name]}"
    return hparams, overrides


def check_settings(hparams):
    """Check settings that depend on each other."""
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


def check_compile(run_opts):
    """Check the options of --compile, which nothing else would before."""
    given = {name for name in run_opts.overridden_args if "compile_" in name}
    if given and not run_opts.compile:
        raise ValueError(f"{sorted(given)} need --compile.")
    unknown = set(run_opts.compile_module_keys or ()) - set(COMPILED)
    if unknown:
        raise ValueError(
            f"--compile_module_keys {sorted(unknown)} must be among {COMPILED}."
        )
    if not run_opts.compile:
        return
    modes = list(torch._inductor.list_mode_options())
    if run_opts.compile_mode not in modes:
        raise ValueError(
            f"--compile_mode {run_opts.compile_mode} must be one of {modes}."
        )


def split_effective_batch(hparams):
    """Derive batches and accumulation of this number of processes.

    A process computes its clips of a step at once, or, if they are more than
    batch_size, in batches whose gradients are accumulated.
    """
    names = "effective_batch", "windows_per_clip", "batch_size"
    windows, per_clip, at_once = sizes = [hparams[name] for name in names]
    for name, size in zip(names, sizes):
        if type(size) is not int or size < 1:
            raise ValueError(f"{name} must be 1, 2, 3 or more, got {size}.")
    processes = count_processes()
    clips, rest = divmod(windows, per_clip * processes)
    if rest:
        raise ValueError(
            f"effective_batch={windows} windows cannot be split over "
            f"{processes} process(es): give a multiple of {processes} x "
            f"windows_per_clip = {per_clip * processes}."
        )
    batch_size = min(at_once, clips)
    if clips % batch_size:
        divisor = max(n for n in range(1, at_once) if clips % n == 0)
        raise ValueError(
            f"batch_size={at_once} does not divide the {clips} clips that "
            f"effective_batch={windows} gives to each of {processes} "
            f"process(es): give another, such as {divisor}."
        )
    hparams["grad_accumulation_factor"] = clips // batch_size
    hparams["train_dataloader_opts"]["batch_size"] = batch_size


def count_processes():
    """Count the processes of this run, as torchrun does."""
    return int(os.environ.get("WORLD_SIZE", 1))


def report_settings(hparams):
    """Print the size of a step and of the whole run."""
    clips = hparams["effective_batch"] // hparams["windows_per_clip"]
    steps = hparams["steps_per_epoch"]
    logger.info(
        f"Effective batch: {clips} clips x {hparams['windows_per_clip']} "
        f"windows = {hparams['effective_batch']} windows, as "
        f"{count_processes()} process(es) x "
        f"{hparams['grad_accumulation_factor']} batch(es) x "
        f"{hparams['train_dataloader_opts']['batch_size']} clips. "
        f"Nominal epoch: {steps} steps, "
        f"{clips * steps * hparams['clip_seconds'] / 3600:.1f} hours of audio. "
        f"Run: {hparams['total_steps']} steps."
    )


def dataio_prepare(hparams):
    """Prepare the streams of training and validation and the collator."""
    make_synthetic_data(hparams)
    train_data, valid_data = make_streams(hparams)
    collate_fn = make_collator(hparams)
    for options in ("train_dataloader_opts", "valid_dataloader_opts"):
        hparams[options]["collate_fn"] = collate_fn
    # not in the yaml, which does not see run options of the command line
    hparams["train_dataloader_opts"]["looped_nominal_epoch"] = (
        hparams["steps_per_epoch"] * hparams["grad_accumulation_factor"]
    )
    hparams["valid_dataloader_opts"]["batch_size"] = None  # it gives batches
    return train_data, valid_data


def main():
    """Read the yaml, pretrain, write what was learned."""
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    ddp_init_group(run_opts)
    log_early()
    hparams, overrides = read_settings(hparams_file, run_opts, overrides)
    check_settings(hparams)
    check_compile(run_opts)
    split_effective_batch(hparams)

    # all that can be wrong shows before anything is written
    train_data, valid_data = dataio_prepare(hparams)
    valid_options = hparams["valid_dataloader_opts"]
    example = next(iter(DataLoader(valid_data, **valid_options)), None)
    brain = WavJEPABrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    probe, data = None, {}
    # of the yaml and its seed: a checkpoint is loaded later
    initial = describe_frontend(hparams)
    if if_main_process():
        logger.info("Looking at the data that the output folder belongs to.")
        data = describe_data(hparams, train_data, valid_data)
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
            train_data,
            valid_data,
            train_loader_kwargs={
                "pin_memory": "cuda" in brain.device,
                **hparams["train_dataloader_opts"],
            },
            valid_loader_kwargs=valid_options,
        )
        is_main = if_main_process()
        if brain.distributed_launch:
            torch.distributed.destroy_process_group()
        if is_main:
            # last, and without the other processes, which end meanwhile
            write_results(brain, hparams, data["train_data"], probe, initial)


if __name__ == "__main__":
    sys.exit(run_script(main))
