"""Linear probes: how much a linear map can read out of frozen features.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
import torchaudio
from torch import Tensor, nn

# Strengths of the L2 penalty to choose from.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


def log_mel_features(
    waveform: Tensor, sample_rate: int = 16000, num_bands: int = 64
) -> Tensor:
    """Average the log-mel spectrum over time: the baseline without learning.

    Arguments
    ---------
    waveform : [B, T]
        The clips.
    sample_rate : int
        Their rate in Hz.
    num_bands : int
        Mel bands.

    Returns
    -------
    [B, num_bands]
        Mean log energy of each band.

    Example
    -------
    >>> log_mel_features(torch.randn(2, 16000)).shape
    torch.Size([2, 64])
    """
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=1024, hop_length=320, n_mels=num_bands
    )
    return (mel(waveform) + 1e-6).log().mean(dim=-1)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> float:
    """Train multinomial logistic regression and test it.

    Features are standardised with the training statistics. The penalty is
    chosen on every fifth training clip; then all of them are used.

    Arguments
    ---------
    train_features : [n, D]
        Features of the training clips.
    train_labels : [n] int64
        Their classes.
    test_features : [m, D]
        Features of held-out clips.
    test_labels : [m] int64
        Their classes.

    Returns
    -------
    float
        Accuracy on the held-out clips, between 0 and 1.

    Raises
    ------
    ValueError
        If the features are not finite.

    Example
    -------
    >>> labels = torch.arange(100) % 2
    >>> features = labels[:, None] + 0.1 * torch.randn(100, 3)
    >>> linear_probe(features[:80], labels[:80], features[80:], labels[80:])
    1.0
    """
    for name, features in (("train", train_features), ("test", test_features)):
        if not bool(features.isfinite().all()):
            raise ValueError(
                f"The {name} features hold NaN or Inf: check the clips and "
                "the model's weights."
            )
    mean, std = train_features.mean(dim=0), train_features.std(dim=0)
    train_features = ((train_features - mean) / (std + 1e-6)).double()
    test_features = ((test_features - mean) / (std + 1e-6)).double()
    held_out = torch.arange(len(train_labels)) % 5 == 0
    scores = [
        _accuracy(
            _fit(train_features[~held_out], train_labels[~held_out], penalty),
            train_features[held_out],
            train_labels[held_out],
        )
        for penalty in PENALTIES
    ]
    penalty = PENALTIES[scores.index(max(scores))]
    classifier = _fit(train_features, train_labels, penalty)
    return _accuracy(classifier, test_features, test_labels)


def _fit(features: Tensor, labels: Tensor, penalty: float) -> nn.Linear:
    """Minimise cross-entropy plus penalty * squared weights by L-BFGS."""
    num_classes = int(labels.max()) + 1
    classifier = nn.Linear(features.shape[1], num_classes).double()
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(classifier(features), labels)
        loss = loss + penalty * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return classifier


@torch.no_grad()
def _accuracy(classifier: nn.Linear, features: Tensor, labels: Tensor) -> float:
    """Count the clips whose class comes out highest."""
    right = classifier(features).argmax(dim=1) == labels
    return right.double().mean().item()
