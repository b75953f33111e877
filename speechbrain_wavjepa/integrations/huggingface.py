"""Encoders of the Hugging Face hub as baselines: wav2vec2 and its relatives.

A lobe of the toolkit (``speechbrain.integrations.huggingface``: Wav2Vec2,
HuBERT, WavLM) in the terms of ``pretrained.load_pretrained``. The model's own
feature extractor prepares the clips, one by one, as it did for the published
figures; the lobe's normalization, which is over a padded batch, is off.

Sources: wav2vec 2.0 (https://arxiv.org/abs/2006.11477), HuBERT
(https://arxiv.org/abs/2106.07447), WavLM (https://arxiv.org/abs/2110.13900),
data2vec (https://arxiv.org/abs/2202.03555); clips of one length as in the kit
of ARCH (https://github.com/MorenoLaQuatra/ARCH).

Shapes: n clips, T samples, C channels, N tokens, D dim.

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
    prepared as a whole and heard in windows of equal size, whose tokens are
    those of the whole clip at the same times; a token hears its own window.

    Arguments
    ---------
    lobe : callable
        Class of the lobe; it is called with source, save_path and freeze.
    source : str or Path
        Name on the hub, or a folder.
    save_path : str or Path
        Where the toolkit keeps what it downloads.
    pad_to_seconds : float, optional
        Length that every clip is cut or zero-padded to by the feature
        extractor before ``embed``, without an attention mask: the mean is over
        the tokens of the padding, too. None keeps the clip as it is.
    max_seconds : float
        Sound that is encoded at once: bounds the memory.

    Attributes
    ----------
    sample_rate : int
        Rate of the clips in Hz.

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
    >>> output = encoder(torch.randn(2, 16000))
    >>> output["embeddings"].shape, output["times"][:2]
    (torch.Size([2, 100, 16]), tensor([0.0033, 0.0133]))
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
        try:
            self.lobe = lobe(
                source=str(source), save_path=str(save_path), freeze=True
            )
        except OSError as error:
            raise ValueError(
                f"The model {source} cannot be loaded. It must be a name on "
                f"the hub, with a network or downloaded to {save_path} before, "
                "or a folder with config.json, preprocessor_config.json and "
                f"weights. What failed: {error}"
            ) from error
        self.lobe.normalize_wav = False  # the feature extractor does it
        self.sample_rate = self.lobe.feature_extractor.sampling_rate
        self.pad_to_seconds = pad_to_seconds
        self.max_seconds = max_seconds
        config = self.lobe.model.config
        if not hasattr(config, "conv_kernel") or (
            getattr(config, "add_adapter", False)
            or self.lobe.output_all_hiddens
        ):
            raise ValueError(
                f"{source} ({config.model_type}) is not an encoder of "
                "waveforms with one output for each of its convolutions' "
                "tokens: choose a model of the kind of wav2vec2 without an "
                "adapter, and output_all_hiddens: False."
            )
        self.heard, self.stride = 1, 1  # samples, of a token
        for kernel, stride in zip(config.conv_kernel, config.conv_stride):
            self.heard += (kernel - 1) * self.stride
            self.stride *= stride
        for name in ("pad_to_seconds", "max_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and self._samples(seconds) < self.heard:
                raise ValueError(
                    f"{name} must be {self.heard / self.sample_rate} s, what "
                    f"a token of {source} hears, or more; got {seconds}."
                )

    def forward(self, wavs: Tensor) -> dict[str, Tensor]:
        """Embed all tokens of clips [n, T] or [n, T, C], as long as they are.

        Returns
        -------
        dict[str, Tensor]
            "embeddings" [n, N, D] and "times" [N] in seconds, the middle of
            what a token hears before attention.
        """
        embeddings = self._encode(self._prepare(wavs))
        places = torch.arange(embeddings.shape[1], device=embeddings.device)
        times = (places * self.stride + self.heard / 2) / self.sample_rate
        return {"embeddings": embeddings, "times": times}

    def embed(self, wavs: Tensor) -> Tensor:
        """Embed clips [n, T] or [n, T, C] as [n, 1, D], a mean over tokens."""
        prepared = self._prepare(wavs, self.pad_to_seconds)
        return self._encode(prepared).mean(dim=1, keepdim=True)

    def _samples(self, seconds: float) -> int:
        """Convert a length."""
        return round(seconds * self.sample_rate)

    def _prepare(self, wavs: Tensor, seconds: Optional[float] = None) -> Tensor:
        """Let the feature extractor normalize clips and give them a length.

        Whether the zeros behind a clip count in its mean and deviation is a
        setting of the model (return_attention_mask).
        """
        mono = wavs.mean(dim=2) if wavs.ndim == 3 else wavs
        length = {}
        if seconds is not None:
            length = {
                "padding": "max_length",
                "max_length": self._samples(seconds),
                "truncation": True,
            }
        prepared = self.lobe.feature_extractor(
            list(mono.float().numpy(force=True)),
            sampling_rate=self.sample_rate,
            return_tensors="pt",
            **length,
        )
        return prepared["input_values"].to(wavs.device)

    def _encode(self, wavs: Tensor) -> Tensor:
        """Encode prepared clips [n, T] in windows that lie on one grid."""
        num_samples = wavs.shape[1]
        num_tokens = (num_samples - self.heard) // self.stride + 1
        if num_tokens < 1:
            raise ValueError(
                f"A clip has {num_samples} samples, fewer than the "
                f"{self.heard} of a token: leave it out or give pad_to_seconds."
            )
        limit = self._samples(self.max_seconds)
        most = (limit - self.heard) // self.stride + 1
        at_once = math.ceil(num_tokens / math.ceil(num_tokens / most))
        windows = []
        for first in range(0, num_tokens, at_once):
            end = (first + at_once - 1) * self.stride + self.heard
            if first + at_once >= num_tokens:
                end = num_samples  # with the samples behind the last token
            window = wavs[:, first * self.stride : end]
            some = max(limit // window.shape[1], 1)
            encoded = [self.lobe(clips) for clips in window.split(some)]
            windows.append(torch.cat(encoded))
        return torch.cat(windows, dim=1)


def hash_encoder(encoder: HuggingFaceEncoder) -> str:
    """Tell an encoder apart from all others, wherever it was loaded from.

    Arguments
    ---------
    encoder : HuggingFaceEncoder
        The encoder.

    Returns
    -------
    str
        The SHA-256 of its weights and of all settings that its embeddings
        depend on.

    Example
    -------
    >>> from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    >>> folder = getfixture("hugging_face_folder")
    >>> whole, padded = (
    ...     HuggingFaceEncoder(Wav2Vec2, folder, pad_to_seconds=seconds)
    ...     for seconds in (None, 5)
    ... )
    >>> hash_encoder(whole) == hash_encoder(padded)
    False
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
