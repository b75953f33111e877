"""The model card of a pretrained folder, README.md.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Mapping, Sequence
from typing import Optional

CARD = """\
---
library_name: speechbrain
tags: [audio, self-supervised, wavjepa]{licence_line}
---
# {name}

{kind} WavJEPA encoder (https://arxiv.org/abs/2509.23238) in the format of
SpeechBrain's pretrained models. It takes waveforms of {channels} at
{sample_rate} Hz and of any length, and gives one embedding of {encoder_dim}
numbers for a clip, or one every {token_ms:g} ms.

| | |
|---|---|
| training data | {training_data} |
| licence | {licence} |
{rows}
{notes}
## Use

```python
from speechbrain.inference.classifiers import EncoderClassifier

encoder = EncoderClassifier.from_hparams(source="FOLDER")
clip = encoder.load_audio("FOLDER/example.wav")
embedding = encoder.encode_batch(clip[None])  # [1, 1, {encoder_dim}]
```
{classify}
Tokens: `speechbrain.inference.encoders.WaveformEncoder` from the same folder;
`encode_file(path)` gives [1, N, {encoder_dim}].

`from_hparams` evaluates hyperparams.yaml, as always in SpeechBrain: inspect
folders from untrusted sources first, `wavjepa info FOLDER` lists what would
run. `load_pretrained` in `speechbrain_wavjepa.pretrained` loads the encoder
without evaluating it. The yaml holds checksums of all weights; every loader
of `speechbrain_wavjepa` compares them.
"""


def write_card(
    settings: Mapping,
    card: Mapping,
    parameters: int,
    labels: Optional[Sequence[str]] = None,
) -> str:
    """Write the model card, README.md.

    Arguments
    ---------
    settings : Mapping
        The model's settings.
    card : Mapping
        Any of name, training_data, licence, notes (texts) and figures (a
        mapping of names to values).
    parameters : int
        How many parameters the encoder has.
    labels : Sequence[str], optional
        The classifier's labels.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the card has another entry.

    Example
    -------
    >>> settings = {"channels": 2, "sample_rate": 16000, "encoder_dim": 8}
    >>> settings["frontend_layers"] = [[8, 160, 160]]
    >>> text = write_card(settings, {"licence": "cc-by-4.0"}, 1000)
    >>> print(text.splitlines()[3])
    license: cc-by-4.0
    """
    known = {"name", "training_data", "licence", "notes", "figures"}
    if unknown := set(card) - known:
        raise ValueError(
            f"A model card has {sorted(known)}, not {sorted(unknown)}."
        )
    rows = {"encoder's parameters": f"{parameters:,}"}
    for name, value in settings.items():
        rows |= value if isinstance(value, Mapping) else {name: value}
    rows |= card.get("figures", {})
    notes = card.get("notes", "")
    classify = ""
    if labels:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        classify = (
            f"\n`encoder.classify_file(path)` tells {len(labels)} classes "
            f"apart: {shown}.\n"
        )
    licence = card.get("licence")
    strides = [layer[2] for layer in settings["frontend_layers"]]
    return CARD.format(
        token_ms=1000 * math.prod(strides) / settings["sample_rate"],
        **{key: settings[key] for key in ("sample_rate", "encoder_dim")},
        name=card.get("name", "WavJEPA"),
        kind="Binaural" if settings["channels"] == 2 else "Mono",
        channels=f"{settings['channels']} channel(s)",
        training_data=card.get("training_data", "not stated"),
        licence=licence or "not stated",
        licence_line=f"\nlicense: {licence}" if licence else "",
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        notes=f"\n{notes}\n" if notes else "",
        classify=classify,
    )
