"""Make a task in the layout of HEAR out of your own labelled sounds.

    python hear_prepare.py --from_folder DIR --output TASKS_DIR --name pets
    python hear_prepare.py --from_folder TABLE.csv --output TASKS_DIR \
        --name pets

A folder holds a folder of files for each class. A table has the columns file
and label, and maybe start, end (milliseconds) and split.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from pathlib import Path

from speechbrain_wavjepa.downstream.task_writer import (
    read_class_folders,
    read_table,
    write_task,
)
from speechbrain_wavjepa.downstream.tasks import HearTask


def main(arguments=None):
    """Make a task and check it as the probes will."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--from_folder", required=True, help="folder or .csv")
    parser.add_argument("--output", required=True, help="folder of tasks")
    parser.add_argument("--name", required=True)
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    source = Path(options.from_folder)
    folder = Path(options.output) / f"{options.name}-v1-full"
    try:
        read = read_table if source.suffix == ".csv" else read_class_folders
        counts = write_task(
            folder,
            read(source),
            options.name,
            options.sample_rate,
            options.seed,
        )
        HearTask(folder, options.sample_rate).check_leaks()
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    listed = ", ".join(f"{split} {count}" for split, count in counts.items())
    print(f"Wrote {folder}: {listed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
