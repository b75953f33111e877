"""What every recipe's script does first and last.

A start checks everything before it writes anything: no other run holds the
output folder, and it was made with the same settings and data.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import difflib
import functools
import importlib.metadata
import io
import logging
import logging.handlers
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import Signals
from typing import Any, Optional, Union

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, MappingNode, SafeLoader, SequenceNode
from ruamel.yaml.error import YAMLError
from speechbrain.utils.distributed import ddp_broadcast, if_main_process

from speechbrain_wavjepa.utils.files import (
    LOCK_FILE,
    MADE_WITH_FILE,
    claim,
    hold,
    read_note,
)
from speechbrain_wavjepa.utils.processes import (
    SignalExit,
    exit_by_signal,
    explain_lost_process,
    name_machines,
    on_end_signals,
    shorten_worker_error,
)

logger = logging.getLogger(__name__)

RESUME = "start the same command again to resume"

# keeps what is logged before there is a file for it
_early = logging.handlers.MemoryHandler(
    10000, flushLevel=logging.CRITICAL + 1, flushOnClose=False
)


class _TaggedLoader(SafeLoader):
    """Reads what HyperPyYAML would build as its tag and plain values."""

    def construct_tagged(self, suffix: str, node: Any) -> list:
        """Read a tagged node."""
        if isinstance(node, MappingNode):
            content = self.construct_mapping(node, deep=True)
        elif isinstance(node, SequenceNode):
            content = self.construct_sequence(node, deep=True)
        else:
            content = self.construct_scalar(node)
        return [f"!{suffix}", content]


_TaggedLoader.add_multi_constructor("!", _TaggedLoader.construct_tagged)


def read_made_with(
    hparams_file: Union[str, Path],
    overrides: str,
    without: set[str],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Read all settings that a run's result depends on, as plain values.

    References are filled in and nothing is built. The keys ``without`` (of
    logging, places, loaders) are left out wherever the yaml refers to them;
    ``data`` are fingerprints of data and models.
    """
    changes = YAML().load(overrides) or {}
    changes.update(dict.fromkeys(without))
    with open(hparams_file, encoding="utf-8") as file:
        resolved = resolve_references(file, changes)
    settings = _TaggedLoader(resolved).get_single_data()
    kept = {key: v for key, v in settings.items() if key not in without}
    return {**kept, **data}


@contextlib.contextmanager
def explain_settings(
    hparams_file: Union[str, Path],
    way_out: str = "Give it on the command line.",
) -> Iterator[None]:
    """Name the setting that is unknown, missing, wrong or given twice."""
    try:
        yield
    except YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ValueError(f"The command line: {problem}.") from error
    except (KeyError, TypeError) as error:
        if unknown := re.match(r"\W*Override '(\w+)' not found", str(error)):
            text = Path(hparams_file).read_text(encoding="utf-8")
            names = re.findall(r"^(\w+):", text, re.MULTILINE)
            close = difflib.get_close_matches(unknown[1], names)
            error = f"there is no setting {unknown[1]}, did you mean {close}?"
        raise ValueError(f"{hparams_file}: {error}") from None
    except ValueError as error:
        if "!PLACEHOLDER" not in str(error):
            raise
        raise ValueError(f"{hparams_file}: {error} {way_out}") from error


def build(
    hparams_file: Union[str, Path], overrides: str, *way_out: str
) -> dict[str, Any]:
    """Load a yaml as HyperPyYAML does; a wrong setting is a user's error."""
    text = Path(hparams_file).read_text(encoding="utf-8")
    with explain_settings(hparams_file, *way_out):
        return load_hyperpyyaml(text, overrides)


def override(overrides: str, **values: Any) -> str:
    """Set plain values on top of what the command line changes."""
    reader, text = YAML(), io.StringIO()  # which keeps tags
    reader.dump({**(reader.load(overrides) or {}), **values}, text)
    return text.getvalue()


def log_early() -> None:
    """Show what is logged from now on; ``experiment`` adds it to its log."""
    logging.basicConfig(format="%(name)s - %(message)s")
    root = logging.getLogger()
    root.setLevel(logging.INFO if if_main_process() else logging.WARNING)
    root.addHandler(_early)


@contextlib.contextmanager
def experiment(
    output_folder: Union[str, Path],
    hparams_file: Union[str, Path],
    overrides: str,
    made_with: Mapping[str, Any],
    fresh: bool = False,
) -> Iterator[Callable[[], None]]:
    """Hold and claim an output folder, then begin SpeechBrain's experiment.

    If either is refused, nothing is written and all processes end. A ``fresh``
    start, a dry run, deletes what the one before left. Yields hold's check.
    Several machines must share the folder: they resume from what is in it.
    """
    folder, refusal, check = Path(output_folder), None, lambda: None
    with contextlib.ExitStack() as stack:
        if if_main_process():
            try:
                check = stack.enter_context(hold(folder))
            except (OSError, ValueError) as error:
                refusal = error
        refusal = ddp_broadcast(refusal) or _refuse_unshared(folder)
        if refusal is None and if_main_process():
            try:
                if fresh:
                    made_with = {**made_with, "dry_run": True}
                    _empty(folder)
                claim(folder, made_with)
            except (OSError, ValueError) as error:
                refusal = error
        refusal = ddp_broadcast(refusal)
        if refusal is not None:
            raise refusal if if_main_process() else SystemExit(1)
        with _calm_logs():
            sb.create_experiment_directory(
                experiment_directory=str(folder),
                hyperparams_to_save=str(hparams_file),
                overrides=overrides,
                save_env_desc=False,  # it asks another interpreter's pip
            )
            if if_main_process():
                # SpeechBrain has copied its caller, this file
                (folder / Path(__file__).name).unlink(missing_ok=True)
                if script := getattr(sys.modules["__main__"], "__file__", None):
                    shutil.copy(script, folder)
                text = describe_environment()
                (folder / "env.log").write_text(text, encoding="utf-8")
                for handler in logging.getLogger().handlers:
                    if isinstance(handler, logging.FileHandler):
                        _early.setTarget(handler)
                _early.flush()
        yield check


def _refuse_unshared(folder: Path) -> Optional[ValueError]:
    """Look for a file of the main process from the other machines."""
    with contextlib.ExitStack() as stack:
        name = None
        if if_main_process():
            mark = tempfile.NamedTemporaryFile(prefix=".", dir=folder)
            name = Path(stack.enter_context(mark).name).name
        name = ddp_broadcast(name)
        machines = name_machines(not (folder / name).exists())
    if not machines:
        return None
    return ValueError(
        f"{folder} on {machines} is another folder than that of the main "
        "process: choose an output_folder on a disk that all machines share."
    )


def _empty(folder: Path) -> None:
    """Delete what a dry run left; folders that it writes into stay."""
    note = folder / MADE_WITH_FILE
    if not (note.exists() and "dry_run" in read_note(note)):
        return  # a real run's: it is refused when it is claimed
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.mkdir()
        elif path.name != LOCK_FILE:
            path.unlink()


def describe_environment() -> str:
    """Describe the interpreter that runs; SpeechBrain asks the path's pip."""
    found = importlib.metadata.distributions()
    packages = {f"{package.name}=={package.version}" for package in found}
    cuda = torch.version.cuda if torch.cuda.is_available() else None
    lines = [f"Python {sys.version}", f"Interpreter: {sys.executable}"]
    lines += [f"CUDA: {cuda}", *sorted(packages, key=str.lower), ""]
    return "\n".join(lines)


@contextlib.contextmanager
def _calm_logs() -> Iterator[None]:
    """Let a log that cannot be written be one line, not many tracebacks."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield  # here the logs are opened, and already written
    finally:
        logging.raiseExceptions = before
    for handler in logging.getLogger().handlers:
        handler.handleError = functools.partial(_tell_once, handler)


def _tell_once(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Tell that a log cannot be written, as when the disk is full."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        logging.Handler.handleError(handler, record)
        return
    handler.handleError = lambda record: None
    name = getattr(handler, "baseFilename", "on the screen")
    with contextlib.suppress(OSError):  # where nothing can be told
        print(f"The log {name} cannot be written: {error}.", file=sys.stderr)


def run_script(main: Callable[[], Optional[int]], resume: str = RESUME) -> int:
    """Run a script's main function; what a user can mend is one line.

    Gives the exit code: main's, 1 after an error, 128 + number after a signal.
    """
    try:
        with on_end_signals(exit_by_signal), explain_lost_process(resume):
            return main() or 0
    except (KeyboardInterrupt, SignalExit) as end:
        code, reason = 130, "Interrupted"
        if isinstance(end, SignalExit):
            code, reason = end.code, f"Ended by {Signals(end.code - 128).name}"
        if if_main_process():
            print(f"\n{reason}: {resume}.", file=sys.stderr)
        return code
    except (ValueError, OSError) as error:
        logger.debug("The error's traceback", exc_info=True)
        message = shorten_worker_error(str(error))
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 1
