"""The settings of a model: read off it, and built into one again.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping

from speechbrain_wavjepa.dataio.clips import MAX_RATE
from speechbrain_wavjepa.lobes.frontends import ConvFrontend
from speechbrain_wavjepa.lobes.wavjepa import (
    Predictor,
    TargetEncoder,
    WavJEPA,
    WavJEPAEncoder,
)
from speechbrain_wavjepa.nnet.transformer import TransformerEncoder
from speechbrain_wavjepa.processing.audio import MAX_CHANNELS, MIN_RATE

# How clips are embedded; anything here may be changed when loading.
RUNTIME_SETTINGS = {
    "sample_rate": 16000,
    "channel_policy": "first",
    "level_db": -14.0,
    "window_samples": 32160,
    "padding_in_statistics": False,
    "pooling": "mean",
    "window_batch": 16,
    "overlap": 0.0,
    "precision": "fp32",
    "layer_weights": False,  # of a LayerSum; the last layer is taken without
}
ENCODER_SETTINGS = {
    "channels": int,
    "share_weights": bool,
    "frontend_dim": int,
    "frontend_layers": list,
    "encoder_dim": int,
    "encoder_depth": int,
    "encoder_heads": int,
    "encoder_mlp_ratio": float,
    "encoder_norm_first": bool,
}
PRETRAINING_SETTINGS = {
    "top_k_layers": int,
    "target_norm": str,
    "predictor_dim": int,
    "predictor_depth": int,
    "predictor_heads": int,
    "predictor_mlp_ratio": float,
}

# What no model of sound needs more of: a strange folder cannot ask for all
# memory, nor for more weights than it has.
LIMITS = {
    "channels": (1, MAX_CHANNELS),
    "sample_rate": (MIN_RATE, MAX_RATE),
    "window_samples": (1, 2**24),
    "window_batch": (1, 2**12),
    "level_db": (-200, 200),
    "frontend_dim": (1, 2**20),
    "encoder_dim": (1, 2**20),
    "encoder_depth": (1, 2**10),
    "encoder_heads": (1, 2**20),
    "encoder_mlp_ratio": (1e-6, 2**10),
    "predictor_dim": (1, 2**20),
    "predictor_heads": (1, 2**20),
    "predictor_mlp_ratio": (1e-6, 2**10),
}


def describe_model(model: WavJEPAEncoder) -> dict:
    """Read all sizes off a model.

    Arguments
    ---------
    model : WavJEPAEncoder
        A model; of a WavJEPA also the predictor and the targets.

    Returns
    -------
    dict
        Plain values from which ``build_encoder`` or ``build_wavjepa`` makes
        the same model again.

    Raises
    ------
    ValueError
        If the front-end is not a ConvFrontend.

    Example
    -------
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> settings = describe_model(model)
    >>> settings["frontend_layers"], settings["encoder_heads"]
    ([[8, 160, 160]], 4)
    """
    frontend = model.frontend
    if not isinstance(frontend, ConvFrontend):
        raise ValueError(
            f"A model with a {type(frontend).__name__} cannot be written as a "
            "pretrained folder, only one with a ConvFrontend: keep its "
            "training checkpoint."
        )
    settings = {
        "channels": frontend.channels,
        "share_weights": frontend.share_weights,
        "frontend_dim": frontend.dim,
        "frontend_layers": [
            [layer.out_channels, layer.kernel_size[0], layer.stride[0]]
            for layer in frontend.stacks[0].layers
        ],
        **_describe_transformer("encoder", model.context_encoder),
        "encoder_norm_first": model.context_encoder.layers[0].norm_first,
    }
    if isinstance(model, WavJEPA):
        settings |= {
            "top_k_layers": model.target_encoder.top_k_layers,
            "target_norm": model.target_encoder.target_norm,
            **_describe_transformer("predictor", model.predictor.encoder),
        }
    return settings


def _describe_transformer(name: str, encoder: TransformerEncoder) -> dict:
    """Read the sizes off a stack of blocks."""
    block = encoder.layers[0]
    hidden = block.mlp[0].out_features
    assert int(encoder.dim * (hidden / encoder.dim)) == hidden
    return {
        f"{name}_dim": encoder.dim,
        f"{name}_depth": encoder.depth,
        f"{name}_heads": block.attention.num_heads,
        f"{name}_mlp_ratio": hidden / encoder.dim,
    }


def build_encoder(settings: Mapping) -> WavJEPAEncoder:
    """Build the part of the model that makes embeddings.

    Arguments
    ---------
    settings : Mapping
        Sizes as ``describe_model`` gives them; other entries are ignored.

    Returns
    -------
    WavJEPAEncoder
        The model, with new weights.

    Raises
    ------
    ValueError
        If a size is missing or of the wrong kind.

    Example
    -------
    >>> encoder = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> build_encoder(describe_model(encoder)).context_encoder.depth
    2
    """
    check_kinds(settings, ENCODER_SETTINGS)
    return WavJEPAEncoder(
        ConvFrontend(
            settings["frontend_dim"],
            settings["frontend_layers"],
            settings["channels"],
            settings["share_weights"],
        ),
        TransformerEncoder(
            settings["encoder_dim"],
            settings["encoder_depth"],
            settings["encoder_heads"],
            settings["encoder_mlp_ratio"],
            settings["encoder_norm_first"],
        ),
    )


def build_wavjepa(settings: Mapping) -> WavJEPA:
    """Build the whole model, as for pretraining.

    Arguments
    ---------
    settings : Mapping
        Sizes as ``describe_model`` gives them for a WavJEPA.

    Returns
    -------
    WavJEPA
        The model, with new weights.

    Raises
    ------
    ValueError
        If a size is missing or of the wrong kind.

    Example
    -------
    >>> encoder = TransformerEncoder(16, 2, 4)
    >>> model = WavJEPA(
    ...     ConvFrontend(8, [[8, 160, 160]]),
    ...     encoder,
    ...     TargetEncoder(encoder, 2),
    ...     Predictor(16, 8, 1, 2),
    ... )
    >>> again = build_wavjepa(describe_model(model))
    >>> again.state_dict().keys() == model.state_dict().keys()
    True
    """
    check_kinds(settings, PRETRAINING_SETTINGS)
    part = build_encoder(settings)
    return WavJEPA(
        part.frontend,
        part.context_encoder,
        TargetEncoder(
            part.context_encoder,
            settings["top_k_layers"],
            settings["target_norm"],
        ),
        Predictor(
            settings["encoder_dim"],
            settings["predictor_dim"],
            settings["predictor_depth"],
            settings["predictor_heads"],
            settings["predictor_mlp_ratio"],
        ),
    )


def check_kinds(settings: Mapping, kinds: Mapping[str, type]) -> None:
    """Check that settings are there and of the right kind.

    Arguments
    ---------
    settings : Mapping
        Settings from a file or a user.
    kinds : Mapping[str, type]
        What each of them must be.

    Raises
    ------
    ValueError
        If one is not, with its name.

    Example
    -------
    >>> check_kinds({"channels": "two"}, {"channels": int})
    Traceback (most recent call last):
    ...
    ValueError: The setting channels must be of type int, got 'two'.
    """
    for name, kind in kinds.items():
        if name not in settings:
            raise ValueError(f"The setting {name} is missing: add it.")
        value = settings[name]
        whole = kind is float and type(value) is int  # -14 instead of -14.0
        if type(value) is not kind and not whole:
            raise ValueError(
                f"The setting {name} must be of type {kind.__name__}, got "
                f"{value!r}."
            )


def check_sizes(settings: Mapping, num_values: int) -> None:
    """Refuse settings of a model that cannot be, before it is built.

    Arguments
    ---------
    settings : Mapping
        Settings from a file, of ``RUNTIME_SETTINGS`` and of an encoder.
    num_values : int
        How many values the weights have that are there for it.

    Raises
    ------
    ValueError
        If a size is missing, of the wrong kind or out of its range, or the
        model has more weights than there are.

    Example
    -------
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 160, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> settings = {**RUNTIME_SETTINGS, **describe_model(model)}
    >>> check_sizes({**settings, "encoder_depth": 10**9}, 5000)
    Traceback (most recent call last):
    ...
    ValueError: The setting encoder_depth must lie between 1 and 1024, ...
    """
    check_kinds(settings, ENCODER_SETTINGS)
    layers = settings["frontend_layers"]
    sizes = [size for layer in layers if type(layer) is list for size in layer]
    if (
        not 1 <= len(layers) <= 2**10
        or any(type(layer) is not list or len(layer) != 3 for layer in layers)
        or any(type(size) is not int or not 1 <= size < 2**20 for size in sizes)
    ):
        raise ValueError(
            "The setting frontend_layers must be a list of [dim, kernel, "
            f"stride], got {str(layers)[:200]}."
        )
    for name, (low, high) in LIMITS.items():
        if not low <= settings.get(name, low) <= high:
            raise ValueError(
                f"The setting {name} must lie between {low} and {high}, got "
                f"{settings[name]}."
            )
    below = [1, *(dim for dim, _, _ in layers)]
    stacks = 1 if settings["share_weights"] else settings["channels"]
    wanted = stacks * sum(
        dim_below * dim * kernel
        for dim_below, (dim, kernel, _) in zip(below, layers)
    )
    dim = settings["encoder_dim"]
    hidden = int(dim * settings["encoder_mlp_ratio"])
    wanted += settings["encoder_depth"] * (4 * dim + 2 * hidden) * dim
    if wanted > num_values:
        raise ValueError(
            "The file of weights does not fit the model: the settings ask for "
            f"over {wanted} values and it holds {num_values}."
        )
