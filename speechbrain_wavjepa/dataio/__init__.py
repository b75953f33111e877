"""From bytes on a disk or a hub to batches.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.dataio.batch import ClipBatch, ClipCollator
from speechbrain_wavjepa.dataio.shards import expand_shards
from speechbrain_wavjepa.dataio.stream import ClipStream, StreamState
from speechbrain_wavjepa.dataio.synthetic import SyntheticCorpus

__all__ = [
    "ClipBatch",
    "ClipCollator",
    "ClipStream",
    "StreamState",
    "SyntheticCorpus",
    "expand_shards",
]
