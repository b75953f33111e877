"""Print how far the model is from the authors' numbers, in float64.

python tests/parity/report.py
"""

import torch
from official import (
    STRIDE,
    build_model,
    read_json,
    read_masks,
    read_numbers,
    select,
)

from speechbrain_wavjepa.lobes import masked_mse
from speechbrain_wavjepa.nnet import EMADecay


def difference(ours, theirs):
    """Find the largest absolute difference."""
    return (ours.double() - theirs.double()).abs().max().item()


def measure(name):
    """Measure one case: quantity -> (difference, stored type)."""
    numbers = read_numbers(name)
    model = build_model(read_json(name))
    model.load_state_dict(select(numbers, "state."))
    model.double()
    waveform = numbers["input.audio"].double().transpose(1, 2)
    masks = read_masks(numbers, model)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=4e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.04
    )
    ema_decay = EMADecay()
    rows, losses, norms = {}, [], []
    for step in range(5):
        output = model(waveform, masks)
        loss = masked_mse(output.prediction, output.target, output.mask)
        if step == 0:
            with torch.no_grad():
                tokens = model.frontend(waveform)
                local = model._embed(tokens)
                context = model.predictor.input_projection(output.context)
            for title, ours, key in (
                ("front-end", tokens[:, ::STRIDE], "out.extractor_features"),
                ("encoder input", local[:, ::STRIDE], "out.local_features"),
                ("context", context, "out.contextual_features"),
                ("targets", output.target[:, ::STRIDE], "out.targets"),
                ("predictions", output.prediction, "out.preds"),
                ("loss", loss, "out.loss"),
            ):
                rows[title] = (difference(ours, numbers[key]), numbers[key])
        model.target_encoder.update(model.context_encoder, ema_decay(step))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = select(numbers, "grad.")
            rows["gradients"] = worst(
                (parameter.grad.flatten()[::STRIDE], gradients[key])
                for key, parameter in model.named_parameters()
                if parameter.requires_grad
            )
        norms.append(torch.nn.utils.clip_grad_norm_(trainable, 5.0))
        optimizer.step()
        losses.append(loss.detach())
    rows["five losses"] = worst([(torch.stack(losses), numbers["traj.losses"])])
    rows["five gradient norms"] = worst(
        [(torch.stack(norms), numbers["traj.grad_norm_before_clip"])]
    )
    end, changes = model.state_dict(), select(numbers, "traj.delta.")
    rows["change of weights"] = worst(
        ((end[key] - start[key]).flatten()[::STRIDE], change)
        for key, change in changes.items()
    )
    return rows


def worst(pairs):
    """Find the largest difference among pairs of tensors."""
    return max(
        ((difference(ours, theirs), theirs) for ours, theirs in pairs),
        key=lambda pair: pair[0],
    )


if __name__ == "__main__":
    cases = {name: measure(name) for name in ("mono_tiny", "binaural_tiny")}
    print("| quantity | stored in | mono | binaural |\n|---|---|---|---|")
    for title, (_, stored) in cases["mono_tiny"].items():
        figures = " | ".join(f"{rows[title][0]:.1e}" for rows in cases.values())
        kind = str(stored.dtype).removeprefix("torch.")
        print(f"| {title} | {kind} | {figures} |")
