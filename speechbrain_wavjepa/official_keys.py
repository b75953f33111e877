"""The authors' checkpoint keys and ours.

One declarative map between the state dict of the authors' released code
(https://github.com/labhamlet/wavjepa) and :class:`WavJEPA`'s, strict both
ways.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from collections.abc import Mapping

from torch import Tensor

from speechbrain_wavjepa.official import COMPILE_INFIX, list_keys

# authors' pattern -> ours, tried in this order; {} stands for a number.
# None: a table that WavJEPA computes itself.
OFFICIAL_KEYS = {
    "pos_encoding_encoder": None,
    "pos_encoding_decoder": None,
    "mask_token": "predictor.mask_token",
    "extract_audio.cnn.0.2.": "frontend.stacks.0.norm.",
    "extract_audio.cnn.{}.0.": "frontend.stacks.0.layers.{}.",
    "extract_audio.cnns.{}.0.2.": "frontend.stacks.{}.norm.",
    "extract_audio.cnns.{}.{}.0.": "frontend.stacks.{}.layers.{}.",
    "feature_norms.": "token_norm.",
    "post_extraction_mapper.": "token_projection.",
    "encoder_to_decoder_mapper.": "predictor.input_projection.",
    "decoder_to_encoder_mapper.": "predictor.output_projection.",
}
ENCODERS = {
    "encoder.": "context_encoder.",
    "teacher_encoder.": "target_encoder.encoder.",
    "decoder.": "predictor.encoder.",
}
ENCODER_KEYS = {
    "layers.{}.self_attn.in_proj_": "layers.{}.attention.query_key_value.",
    "layers.{}.self_attn.out_proj.": "layers.{}.attention.projection.",
    "layers.{}.linear1.": "layers.{}.mlp.0.",
    "layers.{}.linear2.": "layers.{}.mlp.2.",
    "layers.{}.norm1.": "layers.{}.norm1.",
    "layers.{}.norm2.": "layers.{}.norm2.",
    "norm.": "norm.",
}
OFFICIAL_KEYS.update(
    (theirs + their_key, ours + our_key)
    for theirs, ours in ENCODERS.items()
    for their_key, our_key in ENCODER_KEYS.items()
)


def map_official_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' weights to ours.

    Arguments
    ---------
    state_dict : Mapping[str, Tensor]
        Weights under the authors' keys; the infix that torch.compile leaves
        (``_orig_mod.``) is ignored.

    Returns
    -------
    dict[str, Tensor]
        The same tensors for ``WavJEPA.load_state_dict``, which is strict.
        The position tables are left out.

    Raises
    ------
    ValueError
        If a key is unknown.

    Example
    -------
    >>> import torch
    >>> list(map_official_state({"encoder.norm.bias": torch.zeros(2)}))
    ['context_encoder.norm.bias']
    """
    plain = {
        key.replace(COMPILE_INFIX, ""): value
        for key, value in state_dict.items()
    }
    return _rename(plain, OFFICIAL_KEYS, "the authors' code")


def map_to_official_state(
    state_dict: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Rename our weights to the authors'; the inverse of the above.

    Arguments
    ---------
    state_dict : Mapping[str, Tensor]
        ``WavJEPA.state_dict()``.

    Returns
    -------
    dict[str, Tensor]
        The same tensors under the authors' keys, without the position
        tables, which are not weights.

    Raises
    ------
    ValueError
        If a key is unknown.

    Example
    -------
    >>> import torch
    >>> ours = {"context_encoder.norm.bias": torch.zeros(2)}
    >>> list(map_to_official_state(ours))
    ['encoder.norm.bias']
    """
    binaural = any(key.startswith("frontend.stacks.1.") for key in state_dict)
    unused = "extract_audio.cnn." if binaural else "extract_audio.cnns."
    inverse = {
        ours: theirs
        for theirs, ours in OFFICIAL_KEYS.items()
        if ours is not None and not theirs.startswith(unused)
    }
    return _rename(state_dict, inverse, "WavJEPA")


def _rename(
    state_dict: Mapping[str, Tensor], keys: Mapping[str, str], origin: str
) -> dict[str, Tensor]:
    """Apply the first pattern that matches the head of each key."""
    patterns = [
        (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), new)
        for old, new in keys.items()
    ]
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        for pattern, new in patterns:
            match = pattern.match(key)
            if match:
                if new is not None:
                    name = new.format(*match.groups()) + key[match.end() :]
                    if name in renamed:
                        raise ValueError(
                            f"{key} and another key both stand for {name}."
                        )
                    renamed[name] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys are not those of {origin}: "
            f"{list_keys(unknown)}. Is this a WavJEPA checkpoint?"
        )
    return renamed
