"""The encoder as a program that runs without this package.

Shapes: B windows, T samples, C channels, N tokens of a channel, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable
from pathlib import Path
from typing import Union

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.inference.pretrained import load_pretrained
from speechbrain_wavjepa.lobes.embedding import WavJEPAEmbedding
from speechbrain_wavjepa.processing.audio import standardize
from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import atomic_file

TOLERANCE = 1e-4
CHECK_BATCHES = (1, 3)  # neither is the batch that was traced


class WindowEncoder(nn.Module):
    """From windows as they are to tokens: all that deployment needs."""

    def __init__(self, embedding: WavJEPAEmbedding):
        super().__init__()
        self.model = embedding.model
        self.layer_sum = embedding.layer_sum

    def forward(self, windows: Tensor) -> Tensor:
        """Encode windows [B, T, C] to tokens [B, N, D]; ears are averaged."""
        windows = standardize(windows)
        if self.layer_sum is None:
            tokens = self.model.encode(windows)
        else:
            tokens = self.layer_sum(self.model.encode_layers(windows))
        channels = self.model.frontend.channels
        return tokens.unflatten(1, (channels, -1)).mean(dim=1)


def export_program(
    folder: Union[str, Path], path: Union[str, Path]
) -> dict[str, float]:
    """Export the encoder of a pretrained folder to a .pt2 or .onnx file.

    The program takes windows [B, T, C] of the folder's window_samples at its
    sample_rate, any number of them, and returns tokens [B, N, D]. Returns its
    largest difference from the model by batch size, for .onnx measured with
    onnxruntime; a program that differs by more than 1e-4 is deleted.
    """
    path = Path(path)
    if path.suffix not in (".pt2", ".onnx"):
        raise ValueError(f"The program {path} must end in .pt2 or .onnx.")
    if path.suffix == ".onnx":
        for name in ("onnxruntime", "onnxscript"):
            require(name, "onnx")
    embedding = load_pretrained(folder).embedding_model
    encoder = WindowEncoder(embedding).eval()
    shape = (embedding.grid.window_samples, embedding.model.frontend.channels)
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(2, *shape, generator=generator)
    dynamic = {"windows": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(
            encoder, (windows,), dynamic_shapes=dynamic
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    errors = {}
    with atomic_file(path) as aside:
        if path.suffix == ".pt2":
            with open(aside, "w+b") as file:
                torch.export.save(program, file)
                file.seek(0)
                run = torch.export.load(file).module()
        else:
            run = _write_onnx(program, aside)
        for batch in CHECK_BATCHES:
            windows = torch.randn(batch, *shape, generator=generator)
            with torch.no_grad():
                error = (run(windows) - encoder(windows)).abs().max().item()
            errors[f"batch of {batch}"] = error
            if not error <= TOLERANCE:
                raise ValueError(
                    f"The program differs from the model by {error}, over "
                    f"{TOLERANCE}: it was deleted. Report your torch's version."
                )
    return errors


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path
) -> Callable[[Tensor], Tensor]:
    """Write the program as ONNX; return a function that runs it."""
    names = {"input_names": ["windows"], "output_names": ["tokens"]}
    options = {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(program, f=str(path), **names, **options)
    start = require("onnxruntime", "onnx").InferenceSession
    session = start(str(path), providers=["CPUExecutionProvider"])
    return lambda windows: torch.from_numpy(
        session.run(None, {"windows": windows.numpy()})[0]
    )
