"""Classifiers of embeddings, as SpeechBrain's EncoderClassifier wants them.

Shapes: B clips, N embeddings of a clip (1 if pooled), D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from torch import Tensor, nn

from speechbrain_wavjepa.utils.strict_module import StrictModule


class LinearClassifier(StrictModule):
    """One linear layer on embeddings, where one class excludes the others.

    Arguments
    ---------
    dim, num_classes : int, of an embedding and of the labels

    Example
    -------
    >>> import torch
    >>> LinearClassifier(16, 5)(torch.randn(3, 1, 16)).shape
    torch.Size([3, 1, 5])
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Compute log-probabilities [B, N, classes] of [B, N, D]."""
        return self.linear(embeddings).log_softmax(dim=-1)


class MultilabelClassifier(LinearClassifier):
    """The same where no label excludes another: each has a probability.

    Arguments
    ---------
    dim, num_classes : int, int
        Size of an embedding; number of labels.

    Example
    -------
    >>> import torch
    >>> scores = MultilabelClassifier(16, 5)(torch.randn(3, 1, 16))
    >>> (scores.exp() > 0.5).shape
    torch.Size([3, 1, 5])
    """

    def forward(self, embeddings: Tensor) -> Tensor:
        """Compute log-probabilities [B, N, labels] of [B, N, D]."""
        return nn.functional.logsigmoid(self.linear(embeddings))


class MissingClassifier(nn.Module):
    """Stands where EncoderClassifier asks for a classifier and none is.

    Example
    -------
    >>> try:
    ...     MissingClassifier()(None)
    ... except ValueError as error:
    ...     print(str(error)[:41])
    This pretrained folder has an encoder and
    """

    def forward(self, embeddings: Tensor) -> Tensor:
        """Explain that there is no classifier."""
        raise ValueError(
            "This pretrained folder has an encoder and no classifier: call "
            "encode_batch, and train a classifier on its embeddings."
        )
