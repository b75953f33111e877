"""Make tasks in the layout of HEAR: of your own sounds, or in rooms.

    python hear_prepare.py --from_folder DIR --output TASKS_DIR --name pets
    python hear_prepare.py --from_folder TABLE.csv --output TASKS_DIR \
        --name pets
    python hear_prepare.py --naturalistic TASK_FOLDER --output TASKS_DIR \
        --brir_folder BANK --noise_folder NOISES

A folder holds a folder of files for each class. A table has the columns file
and label, and optionally start, end (milliseconds) and split; files are named
by absolute paths, or by paths from the table's folder. Of a task in rooms
(Nat-HEAR) there is a version for two ears, binaural/, and one for mono models,
omni/; it takes the rooms of the bank's test part. A task that is there
already, made of the same sounds, is kept; one that was made of others is
refused.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from pathlib import Path

from task_writer import (
    read_class_folders,
    read_table,
    write_task,
)

from speechbrain_wavjepa.augment import BRIRBank, NoiseFolder, SceneSampler
from speechbrain_wavjepa.augment.brir import RECEIVERS
from speechbrain_wavjepa.dataio.shards import is_clip_name
from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.naturalistic import write_naturalistic
from speechbrain_wavjepa.utils.experiment import run_script
from speechbrain_wavjepa.utils.files import fingerprint_files, path_inside


def make_own(options):
    """Make a task of labelled sounds and check it as the probes will."""
    source = Path(options.from_folder)
    if "/" in options.name:
        raise ValueError(f"--name={options.name} must be a name without '/'.")
    folder = path_inside(options.output, f"{options.name}-v1-full")
    is_table = source.suffix.lower() == ".csv"
    read = read_table if is_table else read_class_folders
    counts = write_task(
        folder, read(source), options.name, options.sample_rate, options.seed
    )
    listed = ", ".join(f"{split} {count}" for split, count in counts.items())
    print(f"{folder}: {listed}.")


def make_naturalistic(options):
    """Put a task into rooms."""
    rate = options.sample_rate
    bank = BRIRBank(options.brir_folder, rate, "test", RECEIVERS)
    noises = NoiseFolder(options.noise_folder, rate)
    sampler = SceneSampler(bank, noises, sample_rate=rate)
    task = HearTask(options.naturalistic, rate)
    drawn_from = {
        "rooms": fingerprint_folder(
            options.brir_folder, lambda name: name.endswith(".tar")
        ),
        "noises": fingerprint_folder(options.noise_folder, is_clip_name),
    }
    for folder in write_naturalistic(
        task, options.output, sampler, options.seed, drawn_from
    ):
        print(f"{folder}: {', '.join(task.splits)}.")


def fingerprint_folder(folder, is_wanted):
    """Tell a folder of rooms or noises apart by its content."""
    folder = Path(folder)
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if is_wanted(path.name) and path.is_file()
    ]
    return fingerprint_files(folder, names)


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from_folder", help="your sounds, or a .csv")
    source.add_argument("--naturalistic", help="a task folder")
    parser.add_argument("--output", required=True, help="folder of tasks")
    parser.add_argument("--name", help="of your task")
    parser.add_argument("--brir_folder", help="from scenes_prepare.py")
    parser.add_argument("--noise_folder", help="recordings of noise")
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.from_folder and not options.name:
        parser.error("--from_folder needs --name")
    if options.naturalistic and not (
        options.brir_folder and options.noise_folder
    ):
        parser.error("--naturalistic needs --brir_folder and --noise_folder")
    return options


def main():
    """Make what is asked for, or nothing."""
    options = read_options()
    make = make_own if options.from_folder else make_naturalistic
    make(options)


if __name__ == "__main__":
    sys.exit(run_script(main, "nothing was written; start it again"))
