"""SpeechBrain's checkpoints, made atomic and checksummed.

SpeechBrain 1.1.2 writes ``CKPT.yaml`` first and the parameters after it, so
a process killed in between leaves a folder that looks complete and breaks
the next start. Here a checkpoint is written aside, synced to disk, sealed
with checksums and renamed: it is there whole or not at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import json
import logging
import os
import shutil
import zipfile
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
    """A Checkpointer whose checkpoints are whole or not there.

    A damaged checkpoint is never loaded: the one before is, with a warning.
    Takes the arguments of SpeechBrain's Checkpointer. A saver may talk to
    other processes before it writes, not after: the writing may fail.

    Raises
    ------
    ValueError
        On recovery, if there are checkpoints and all are damaged, or one
        is of another model.
    OSError
        On saving, on every process, if the disk does not take the files.
        Earlier checkpoints stay as they are.

    Example
    -------
    >>> import torch
    >>> model = torch.nn.Linear(2, 2)
    >>> checkpointer = AtomicCheckpointer(
    ...     getfixture("tmpdir"), {"model": model}
    ... )
    >>> saved = checkpointer.save_checkpoint()
    >>> find_damage(saved.path) is None
    True
    >>> checkpointer.recover_if_possible().path == saved.path
    True
    """

    def save_checkpoint(
        self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO
    ) -> Optional[Checkpoint]:
        """Write a checkpoint aside, then put it in place at once.

        Takes SpeechBrain's arguments; gives the Checkpoint on the main
        process and None on the others.
        """
        hooks = {
            key: self.custom_save_hooks.get(key)
            or get_default_hook(recoverable, DEFAULT_SAVE_HOOKS)
            for key, recoverable in self.recoverables.items()
        }
        if None in hooks.values():
            raise ValueError(f"Add custom_save_hooks for the None in {hooks}.")
        aside = self.checkpoints_dir / ASIDE_FOLDER
        errors, saved, failure = [], None, None
        with _collect(errors):
            if if_main_process():
                if not self.checkpoints_dir.exists():
                    logger.warning(
                        f"{self.checkpoints_dir} was removed during the run, "
                        "and earlier checkpoints with it: made again."
                    )
                    self.checkpoints_dir.mkdir()
                # what a killed process left; mkdir fails if it cannot go
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
        ddp_barrier()
        # here savers do not wait for the main process, which may have failed
        with MainProcessContext():
            for key, hook in hooks.items():
                with _collect(errors):
                    hook(self.recoverables[key], aside / (key + PARAMFILE_EXT))
        with _collect(errors):
            if if_main_process() and not errors:
                meta = {**(meta or {}), "checksums": CHECKSUM_FILE}
                saved = self._commit(aside, meta, end_of_epoch, name)
                logger.log(verbosity, f"Saved the checkpoint {saved.path}")
        if errors:
            shutil.rmtree(aside, ignore_errors=True)
            failure = (
                f"The checkpoint could not be saved in {self.checkpoints_dir}: "
                f"{errors[0]} ({self._describe_room()}). Make room, or put the "
                "folder back, and start the same command again to resume."
            )
        failure = ddp_broadcast(failure)
        if failure is not None:
            raise OSError(failure) from (errors[0] if errors else None)
        return saved

    def save_and_keep_only(self, *args, **kwargs) -> None:
        """Save, then delete the least important checkpoints."""
        # SpeechBrain appends to this list, its shared default included
        kwargs["importance_keys"] = list(kwargs.get("importance_keys", ()))
        super().save_and_keep_only(*args, **kwargs)

    def recover_if_possible(self, *args, **kwargs) -> Optional[Checkpoint]:
        """Load the best checkpoint that is not damaged, if there is any."""
        damaged = []
        for path in self._list_checkpoint_dirs():
            if damage := _find_meta_damage(path):
                damaged.append(f"{path}: {damage}")
                logger.warning(f"Passed over a checkpoint, {damaged[-1]}.")
        for checkpoint in self.find_checkpoints(*args, **kwargs):
            damage = find_damage(checkpoint.path)
            if damage is None:
                self.load_checkpoint(checkpoint)
                return checkpoint
            damaged.append(f"{checkpoint.path}: {damage}")
            logger.warning(f"Passed over a checkpoint, {damaged[-1]}.")
        if damaged:
            raise ValueError(
                f"All {len(damaged)} checkpoints in {self.checkpoints_dir} "
                f"are damaged ({'; '.join(damaged)}). Restore one from a "
                "copy, or delete them to start from the beginning."
            )
        logger.info("No checkpoint yet: starting from the beginning.")
        return None

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint; explain why if it is of another model."""
        for name in self.recoverables:  # only add_recoverable fills this
            self.optional_recoverables.setdefault(name, False)
        try:
            super().load_checkpoint(checkpoint)
        except RuntimeError as error:
            raise ValueError(
                f"The checkpoint {checkpoint.path} does not fit this run: "
                f"{' '.join(str(error).split())[:600]} Resume with the yaml "
                "that it was made with, or begin a new run in another "
                "output_folder."
            ) from error

    def list_checkpoints(self) -> list[Checkpoint]:
        """List the checkpoints whose CKPT.yaml is whole."""
        # small, and it decides the order: verified whenever it is used
        paths = self._list_checkpoint_dirs()
        return self._construct_checkpoint_objects(
            [path for path in paths if _find_meta_damage(path) is None]
        )

    def _describe_room(self) -> str:
        """Say what a user can do something about."""
        try:
            free = shutil.disk_usage(self.checkpoints_dir).free / 2**20
        except OSError:
            return "the folder was removed"
        return f"{free:.0f} MiB free; earlier checkpoints are untouched"

    def _commit(
        self, aside: Path, meta: dict, end_of_epoch: bool, name: Optional[str]
    ) -> Checkpoint:
        """Complete and seal what was written aside, and give it its name."""
        if name is None:
            final = self._new_checkpoint_dirpath()
        else:
            final = self._custom_checkpoint_dirpath(name)
        if final.exists():
            raise FileExistsError(f"{final} exists, choose another name")
        meta = self._save_checkpoint_metafile(
            aside / METAFNAME, meta, end_of_epoch
        )
        seal = {}
        for path in sorted(aside.iterdir()):
            sync(path)
            seal[path.name] = _measure(path)
        text = json.dumps(seal, indent=1)
        (aside / CHECKSUM_FILE).write_text(text, encoding="utf-8")
        sync(aside / CHECKSUM_FILE)
        sync(aside)
        os.rename(aside, final)
        sync(self.checkpoints_dir)
        names = self.recoverables
        files = {key: final / (key + PARAMFILE_EXT) for key in names}
        return Checkpoint(final, meta, files)


def find_damage(folder: Path) -> Optional[str]:
    """Compare all files of a checkpoint with its checksums.

    Arguments
    ---------
    folder : Path
        The checkpoint's folder.

    Returns
    -------
    str or None
        What is wrong with it; None if it is whole. One that SpeechBrain's
        own Checkpointer wrote has no checksums and counts as whole, with a
        warning, if no file is empty or cut off.

    Example
    -------
    >>> find_damage(Path(getfixture("tmpdir")))
    'CKPT.yaml is missing'
    """
    if damage := _find_meta_damage(folder):
        return damage
    seal = _read_seal(folder)
    if seal is None:
        if (folder / CHECKSUM_FILE).exists():
            return f"{CHECKSUM_FILE} is damaged"
        if CHECKSUM_FILE in (folder / METAFNAME).read_text(encoding="utf-8"):
            return f"{CHECKSUM_FILE} is missing"
        for path in sorted(folder.iterdir()):
            with open(path, "rb") as file:
                start = file.read(2)
            if not start:
                return f"{path.name} is empty"
            if start == b"PK" and not zipfile.is_zipfile(path):
                return f"{path.name} is cut off"
        logger.warning(f"{folder} has no {CHECKSUM_FILE}: not verified.")
        return None
    for name, expected in seal.items():
        if not (folder / name).exists():
            return f"{name} is missing"
        if _measure(folder / name) != expected:
            return f"{name} differs from its checksum"
    return None


def _find_meta_damage(folder: Path) -> Optional[str]:
    """Say what is wrong with CKPT.yaml; None if nothing is."""
    path = folder / METAFNAME
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinds = type(meta["unixtime"]), type(meta["end-of-epoch"])
    except FileNotFoundError:
        return f"{METAFNAME} is missing"
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        kinds = None
    if kinds != (float, bool):
        return f"{METAFNAME} is damaged"
    seal = _read_seal(folder)
    if seal is not None and seal.get(METAFNAME) != _measure(path):
        return f"{METAFNAME} differs from its checksum"
    return None


def _read_seal(folder: Path) -> Optional[dict]:
    """Read the checksums; None if they are missing or damaged."""
    try:
        seal = dict(json.loads((folder / CHECKSUM_FILE).read_bytes()))
        for name in seal:
            path_inside(folder, name)
        return seal
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _measure(path: Path) -> dict:
    """Give a file's size and hash, without reading it at once."""
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


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
