"""The model: front-ends, masks, WavJEPA and its embedding of clips.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.lobes.embedding import WavJEPAEmbedding
from speechbrain_wavjepa.lobes.filterbanks import (
    LeafFrontend,
    MelFrontend,
    SincFrontend,
)
from speechbrain_wavjepa.lobes.frontends import ConvFrontend, Frontend
from speechbrain_wavjepa.lobes.masking import BlockMasker, JEPAMask
from speechbrain_wavjepa.lobes.wavjepa import (
    JEPAOutput,
    Predictor,
    TargetEncoder,
    WavJEPA,
    WavJEPAEncoder,
    masked_mse,
)

__all__ = [
    "JEPAMask",
    "BlockMasker",
    "ConvFrontend",
    "Frontend",
    "JEPAOutput",
    "LeafFrontend",
    "MelFrontend",
    "Predictor",
    "SincFrontend",
    "TargetEncoder",
    "WavJEPA",
    "WavJEPAEmbedding",
    "WavJEPAEncoder",
    "masked_mse",
]
