"""Time a grid of probes trained together against one after the other.

The points of the HEAR kit's grid on the first fold of a task; one after the
other means PyTorch's own layers and Adam, as the kit stacks them. Same
batches, validation and end of training.

    python benchmarks/probes.py --task DIR/esc10-v1.0-full --pretrained FOLDER
"""

import argparse
import math
import statistics
import time

import torch
from torch import nn

from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.embeddings import embed_task, make_targets
from speechbrain_wavjepa.evaluation.hear import SplitScorer
from speechbrain_wavjepa.evaluation.probes import (
    GRIDS,
    INITIALIZATIONS,
    Rows,
    sample_grid,
    train_probes,
)
from speechbrain_wavjepa.inference import hash_model, load_pretrained


def build_probe(point, dim, num_labels):
    """Stack the layers of the kit's probe."""
    sizes = [dim, *[point.hidden_dim] * point.hidden_layers, num_labels]
    layers = []
    for index, (size, next_size) in enumerate(zip(sizes, sizes[1:])):
        linear = nn.Linear(size, next_size)
        gain = math.sqrt(2) if index else 1.0
        INITIALIZATIONS[point.initialization](linear.weight, gain)
        layers.append(linear)
        if index < point.hidden_layers:
            layers += [
                nn.BatchNorm1d(next_size),
                nn.Dropout(point.dropout),
                nn.ReLU(),
            ]
    return nn.Sequential(*layers)


def train_alone(point, train, valid_rows, validate):
    """Train one probe; return its best validation score and its logits."""
    sizes = train.embeddings.shape[1], train.targets.shape[1]
    probe = build_probe(point, *sizes).to(train.embeddings.device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=point.lr)
    labels = train.targets.argmax(dim=1)
    best, state, waited = -math.inf, None, 0
    for epoch in range(point.max_epochs):
        probe.train()
        for start in range(0, len(labels), point.batch_size):
            rows = slice(start, start + point.batch_size)
            logits = probe(train.embeddings[rows])
            loss = nn.functional.cross_entropy(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (epoch + 1) % point.check_val_every_n_epoch:
            continue
        probe.eval()
        with torch.no_grad():
            score, _ = validate(probe(valid_rows))
        waited += 1
        if score > best:
            copies = {k: v.clone() for k, v in probe.state_dict().items()}
            best, state, waited = score, copies, 0
        if waited >= point.patience:
            break
    probe.load_state_dict(state)
    return best, probe.eval()


def run_seed(seed, task, splits, precision, device):
    """Search the grid both ways: seconds and test scores."""
    run = task.runs()[0]
    points = sample_grid(
        {**GRIDS["default"], "precision": [precision]}, task.name
    )

    def targets(split):
        return torch.from_numpy(make_targets(task, split, splits[split]))

    train = Rows(
        torch.cat([splits[split].read() for split in run.train]).to(device),
        torch.cat([targets(split) for split in run.train]).to(device),
    )
    valid = SplitScorer(task, run.valid, splits[run.valid])
    test = SplitScorer(task, run.test, splits[run.test])
    test_rows = splits[run.test].read().to(device)
    valid_rows = splits[run.valid].read().to(device)

    start = time.perf_counter()
    probes = train_probes(
        points, train, valid_rows, valid.validate, valid.multiclass, seed
    )
    together = time.perf_counter() - start
    best = max(probes, key=lambda probe: probe.score)

    torch.manual_seed(seed)
    start = time.perf_counter()
    alone = [
        train_alone(point, train, valid_rows, valid.validate)
        for point in points
    ]
    one_by_one = time.perf_counter() - start
    with torch.no_grad():
        ours = test.validate(best.bank(test_rows)[0])[0]
        theirs = test.validate(max(alone, key=lambda p: p[0])[1](test_rows))[0]
    return together, one_by_one, ours, theirs


def main():
    """Print a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="a multiclass task")
    parser.add_argument("--pretrained", required=True)
    parser.add_argument("--cache", default="results/embeddings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--precision", default="fp32", help="of those trained together"
    )
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    task = HearTask(options.task)
    encoder = load_pretrained(options.pretrained).to(options.device)
    splits = embed_task(
        task,
        lambda clips: encoder.embed(clips.to(options.device))[:, 0],
        hash_model(options.pretrained),
        options.cache,
    )
    rows = [
        run_seed(seed, task, splits, options.precision, options.device)
        for seed in range(options.seeds)
    ]
    print("| seed | together s | one by one s | ratio | test | test, alone |")
    print("|---|---|---|---|---|---|")
    for seed, (together, alone, ours, theirs) in enumerate(rows):
        print(
            f"| {seed} | {together:.1f} | {alone:.1f} "
            f"| {alone / together:.2f} | {ours:.3f} | {theirs:.3f} |"
        )
    medians = [statistics.median(column) for column in zip(*rows)]
    print(
        f"| median | {medians[0]:.1f} | {medians[1]:.1f} "
        f"| {medians[1] / medians[0]:.2f} | {medians[2]:.3f} "
        f"| {medians[3]:.3f} |"
    )


if __name__ == "__main__":
    main()
