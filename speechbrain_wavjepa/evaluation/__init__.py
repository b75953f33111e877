"""What embeddings are good for: HEAR, Nat-HEAR, ARCH, reports.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.evaluation.arch import ProbeSettings, evaluate_dataset
from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset
from speechbrain_wavjepa.evaluation.events import find_events
from speechbrain_wavjepa.evaluation.filter_analysis import (
    FilterTable,
    describe_filters,
    filter_figures,
    tone_response,
    write_filters,
)
from speechbrain_wavjepa.evaluation.hear import evaluate_task
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.evaluation.mel_baseline import MelBaseline

__all__ = [
    "ArchDataset",
    "FilterTable",
    "HearTask",
    "MelBaseline",
    "ProbeSettings",
    "describe_filters",
    "evaluate_dataset",
    "evaluate_task",
    "filter_figures",
    "find_events",
    "tone_response",
    "write_filters",
]
