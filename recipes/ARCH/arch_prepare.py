"""Find the data sets of ARCH and look at them before hours are spent.

    python arch_prepare.py DIR

prints how many clips, labels and runs each data set in DIR has.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from pathlib import Path

import yaml
from arch_datasets import READERS, read_dataset

from speechbrain_wavjepa.utils.experiment import run_script


def find_datasets(data_folder, dataset="all", folders=None):
    """Find the folder of a data set, or of all that are there, by their names.

    ``folders`` gives names of folders that are not called as usual.
    """
    data_folder, folders = Path(str(data_folder)), folders or {}
    if not isinstance(folders, dict) or not isinstance(dataset, str):
        raise ValueError(
            f"dataset={dataset!r} must be a name, or all, and "
            f"folders={folders!r} a mapping such as '{{esc50: my_esc}}'."
        )
    asked = [dataset] if dataset != "all" else []
    if unknown := {*map(str, folders), *asked} - set(READERS):
        raise ValueError(
            f"ARCH has no data set {sorted(unknown)}, it has {list(READERS)}."
        )
    places = {
        name: data_folder / str(folders.get(name, reader.folder))
        for name, reader in READERS.items()
    }
    if dataset != "all":
        places = {dataset: places[dataset]}
    found = {name: place for name, place in places.items() if place.is_dir()}
    if not found:
        wanted = ", ".join(place.name for place in places.values())
        raise ValueError(
            f"{data_folder} has no folder {wanted}: give the folder above, or "
            f"its name as --folders '{{{next(iter(places))}: NAME}}'."
        )
    if missing := sorted(set(places) - set(found)):
        print(f"Not in {data_folder}: {', '.join(missing)}")
    return found


def read_options(name, hparams):
    """List the options of a data set's reader."""
    return {"parts": hparams["irmas_parts"]} if name == "irmas" else {}


def describe(name, folder):
    """Say in a line what a data set has."""
    dataset = read_dataset(name, folder)
    run = dataset.runs[0]
    sizes = "/".join(str(len(clips)) for clips in run[1:])
    kind = "labels" if dataset.multilabel else "classes"
    line = (
        f"{name:<18} {len(dataset.paths):>6} clips of "
        f"{READERS[name].num_clips:>6}  {len(dataset.labels):>4} {kind:<7}  "
        f"{len(dataset.runs):>2} run(s), the first {sizes}"
    )
    absent = sum(not path.is_file() for path in dataset.paths)
    if absent:
        line += f"\n{'':<18} {absent} of its files are not there"
    return "\n".join([line, *(f"{'':<18} {note}" for note in dataset.notes)])


def main():
    """Print a line for each data set; 1 if one cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_folder")
    parser.add_argument("--dataset", default="all")
    parser.add_argument("--folders", type=yaml.safe_load)
    options = parser.parse_args()
    places = find_datasets(
        options.data_folder, options.dataset, options.folders
    )
    status = 0
    for name, folder in places.items():
        try:
            print(describe(name, folder))
        except (OSError, ValueError) as error:
            print(f"{name:<18} error: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(run_script(main, "start it again"))
