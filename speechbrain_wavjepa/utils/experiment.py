"""What every recipe's script does first and last.

A start checks everything before it writes anything: the output folder is
held, so that no second run writes into it, and belongs to the settings and
data that it was made with.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import functools
import importlib.metadata
import logging
import logging.handlers
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import speechbrain as sb
import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import (  # as HyperPyYAML
    YAML,
    MappingNode,
    Node,
    SafeLoader,
    SequenceNode,
)
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
    on_end_signals,
    shorten_worker_error,
)

logger = logging.getLogger(__name__)

RESUME = "start the same command again to resume"

# what is logged before there is a file for it
_early = logging.handlers.MemoryHandler(
    10000, flushLevel=logging.CRITICAL + 1, flushOnClose=False
)


class _TaggedLoader(SafeLoader):
    """Reads what HyperPyYAML would build or call as plain values."""


def _read_tagged(loader: _TaggedLoader, suffix: str, node: Node) -> list:
    """Read a tagged node as its tag and its plain content."""
    if isinstance(node, MappingNode):
        content = loader.construct_mapping(node, deep=True)
    elif isinstance(node, SequenceNode):
        content = loader.construct_sequence(node, deep=True)
    else:
        content = loader.construct_scalar(node)
    return [f"!{suffix}", content]


_TaggedLoader.add_multi_constructor("!", _read_tagged)


def read_made_with(
    hparams_file: Union[str, Path],
    overrides: str,
    without: set[str],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Read all settings that a run's result depends on.

    Arguments
    ---------
    hparams_file : str or Path
        The recipe's yaml.
    overrides : str
        What the command line changes in it.
    without : set of str
        Top-level keys that change nothing in the result (logging, places,
        loaders), and those whose meaning is in ``data``. They are left out
        wherever the yaml refers to them.
    data : Mapping[str, Any]
        Fingerprints of the data and models that the run reads.

    Returns
    -------
    dict[str, Any]
        Plain values for ``utils.files.claim``: references are filled in, and
        nothing is built.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("lr: 1\\nworkers: 2\\nhalf: !ref <lr> / 2\\n")
    >>> read_made_with(path, "lr: 4", {"workers"}, {"clips": "0a1b"})
    {'lr': 4, 'half': 2.0, 'clips': '0a1b'}
    """
    changes = YAML().load(overrides) or {}
    changes.update(dict.fromkeys(without))
    with open(hparams_file, encoding="utf-8") as file:
        resolved = resolve_references(file, changes)
    settings = _TaggedLoader(resolved).get_single_data()
    kept = {key: v for key, v in settings.items() if key not in without}
    return {**kept, **data}


def log_early() -> None:
    """Show what is logged from now on; ``experiment`` adds it to its log.

    Example
    -------
    >>> log_early()
    """
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
    """Hold and claim an output folder, then begin an experiment in it.

    Processes other than the main one write nothing, and end with it if it
    is refused.

    Arguments
    ---------
    output_folder : str or Path
        The folder.
    hparams_file : str or Path
        The recipe's yaml; copied there.
    overrides : str
        What the command line changes in it.
    made_with : Mapping[str, Any]
        As ``read_made_with`` gives it; the main process's counts.
    fresh : bool
        True for a dry run: what the one before left is deleted.

    Yields
    ------
    callable
        Raises an OSError if the folder is no longer this process's; see
        ``utils.files.hold``.

    Raises
    ------
    ValueError
        If another run holds the folder, or it was made with other settings
        or data; nothing was written then.
    """
    folder, refusal, check = Path(output_folder), None, lambda: None
    with contextlib.ExitStack() as stack:
        if if_main_process():
            try:
                check = stack.enter_context(hold(folder))
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
                _keep_script(folder)
                _keep_early_log()
                text = describe_environment()
                (folder / "env.log").write_text(text, encoding="utf-8")
        yield check


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


def _keep_script(folder: Path) -> None:
    """Copy the script that runs; SpeechBrain has copied its caller, this."""
    (folder / Path(__file__).name).unlink(missing_ok=True)
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is not None:
        shutil.copy(script, folder)


def _keep_early_log() -> None:
    """Write what was logged before there was a log file into it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            for record in _early.buffer:
                handler.handle(record)
    _early.buffer.clear()


def describe_environment() -> str:
    """Describe the interpreter that runs, and its packages.

    Returns
    -------
    str
        Lines of text.

    Example
    -------
    >>> describe_environment().splitlines()[0].startswith("Python 3.")
    True
    """
    packages = {
        f"{found.name}=={found.version}"
        for found in importlib.metadata.distributions()
    }
    lines = [
        f"Python {sys.version}",
        f"Interpreter: {sys.executable}",
        f"CUDA: {torch.version.cuda if torch.cuda.is_available() else None}",
        *sorted(packages, key=str.lower),
    ]
    return "\n".join(lines) + "\n"


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
        print(
            f"The log {name} cannot be written: {error}.",
            file=sys.stderr,
        )


def run_script(main: Callable[[], Optional[int]], resume: str = RESUME) -> int:
    """Run a script's main function; what a user can mend is one line.

    Arguments
    ---------
    main : callable
        Gives an exit code, or None for 0.
    resume : str
        What to do after an interruption.

    Returns
    -------
    int
        The exit code: 1 after an error, 130 after Ctrl-C, 143 after SIGTERM
        and 138 after SIGUSR1. The traceback of an error is logged at level
        DEBUG: in an experiment, it is in its log.

    Example
    -------
    >>> run_script(lambda: None)
    0
    """
    try:
        with on_end_signals(exit_by_signal):
            return main() or 0
    except KeyboardInterrupt:
        _say(f"\nInterrupted: {resume}.")
        return 130
    except SignalExit as ended:
        _say(f"\nEnded by {ended.name}: {resume}.")
        return ended.code
    except (ValueError, OSError) as error:
        logger.debug("The error's traceback", exc_info=True)
        message = shorten_worker_error(str(error))
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 1


def _say(line: str) -> None:
    """Print a line once, not on every process of a run."""
    if if_main_process():
        print(line, file=sys.stderr)
