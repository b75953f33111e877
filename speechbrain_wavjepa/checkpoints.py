"""SpeechBrain's checkpoints, made atomic and checksummed.

SpeechBrain 1.1.2 writes ``CKPT.yaml`` first and the parameters after it, so
a process killed in between leaves a folder that looks complete and breaks
the next start. Here a checkpoint is written aside, synced to disk, sealed
with checksums and renamed: it is there whole or not at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Optional

import yaml
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

logger = logging.getLogger(__name__)

CHECKSUM_FILE = "checksums.json"
ASIDE_FOLDER = ".unfinished"


class AtomicCheckpointer(Checkpointer):
    """A Checkpointer whose checkpoints are whole or not there.

    A damaged checkpoint is never loaded: the one before is, with a warning.
    Takes the arguments of SpeechBrain's Checkpointer.

    Raises
    ------
    ValueError
        On recovery, if there are checkpoints and all are damaged, or one
        does not fit the model.
    OSError
        On saving, if the disk does not take the files. Earlier checkpoints
        stay as they are.

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

    def save_checkpoint(self, *args, **kwargs) -> Optional[Checkpoint]:
        """Write a checkpoint aside, then put it in place at once."""
        aside = self.checkpoints_dir / ASIDE_FOLDER
        if if_main_process():
            # what an earlier, killed process may have left
            shutil.rmtree(aside, ignore_errors=True)
        try:
            saved = super().save_checkpoint(*args, **kwargs)
            if saved is not None:  # on the main process
                _seal(saved.path)
                final = self.checkpoints_dir / saved.path.name
                os.rename(saved.path, final)
                _sync(self.checkpoints_dir)
                saved = saved._replace(
                    path=final,
                    paramfiles={
                        name: final / file.name
                        for name, file in saved.paramfiles.items()
                    },
                )
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            free = shutil.disk_usage(self.checkpoints_dir).free / 2**20
            raise OSError(
                error.errno,
                f"The checkpoint could not be saved in {self.checkpoints_dir} "
                f"({error}; {free:.0f} MiB free). Earlier checkpoints are "
                "untouched: make room and start the same command again",
            ) from error
        ddp_barrier()
        return saved

    def save_and_keep_only(self, *args, **kwargs) -> None:
        """Save, then delete the least important checkpoints."""
        # SpeechBrain appends to its default list at every call
        kwargs.setdefault("importance_keys", [])
        super().save_and_keep_only(*args, **kwargs)

    def recover_if_possible(self, *args, **kwargs) -> Optional[Checkpoint]:
        """Load the best checkpoint that is not damaged, if there is any."""
        damaged = [
            path
            for path in self._list_checkpoint_dirs()
            if _read_meta(path) is None
        ]
        for path in damaged:
            logger.warning(f"Passed over {path}: CKPT.yaml is damaged.")
        for checkpoint in self.find_checkpoints(*args, **kwargs):
            damage = find_damage(checkpoint.path)
            if damage is None:
                self.load_checkpoint(checkpoint)
                return checkpoint
            logger.warning(f"Passed over {checkpoint.path}: {damage}.")
            damaged.append(checkpoint.path)
        if damaged:
            raise ValueError(
                f"All {len(damaged)} checkpoints in {self.checkpoints_dir} "
                "are damaged. Restore one from a copy, or delete them to "
                "start from the beginning."
            )
        logger.info("No checkpoint yet: starting from the beginning.")
        return None

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint; explain if it belongs to another model."""
        try:
            super().load_checkpoint(checkpoint)
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"The checkpoint {checkpoint.path} does not fit this model: "
                f"{_shorten(str(error))} Use the yaml that it was made with, "
                "or another output_folder."
            ) from error

    def list_checkpoints(self) -> list[Checkpoint]:
        """List the checkpoints whose CKPT.yaml can be read."""
        return self._construct_checkpoint_objects(
            [
                path
                for path in self._list_checkpoint_dirs()
                if _read_meta(path) is not None
            ]
        )

    def _new_checkpoint_dirpath(self) -> Path:
        """Choose a free name; the folder itself is written aside."""
        name = super()._new_checkpoint_dirpath().name
        return self.checkpoints_dir / ASIDE_FOLDER / name

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        """Take the given name; the folder itself is written aside."""
        path = super()._custom_checkpoint_dirpath(name)
        if path.exists():
            raise ValueError(
                f"The checkpoint {path} exists: choose another name."
            )
        return self.checkpoints_dir / ASIDE_FOLDER / path.name


def find_damage(folder: Path) -> Optional[str]:
    """Compare a checkpoint with its checksums.

    Arguments
    ---------
    folder : Path
        The checkpoint's folder.

    Returns
    -------
    str or None
        What is wrong with it; None if it is whole. One that SpeechBrain's
        own Checkpointer wrote has no checksums and counts as whole if no
        file is empty.

    Example
    -------
    >>> folder = Path(getfixture("tmpdir"))
    >>> _ = (folder / "model.ckpt").write_bytes(b"")
    >>> find_damage(folder)
    'model.ckpt is empty'
    """
    checksum_file = folder / CHECKSUM_FILE
    if not checksum_file.exists():
        for path in sorted(folder.iterdir()):
            if path.stat().st_size == 0:
                return f"{path.name} is empty"
        logger.warning(f"{folder} has no {CHECKSUM_FILE}: not verified.")
        return None
    try:
        checksums = json.loads(checksum_file.read_text(encoding="utf-8"))
    except ValueError:
        return f"{CHECKSUM_FILE} is damaged"
    for name, expected in checksums.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if _hash_file(path) != expected:
            return f"{name} differs from its checksum"
    return None


def _seal(folder: Path) -> None:
    """Bring all files to disk and write their checksums beside them."""
    checksums = {}
    for path in sorted(folder.iterdir()):
        _sync(path)
        checksums[path.name] = _hash_file(path)
    checksum_file = folder / CHECKSUM_FILE
    checksum_file.write_text(json.dumps(checksums, indent=1), encoding="utf-8")
    _sync(checksum_file)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_file(path: Path) -> str:
    """Hash a file without reading it at once."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**22):
            digest.update(part)
    return digest.hexdigest()


def _read_meta(folder: Path) -> Optional[dict]:
    """Read CKPT.yaml; None if it is not what SpeechBrain writes."""
    try:
        text = (folder / "CKPT.yaml").read_text(encoding="utf-8")
        meta = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(meta, dict) or "unixtime" not in meta:
        return None
    return meta


def _shorten(message: str, most: int = 600) -> str:
    """Keep the beginning of a long list of mismatches."""
    message = " ".join(message.split())
    return message if len(message) <= most else message[:most] + " ..."
