"""SpeechBrain's checkpoints, made atomic and checksummed.

SpeechBrain 1.1.2 writes ``CKPT.yaml`` first and the parameters after it: a
process killed in between leaves a folder that breaks the next start. Here a
checkpoint is written aside, checksummed, synced to disk and renamed.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import yaml
from speechbrain.utils.checkpoints import (
    DEFAULT_SAVE_HOOKS,
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
    Checkpointer,
    get_default_hook,
)
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_barrier,
    ddp_broadcast,
    if_main_process,
)

from speechbrain_wavjepa.utils.files import hash_file, path_inside, sync

logger = logging.getLogger(__name__)

CHECKSUM_FILE = "checksums.json"
ASIDE_FOLDER = ".unfinished"  # SpeechBrain looks at CKPT* only


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, whose checkpoints are whole or not there.

    A damaged checkpoint is never loaded: the one before is, with a warning. A
    saver may talk to other processes before it writes, not after.

    Arguments
    ---------
    checkpoints_dir, recoverables, ... : Any
        As of SpeechBrain's Checkpointer.

    Raises
    ------
    ValueError
        On recovery, if all checkpoints are damaged, or one is of another
        model.
    OSError
        On saving, on every process, if the disk does not take the files.

    Example
    -------
    >>> import torch
    >>> folder, model = getfixture("tmp_path"), torch.nn.Linear(2, 2)
    >>> checkpointer = AtomicCheckpointer(folder, {"model": model})
    >>> saved = checkpointer.save_checkpoint()
    >>> checkpointer.recover_if_possible().path == saved.path
    True
    """

    def save_checkpoint(
        self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO
    ) -> Optional[Checkpoint]:
        """Write a checkpoint aside, then put it in place at once.

        Unlike SpeechBrain's, all processes raise an error of the main one.
        """
        hooks = {
            key: self.custom_save_hooks.get(key)
            or get_default_hook(recoverable, DEFAULT_SAVE_HOOKS)
            for key, recoverable in self.recoverables.items()
        }
        if None in hooks.values():
            raise ValueError(f"Add custom_save_hooks for the None in {hooks}.")
        aside, errors, saved = self.checkpoints_dir / ASIDE_FOLDER, [], None
        # 1. The main process makes an empty folder; the others wait for it.
        with _collect(errors):
            if if_main_process():
                self._make_empty(aside)
        ddp_barrier()
        # 2. All savers run; here they do not wait for the main process.
        with MainProcessContext():
            for key, hook in hooks.items():
                with _collect(errors):
                    hook(self.recoverables[key], aside / (key + PARAMFILE_EXT))
        # 3. The main process seals what was written and gives it its name.
        with _collect(errors):
            if if_main_process() and not errors:
                saved = self._commit(aside, meta, end_of_epoch, name)
                logger.log(verbosity, f"Saved the checkpoint {saved.path}")
        # 4. All processes learn of its first error.
        error = ddp_broadcast(str(errors[0]) if errors else None)
        if errors:
            shutil.rmtree(aside, ignore_errors=True)
        if error is not None:
            raise OSError(
                f"The checkpoint could not be saved in {self.checkpoints_dir}: "
                f"{error}. Earlier ones are untouched. Make room, or put the "
                "folder back, and start the same command again to resume."
            ) from (errors[0] if errors else None)
        return saved

    def save_and_keep_only(self, *args, **kwargs) -> None:
        """Save, then delete the least important checkpoints."""
        # SpeechBrain appends to this list, its shared default included
        kwargs["importance_keys"] = list(kwargs.get("importance_keys", ()))
        super().save_and_keep_only(*args, **kwargs)

    def recover_if_possible(self, *args, **kwargs) -> Optional[Checkpoint]:
        """Load the best checkpoint that is not damaged, if there is any.

        The main process chooses for all: a disk may show others older files.
        """
        name, error = "", None
        if if_main_process():
            try:
                name = self._find_whole(*args, **kwargs)
            except (OSError, ValueError) as caught:
                error = caught
        name, error = ddp_broadcast((name, error))
        if error is not None:
            raise error
        if not name:
            logger.info("No checkpoint yet: starting from the beginning.")
            return None
        path = self.checkpoints_dir / name
        [checkpoint] = self._construct_checkpoint_objects([path])
        self.load_checkpoint(checkpoint)
        return checkpoint

    def _find_whole(self, *args, **kwargs) -> str:
        """Name the best checkpoint that is not damaged; "" if there is none."""
        paths = self._list_checkpoint_dirs()
        paths = [path for path in paths if find_damage(path, quick=True)]
        found, damaged = self.find_checkpoints(*args, **kwargs), []
        for path in [*paths, *(checkpoint.path for checkpoint in found)]:
            damage = find_damage(path)
            if damage is None:
                return path.name
            damaged.append(f"{path}: {damage}")
            logger.warning(f"Passed over a checkpoint, {damaged[-1]}.")
        if damaged:
            raise ValueError(
                f"All {len(damaged)} checkpoints are damaged "
                f"({'; '.join(damaged)}): restore one, or delete them."
            )
        return ""

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint; explain why if it is of another model."""
        for name in self.recoverables:  # only add_recoverable fills this
            self.optional_recoverables.setdefault(name, False)
        try:
            super().load_checkpoint(checkpoint)
        except RuntimeError as error:
            raise ValueError(
                f"{checkpoint.path} does not fit this run: resume with its own "
                f"yaml, or choose another output_folder. {str(error)[:600]}"
            ) from error

    def list_checkpoints(self) -> list[Checkpoint]:
        """List the checkpoints whose CKPT.yaml, which orders them, is whole."""
        paths = self._list_checkpoint_dirs()
        paths = [path for path in paths if not find_damage(path, quick=True)]
        return self._construct_checkpoint_objects(paths)

    def _make_empty(self, aside: Path) -> None:
        """Make an empty folder; what a killed process left goes."""
        if not self.checkpoints_dir.exists():
            logger.warning(f"{self.checkpoints_dir} was removed: made again.")
            self.checkpoints_dir.mkdir()
        shutil.rmtree(aside, ignore_errors=True)  # mkdir fails if it stays
        aside.mkdir()

    def _commit(
        self, aside: Path, meta: Optional[dict], end_of_epoch: bool, name: str
    ) -> Checkpoint:
        """Complete and seal what was written aside, and give it its name."""
        final = self._new_checkpoint_dirpath()
        if name is not None:
            final = self._custom_checkpoint_dirpath(name)
        if final.exists():
            raise FileExistsError(f"{final} exists, choose another name")
        meta = {**(meta or {}), "checksums": CHECKSUM_FILE}
        self._save_checkpoint_metafile(aside / METAFNAME, meta, end_of_epoch)
        seal = {path.name: hash_file(path) for path in aside.iterdir()}
        (aside / CHECKSUM_FILE).write_text(json.dumps(seal, indent=1))
        for path in [*aside.iterdir(), aside]:
            sync(path)
        os.rename(aside, final)
        sync(self.checkpoints_dir)
        return self._construct_checkpoint_objects([final])[0]


def find_damage(folder: Path, quick: bool = False) -> Optional[str]:
    """Say what is wrong with a checkpoint, if quick its CKPT.yaml, or None."""
    name = METAFNAME  # what is looked at
    try:
        text = (folder / name).read_text(encoding="utf-8")
        meta = yaml.safe_load(text)
        kinds = type(meta["unixtime"]), type(meta["end-of-epoch"])
        if kinds != (float, bool):
            return f"{name} is damaged"
        if CHECKSUM_FILE not in text and not (folder / CHECKSUM_FILE).exists():
            logger.warning(f"{folder} has no {CHECKSUM_FILE}: not verified.")
            return None  # of SpeechBrain's own Checkpointer
        name = CHECKSUM_FILE
        seal = dict(json.loads((folder / name).read_bytes()))
        paths = {name: path_inside(folder, name) for name in seal}
        for name in [METAFNAME] if quick else paths:
            if hash_file(paths[name]) != seal[name]:
                return f"{name} differs from its checksum"
    except FileNotFoundError:
        return f"{name} is missing"
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        return f"{name} is damaged"
    return None


@contextlib.contextmanager
def _collect(errors: list) -> Iterator[None]:
    """Collect the main process's errors, so that it stays in step."""
    try:
        yield
    # torch.save meets a full disk with a RuntimeError
    except (OSError, RuntimeError) as error:
        if not if_main_process():
            raise
        errors.append(error)
