"""Runs a README's command with sizes that fit a test, and nothing else changed.

Stands where the README's `python` and `torchrun` are found.
"""

import fnmatch
import os
import sys

PRETRAINING = {
    "clip_seconds": 2.01,
    "num_valid_clips": 4,
    "frontend_dim": 32,
    "frontend_layers": "[[16, 20, 10], [32, 16, 16], [32, 2, 2]]",
    "encoder_dim": 32,
    "encoder_depth": 2,
    "encoder_heads": 4,
    "predictor_dim": 32,
    "predictor_depth": 1,
    "predictor_heads": 4,
    "top_k_layers": 2,
    "target_span": 5,
    "context_drop_span": 5,
    "effective_batch": 4,
    "batch_size": 4,
    "windows_per_clip": 1,
    "steps_per_epoch": 4,
    "ckpt_interval_steps": 4,
    "total_steps": 4,
    "warmup_steps": 2,
    "log_interval_steps": 2,
    "shuffle_buffer": 4,
    "num_workers": 1,
    "precision": "fp32",
    "eval_precision": "fp32",
}
SIZES = {
    "train.py hparams/wavjepa*": PRETRAINING,
    "train.py hparams/wavjepa_leaf*": {"frontend_layers": None},
    "train.py hparams/wavjepa*mini*": {
        "probe_folds": "null",
        "synthetic_corpus": "{num_clips: 104}",  # the last shard has 4
    },
    "train.py hparams/wavjepa_nat_mini*": {
        "synthetic_rooms": "{num_rooms: 4, scenes_per_room: 1}",
    },
    "torch.distributed.run *": {"distributed_backend": "gloo"},
    "scenes_prepare.py --output*": {
        "num_rooms": 2,
        "scenes_per_room": 1,
        "num_workers": 1,
    },
    "evaluate.py hparams/hear*": {"num_points": 1, "neighbours": "[1]"},
    "evaluate.py hparams/arch*": {"epochs": 2},
    "train.py hparams/fine_tune*": {"number_of_epochs": 1},
}


def shrink(arguments):
    """Replace and add the options that decide how long a command takes."""
    line = " ".join(arguments)
    sizes = {}
    for pattern, options in SIZES.items():
        if fnmatch.fnmatchcase(line, f"*{pattern}*"):
            sizes |= options
    kept, arguments = [], list(arguments)
    while arguments:
        argument = arguments.pop(0)
        name, equals, _ = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in sizes:
            if not equals:
                arguments.pop(0)  # its value
            continue
        kept.append(argument)
    sizes = {name: value for name, value in sizes.items() if value is not None}
    return [*kept, *(f"--{name}={value}" for name, value in sizes.items())]


if __name__ == "__main__":
    if sys.argv[1:3] == ["-m", "pytest"]:
        sys.exit(0)  # these are the tests
    os.execv(sys.executable, [sys.executable, *shrink(sys.argv[1:])])
