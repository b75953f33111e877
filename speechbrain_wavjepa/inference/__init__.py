"""Pretrained folders: write, load, embed, stream, export.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.inference.classifiers import (
    LinearClassifier,
    MissingClassifier,
    MultilabelClassifier,
)
from speechbrain_wavjepa.inference.encoder import (
    AudioNormalizer,
    ChannelSelector,
    RMSNormalizer,
    TokenEncoder,
)
from speechbrain_wavjepa.inference.files import hash_model
from speechbrain_wavjepa.inference.pretrained import (
    FolderPretrainer,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.streaming import (
    StreamingEmbedder,
    embed_file,
)

__all__ = [
    "AudioNormalizer",
    "ChannelSelector",
    "FolderPretrainer",
    "LinearClassifier",
    "MissingClassifier",
    "MultilabelClassifier",
    "RMSNormalizer",
    "StreamingEmbedder",
    "TokenEncoder",
    "embed_file",
    "hash_model",
    "load_pretrained",
    "write_pretrained",
]
