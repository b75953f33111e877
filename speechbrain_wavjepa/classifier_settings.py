"""The settings of a classifier: read off it, and built into one again.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import pydoc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from torch import Tensor, nn

from speechbrain_wavjepa.classifiers_old import (
    LinearClassifier,
    MissingClassifier,
    MultilabelClassifier,
)
from speechbrain_wavjepa.weights import load_weights

KNOWN = (LinearClassifier, MultilabelClassifier)


def describe_classifier(
    classifier: Optional[nn.Module],
    labels: Optional[Sequence[str]],
    given: Mapping[str, Any],
) -> tuple[str, dict]:
    """Name a classifier's class and arguments.

    Arguments
    ---------
    classifier : nn.Module or None
        The classifier, if there is one.
    labels : Sequence[str] or None
        Its classes.
    given : Mapping[str, Any]
        "class" and plain arguments of one that is not of this package.

    Returns
    -------
    name : str
        Dotted name of its class.
    arguments : dict
        What the class is built with.

    Raises
    ------
    ValueError
        If classifier and labels do not belong together, or nobody knows how
        the classifier is built.

    Example
    -------
    >>> name, arguments = describe_classifier(
    ...     LinearClassifier(16, 2), ["dog", "rain"], {}
    ... )
    >>> name.rsplit(".")[-1], arguments
    ('LinearClassifier', {'dim': 16, 'num_classes': 2})
    """
    if (classifier is None) != (not labels):
        raise ValueError("Give a classifier together with its labels.")
    if labels and len(set(labels)) != len(labels):
        raise ValueError(f"Some labels are there twice: {list(labels)}.")
    kind = MissingClassifier if classifier is None else type(classifier)
    name, arguments = f"{kind.__module__}.{kind.__name__}", dict(given)
    if kind in KNOWN:
        dim, num_classes = classifier.linear.weight.T.shape
        arguments = {"dim": dim, "num_classes": num_classes}
    elif classifier is not None and "class" not in given:
        raise ValueError(
            f"How is a {kind.__name__} built? Give "
            'settings["classifier"] = {"class": "dotted.name", arguments}.'
        )
    return arguments.pop("class", name), arguments


def try_classifier(
    name: str,
    arguments: Mapping[str, Any],
    weights: Path,
    embedding: Tensor,
    num_labels: int,
) -> None:
    """Build a classifier of what was written and run it once.

    Arguments
    ---------
    name : str
        Dotted name of its class.
    arguments : Mapping[str, Any]
        What the class is built with.
    weights : Path
        The file of its weights.
    embedding : [1, 1, D]
        What it has to take.
    num_labels : int
        How many log-probabilities it has to give.

    Raises
    ------
    ValueError
        If it does not work.

    Example
    -------
    >>> import torch
    >>> from speechbrain_wavjepa.weights import write_weights
    >>> path = Path(getfixture("tmpdir")) / "classifier.ckpt"
    >>> write_weights(LinearClassifier(16, 2).state_dict(), path)
    >>> name = "speechbrain_wavjepa.classifiers_old.LinearClassifier"
    >>> arguments = {"dim": 16, "num_classes": 2}
    >>> try_classifier(name, arguments, path, torch.randn(1, 1, 16), 2)
    """
    try:
        classifier = pydoc.locate(name)(**arguments)
        load_weights(classifier, weights)
        scores = classifier.eval()(embedding)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"A classifier {name} built with {dict(arguments)} does not work "
            f"on embeddings of shape {list(embedding.shape)}: {error}"
        ) from error
    if scores.shape != (1, 1, num_labels):
        raise ValueError(
            f"The classifier gives {list(scores.shape)} for one clip and "
            f"{num_labels} labels: it must give [1, 1, {num_labels}]."
        )
