"""Layers that know nothing of JEPA.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.nnet.schedulers import EMADecay, WarmupCosine
from speechbrain_wavjepa.nnet.transformer import LayerSum, TransformerEncoder

__all__ = [
    "EMADecay",
    "LayerSum",
    "TransformerEncoder",
    "WarmupCosine",
]
