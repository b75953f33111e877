"""What embeddings are good for: HEAR, Nat-HEAR, ARCH, reports.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.evaluation.arch import ProbeSettings, evaluate_dataset
from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset
from speechbrain_wavjepa.evaluation.events import find_events
from speechbrain_wavjepa.evaluation.hear import evaluate_task
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.evaluation.mel_baseline import MelBaseline

__all__ = [
    "ArchDataset",
    "HearTask",
    "MelBaseline",
    "ProbeSettings",
    "evaluate_dataset",
    "evaluate_task",
    "find_events",
]
