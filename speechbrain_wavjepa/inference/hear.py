"""The common API of HEAR: a pretrained folder for any tool that speaks it.

Source: HEAR, Holistic Evaluation of Audio Representations
(https://hearbenchmark.com/hear-api.html).

Shapes: n clips, T samples, C channels, N tokens, D dim.

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
    """An encoder with the attributes that HEAR asks for.

    Arguments
    ---------
    encoder : TokenEncoder
        From ``pretrained.load_pretrained``.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> model = HearModel(load_pretrained(folder))
    >>> model.sample_rate, model.scene_embedding_size
    (16000, 16)
    """

    def __init__(self, encoder: TokenEncoder):
        super().__init__()
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = encoder.embedding_model.dim
        self.timestamp_embedding_size = encoder.embedding_model.dim


def load_model(
    model_file_path: Union[str, Path] = "", **options: Any
) -> HearModel:
    """Load a pretrained folder.

    Arguments
    ---------
    model_file_path : str or Path
        The folder.
    **options : Any
        Settings to change, as of ``pretrained.load_pretrained``.

    Returns
    -------
    HearModel
        In evaluation mode.

    Raises
    ------
    ValueError
        If the folder or an option does not fit.

    Example
    -------
    >>> load_model()
    Traceback (most recent call last):
    ...
    ValueError: Give a pretrained folder: load_model("FOLDER"). There is no
    default model.
    """
    if not str(model_file_path):
        raise ValueError(
            'Give a pretrained folder: load_model("FOLDER"). There is no '
            "default model."
        )
    return HearModel(load_pretrained(model_file_path, **options)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Compute one embedding for each clip.

    Arguments
    ---------
    audio : [n, T] or [n, T, C]
        Clips at the model's rate, on its device.
    model : HearModel
        From ``load_model``.

    Returns
    -------
    [n, D] float32
        The embeddings.

    Raises
    ------
    ValueError
        If the clips are empty, not finite or have other channels.

    Example
    -------
    >>> model = load_model(getfixture("pretrained_folder"))
    >>> get_scene_embeddings(torch.randn(4, 16000), model).shape
    torch.Size([4, 16])
    """
    return model.encoder.embed(audio)[:, 0]


@torch.no_grad()
def get_timestamp_embeddings(
    audio: Tensor, model: HearModel
) -> tuple[Tensor, Tensor]:
    """Compute one embedding for each token.

    Arguments
    ---------
    audio : [n, T] or [n, T, C]
        Clips at the model's rate, on its device.
    model : HearModel
        From ``load_model``.

    Returns
    -------
    embeddings : [n, N, D] float32
        The tokens.
    timestamps : [n, N] float32
        Milliseconds to the middle of what each token hears.

    Raises
    ------
    ValueError
        If the clips are empty, not finite or have other channels.

    Example
    -------
    >>> model = load_model(getfixture("pretrained_folder"))
    >>> embeddings, times = get_timestamp_embeddings(
    ...     torch.randn(4, 16000), model
    ... )
    >>> embeddings.shape, times[0, :3]
    (torch.Size([4, 99, 16]), tensor([ 7.5000, 17.5000, 27.5000]))
    """
    output = model.encoder(audio)
    milliseconds = (1000 * output["times"]).float()
    return output["embeddings"], milliseconds.expand(len(audio), -1)
