"""A Brain whose run resumes exactly and ends when it is asked to.

SpeechBrain's Brain counts epochs and knows no signals. This one counts
optimizer steps, saves between them only, and saves and ends on SIGTERM and
SIGUSR1, on all processes together. Each process validates on batches of its
own.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import logging

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_wavjepa.utils.experiment import RESUME
from speechbrain_wavjepa.utils.processes import (
    LoaderWorkers,
    exit_by_signal,
    explain_dead_workers,
    gather,
    largest,
    on_end_signals,
)

logger = logging.getLogger(__name__)


class ResumableBrain(sb.Brain):
    """Trains for ``hparams.total_steps``, in nominal epochs of steps."""

    signal = 0  # one that asks this process to end
    waiting_after = None  # the batch after which the next one is waited for

    def fit(self, epoch_counter, *args, train_loader_kwargs, **kwargs):
        """Train for total_steps, or until a signal asks to save and end.

        SpeechBrain's counts epochs, and a worker that dies leaves no advice.
        """
        self.optimizer_step_limit = self.hparams.total_steps
        epochs = self.nominal_epochs(epoch_counter)
        options = {**train_loader_kwargs, "worker_init_fn": LoaderWorkers()}
        advice = (
            f"{RESUME}. If it happens again, lower num_workers "
            f"({self.hparams.num_workers}), shuffle_buffer "
            f"({self.hparams.shuffle_buffer}) or batch_size "
            f"({train_loader_kwargs['batch_size']}) and begin in another "
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

    def on_fit_start(self):
        """Recover, then forget what was logged after the recovered step."""
        super().on_fit_start()
        if if_main_process():
            # an epoch's last step is 0 once it was validated and saved
            self.hparams.step_log.forget_after(
                self.optimizer_step, validated=self.step == 0
            )

    def on_stage_start(self, stage, epoch=None):
        """Note that no batch is waited for yet."""
        self.waiting_after = None
        self.valid_losses = []

    def _fit_valid(self, valid_set, epoch, enable):
        """Validate until no process has a batch left."""
        super()._fit_valid(self.in_step(valid_set), epoch, enable)

    def in_step(self, batches):
        """Give batches, and None as long as only other processes have any."""
        batches = iter(batches)
        while True:
            batch = next(batches, None)
            if not largest(int(batch is not None), self.device):
                return
            yield batch

    def average_valid_loss(self):
        """Average the losses of all processes, in the order of one alone."""
        rounds = itertools.zip_longest(*gather(self.valid_losses))
        losses = [loss for row in rounds for loss in row if loss is not None]
        average = 0.0
        for self.step, loss in enumerate(losses, 1):
            average = self.update_average(loss, average)
        self.step = 0
        return average

    def evaluate_batch(self, batch, stage):
        """Compute the loss of a held-out batch, unless a signal asks to end.

        SpeechBrain's saves nothing during validation.
        """
        if self.signal_to_any:
            # as behind the last step of the epoch: it is validated anew
            options = self.hparams.train_dataloader_opts
            self.step = options["looped_nominal_epoch"]
            self.avg_train_loss = self.train_loss
            self.save_checkpoint(end_of_epoch=False, meta={})
        if batch is None:
            return torch.tensor(torch.nan)  # which no average counts
        loss = super().evaluate_batch(batch, stage)
        self.valid_losses.append(loss)
        return loss

    def _should_save_intra_epoch_ckpt(self, *args):
        """Decide as SpeechBrain, but between optimizer steps only.

        A checkpoint within an accumulation would lose the gradients so far.
        """
        if self.step % self.grad_accumulation_factor:
            return False
        asked = super()._should_save_intra_epoch_ckpt(*args)
        if asked or self.signal_to_any:
            return True
        self.waiting_after = self.step
        return False

    def _save_intra_epoch_ckpt(self):
        """Save within an epoch; SpeechBrain's would delete the one before."""
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
