"""What a pretraining run leaves for its reader: pictures and a table.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from pathlib import Path

from speechbrain_wavjepa.downstream.learning_table import (
    format_table,
    learning_table,
)
from speechbrain_wavjepa.plots import plot_learning_curve, plot_masks


def write_results(brain, hparams, batch, folds, initial_model):
    """Write pictures and the learning table into the output folder."""
    output_folder = Path(hparams["output_folder"])
    plot_learning_curve(
        hparams["step_log"].read(), output_folder / "learning_curve.png"
    )
    plot_masks(
        brain.cut_windows(batch)[0, :, 0],
        batch.block_mask.context_mask[0],
        batch.block_mask.target_masks[0],
        output_folder / "masks.png",
        hparams["sample_rate"],
    )
    if folds is not None:
        brain.modules.eval()
        table = learning_table(
            folds,
            initial_model.to(brain.device).eval(),
            hparams["wavjepa"],
            hparams["window_samples"],
            brain.device,
        )
        (output_folder / "learning_table.json").write_text(
            json.dumps(table, indent=1)
        )
        print(format_table(table, "Linear probe on held-out labelled clips:"))
    print(f"Checkpoint, log and pictures: {output_folder}")
