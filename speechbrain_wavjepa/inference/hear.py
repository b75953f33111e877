"""The common API of HEAR: a pretrained folder for any tool that speaks it.

Tools import this module by its name. Source: HEAR, Holistic Evaluation of
Audio Representations (https://hearbenchmark.com/hear-api.html).

Shapes: B clips, T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path
from typing import Any, Union

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.inference.encoder import TokenEncoder
from speechbrain_wavjepa.inference.pretrained import load_pretrained


class HearModel(nn.Module):
    """An encoder with the attributes that HEAR asks for."""

    def __init__(self, encoder: TokenEncoder):
        super().__init__()
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = encoder.embedding_model.dim
        self.timestamp_embedding_size = encoder.embedding_model.dim


def load_model(
    model_file_path: Union[str, Path] = "", **options: Any
) -> HearModel:
    """Load a pretrained folder, with options as of ``load_pretrained``.

    Example
    -------
    >>> model = load_model(getfixture("pretrained_folder"))
    >>> clips = torch.randn(4, model.sample_rate)
    >>> get_scene_embeddings(clips, model).shape
    torch.Size([4, 16])
    >>> get_timestamp_embeddings(clips, model)[0].shape
    torch.Size([4, 99, 16])
    """
    if not str(model_file_path):
        raise ValueError('There is no default model: load_model("FOLDER").')
    return HearModel(load_pretrained(model_file_path, **options)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Embed clips [B, T] or [B, T, C] at the model's rate: [B, D] float32."""
    return model.encoder.embed(audio)[:, 0]


@torch.no_grad()
def get_timestamp_embeddings(
    audio: Tensor, model: HearModel
) -> tuple[Tensor, Tensor]:
    """Compute one embedding for each token of clips [B, T] or [B, T, C].

    Returns the tokens [B, N, D] and their times [B, N] in milliseconds, the
    middle of each token's receptive field, both float32.
    """
    output = model.encoder(audio)
    milliseconds = (1000 * output["times"]).float()
    return output["embeddings"], milliseconds.expand(len(audio), -1)
