"""Encoders of the Hugging Face hub as baselines: wav2vec2 and its relatives.

SpeechBrain's lobes (``speechbrain.integrations.huggingface``) with the methods
of ``TokenEncoder``. The model's own feature extractor prepares the clips one by
one, as for the published figures (https://github.com/MorenoLaQuatra/ARCH); the
lobe's normalization, which is over a padded batch, is off.

Papers: wav2vec 2.0 (https://arxiv.org/abs/2006.11477) and its successors.

Shapes: B clips, T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

import torch
from torch import Tensor, nn

# What a model's settings say besides how it computes.
NOT_IN_KEY = ("_name_or_path", "transformers_version")


class HuggingFaceEncoder(nn.Module):
    """Embeds clips with a frozen encoder of the hub.

    Several channels are averaged. A clip longer than ``max_seconds`` is
    prepared as a whole and encoded in windows of equal size on one grid of
    tokens; a token attends to its window.

    Arguments
    ---------
    lobe : callable
        Class of the lobe; it is called with source, save_path and freeze.
    source : str or Path
        Name on the hub, or a folder.
    save_path : str or Path
        Where SpeechBrain keeps what it downloads.
    pad_to_seconds : float, optional
        Length that ``embed`` cuts or zero-pads every clip to, without an
        attention mask: the mean is over the tokens of the padding, too. None
        keeps the clip as it is.
    max_seconds : float
        Length that is encoded at once: bounds the memory.

    Raises
    ------
    ValueError
        If the model cannot be loaded or does not take waveforms, if a length
        is too small, or a clip is shorter than one token.

    Example
    -------
    >>> from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    >>> folder = getfixture("hugging_face_folder")
    >>> encoder = HuggingFaceEncoder(Wav2Vec2, folder)
    >>> encoder.embed(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 16])
    """

    def __init__(
        self,
        lobe: Callable[..., nn.Module],
        source: Union[str, Path],
        save_path: Union[str, Path] = "results/hugging_face",
        pad_to_seconds: Optional[float] = None,
        max_seconds: float = 40.0,
    ):
        super().__init__()
        places = {"source": str(source), "save_path": str(save_path)}
        try:
            self.lobe = lobe(**places, freeze=True)
        except OSError as error:
            raise ValueError(
                f"The model {source} cannot be loaded, neither as a name on "
                f"the hub nor as a folder: {error}"
            ) from error
        self.lobe.normalize_wav = False  # the feature extractor does it
        self.sample_rate = self.lobe.feature_extractor.sampling_rate
        self.pad_to_seconds = pad_to_seconds
        self.max_seconds = max_seconds
        config = self.lobe.model.config
        if (
            not hasattr(config, "conv_kernel")
            or getattr(config, "add_adapter", False)
            or self.lobe.output_all_hiddens
        ):
            raise ValueError(
                f"{source} ({config.model_type}): choose a kind of wav2vec2 "
                "without an adapter, and output_all_hiddens: False."
            )
        field, self.stride = 1, 1  # of a token, in samples
        for kernel, stride in zip(config.conv_kernel, config.conv_stride):
            field += (kernel - 1) * self.stride
            self.stride *= stride
        self.receptive_field = field
        for name in ("pad_to_seconds", "max_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and seconds * self.sample_rate < field - 0.5:
                raise ValueError(
                    f"{name} must be {field / self.sample_rate} s or more, a "
                    f"token's receptive field; got {seconds}."
                )

    def forward(self, wavs: Tensor) -> dict[str, Tensor]:
        """Embed all tokens of clips [B, T] or [B, T, C], as long as they are.

        Gives "embeddings" [B, N, D] and "times" [N] in seconds, the middle of
        a token's receptive field before attention.
        """
        embeddings = self._encode(self._prepare(wavs))
        places = torch.arange(embeddings.shape[1], device=embeddings.device)
        middles = places * self.stride + self.receptive_field / 2
        return {"embeddings": embeddings, "times": middles / self.sample_rate}

    def embed(self, wavs: Tensor) -> Tensor:
        """Embed clips [B, T] or [B, T, C] as [B, 1, D], a mean over tokens."""
        prepared = self._prepare(wavs, self.pad_to_seconds)
        return self._encode(prepared).mean(dim=1, keepdim=True)

    def _prepare(self, wavs: Tensor, seconds: Optional[float] = None) -> Tensor:
        """Let the feature extractor normalize clips and give them a length."""
        mono = wavs.mean(dim=2) if wavs.ndim == 3 else wavs
        options = {"sampling_rate": self.sample_rate, "return_tensors": "pt"}
        if seconds is not None:
            options |= {"padding": "max_length", "truncation": True}
            options["max_length"] = round(seconds * self.sample_rate)
        clips = list(mono.float().numpy(force=True))
        prepared = self.lobe.feature_extractor(clips, **options)
        return prepared["input_values"].to(wavs.device)

    def _encode(self, wavs: Tensor) -> Tensor:
        """Encode prepared clips [B, T] in windows that lie on one grid."""
        num_samples, field = wavs.shape[1], self.receptive_field
        num_tokens = (num_samples - field) // self.stride + 1
        if num_tokens < 1:
            raise ValueError(
                f"A clip has {num_samples} samples, fewer than the {field} of "
                "a token: give pad_to_seconds."
            )
        limit = round(self.max_seconds * self.sample_rate)
        at_once = (limit - field) // self.stride + 1
        at_once = math.ceil(num_tokens / math.ceil(num_tokens / at_once))
        windows = []
        for first in range(0, num_tokens, at_once):
            end = (first + at_once - 1) * self.stride + field
            if first + at_once >= num_tokens:
                end = num_samples  # with the samples behind the last token
            window = wavs[:, first * self.stride : end]
            some = max(limit // window.shape[1], 1)
            encoded = [self.lobe(clips) for clips in window.split(some)]
            windows.append(torch.cat(encoded))
        return torch.cat(windows, dim=1)


def hash_encoder(encoder: HuggingFaceEncoder) -> str:
    """Give the SHA-256 of weights and of settings that embeddings depend on.

    Arguments
    ---------
    encoder : HuggingFaceEncoder
        The encoder, wherever it was loaded from.

    Returns
    -------
    str
        Hexadecimal digits.

    Example
    -------
    >>> from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    >>> folder = getfixture("hugging_face_folder")
    >>> len(hash_encoder(HuggingFaceEncoder(Wav2Vec2, folder)))
    64
    """
    lobe = encoder.lobe
    config = lobe.model.config.to_dict()
    settings = {
        "config": {k: v for k, v in config.items() if k not in NOT_IN_KEY},
        "feature_extractor": lobe.feature_extractor.to_dict(),
        "output_norm": lobe.output_norm,
        "pad_to_seconds": encoder.pad_to_seconds,
        "max_seconds": encoder.max_seconds,
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for name, weights in sorted(lobe.model.state_dict().items()):
        digest.update(name.encode())
        flat = weights.cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
