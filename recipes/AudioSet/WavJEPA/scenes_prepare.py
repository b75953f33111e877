#!/usr/bin/env python3
"""Make a bank of binaural room responses for WavJEPA-Nat.

To simulate rooms (the same command takes up a run that was stopped):
> python scenes_prepare.py --output BANK --num_rooms 85 --scenes_per_room 100

To bring another bank, such as the paper's, into the same form:
> python scenes_prepare.py --from_bank OTHER --bank_rate 32000 --output BANK

A bank holds ``train/`` and ``test/`` with tar shards, whose rooms differ. The
same settings give the same bytes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from pathlib import Path

from brir_import import import_bank

from speechbrain_wavjepa.augment import BRIRBank, make_bank
from speechbrain_wavjepa.utils.experiment import run_script

NAMES_PRINTED = 20
SIMULATED = ("num_rooms", "scenes_per_room", "hrtf", "seed", "num_workers")
FOREIGN = ("bank_rate", "array_folder")


def main(arguments=None):
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="folder of the bank")
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--scenes_per_shard", type=int, default=100)
    parser.add_argument("--test_fraction", type=float, default=15 / 85)
    simulated = parser.add_argument_group("simulated rooms")
    simulated.add_argument("--num_rooms", type=int, default=85)
    simulated.add_argument("--scenes_per_room", type=int, default=100)
    simulated.add_argument(
        "--hrtf", help="SOFA file of a measured head; default: a sphere"
    )
    simulated.add_argument("--seed", type=int, default=0)
    simulated.add_argument(
        "--num_workers", type=int, help="processes; default: one for each core"
    )
    foreign = parser.add_argument_group("another bank")
    foreign.add_argument("--from_bank", help="tar shards, .npy or json files")
    foreign.add_argument("--bank_rate", type=int, help="its rate in Hz")
    foreign.add_argument(
        "--array_folder", help="where the arrays lie that its json files name"
    )
    options = parser.parse_args(arguments)
    for name in SIMULATED if options.from_bank else FOREIGN:
        if getattr(options, name) != parser.get_default(name):
            word = "with" if options.from_bank else "without"
            parser.error(f"--{name} means nothing {word} --from_bank")
    return run_script(lambda: prepare_scenes(options))


def prepare_scenes(options):
    """Write a bank and print what is in it."""
    left_out = write_bank(options)
    count = count_scenes(options)
    for name, reason in list(left_out.items())[:NAMES_PRINTED]:
        print(f"Left out {name!r}: {reason}")
    print(
        f"{count['train']} scenes for training and {count['test']} for "
        f"testing in {options.output}; {len(left_out)} left out"
    )


def count_scenes(options):
    """Count the scenes of each part, which also checks that they open."""
    folder, rate, any_receivers = options.output, options.sample_rate, []
    return {
        split: len(BRIRBank(folder, rate, split, any_receivers))
        if any((Path(folder) / split).glob("*.tar"))
        else 0
        for split in ("train", "test")
    }


def write_bank(options):
    """Simulate or import; returns the scenes that were left out."""
    if options.from_bank:
        return import_bank(
            options.from_bank,
            options.output,
            options.sample_rate,
            options.bank_rate,
            options.array_folder,
            options.test_fraction,
            options.scenes_per_shard,
        )
    make_bank(
        options.output,
        options.num_rooms,
        options.scenes_per_room,
        options.test_fraction,
        options.scenes_per_shard,
        options.sample_rate,
        options.hrtf,
        options.seed,
        options.num_workers,
    )
    return {}


if __name__ == "__main__":
    sys.exit(main())
