"""The authors' checkpoints; encoders of the Hugging Face hub.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.integrations.huggingface import (
    HuggingFaceEncoder,
    hash_encoder,
)
from speechbrain_wavjepa.integrations.official import (
    load_official,
    map_official_state,
    map_to_official_state,
    write_official,
)

__all__ = [
    "HuggingFaceEncoder",
    "hash_encoder",
    "load_official",
    "map_official_state",
    "map_to_official_state",
    "write_official",
]
