"""How the clips of a data set are divided, in the terms of ARCH.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Sequence
from typing import NamedTuple

from sklearn.model_selection import train_test_split

SPLIT_SEED = 42  # of ARCH's random splits
MAX_FOLDS = 100  # no data set of ARCH has more than eleven


class ArchRun(NamedTuple):
    """Which clips train, select and test.

    Arguments
    ---------
    name : str
        What is tested, such as "fold 1".
    train : list of int
        Numbers of clips.
    valid : list of int
        Numbers of clips.
    test : list of int
        Numbers of clips.

    Example
    -------
    >>> ArchRun("fold 1", [0, 1], [2], [3]).test
    [3]
    """

    name: str
    train: list[int]
    valid: list[int]
    test: list[int]


def split_off(clips: Sequence[int], share: float) -> tuple[list, list]:
    """Divide clips at random, the same way each time.

    Arguments
    ---------
    clips : sequence of int
        Numbers of clips, in an order that does not change.
    share : float
        The part that is held out, rounded up.

    Returns
    -------
    tuple of list of int
        The others, and those held out.

    Raises
    ------
    ValueError
        If there are fewer than two clips.

    Example
    -------
    >>> split_off(range(10), 0.2)
    ([5, 0, 7, 2, 9, 4, 3, 6], [8, 1])
    """
    if len(clips) < 2:
        raise ValueError(
            f"{len(clips)} clips cannot be divided into training and "
            "validation: is the data set complete?"
        )
    kept, held_out = train_test_split(
        list(clips), test_size=share, random_state=SPLIT_SEED
    )
    return kept, held_out


def fold_runs(groups: Sequence, valid_share: float) -> list[ArchRun]:
    """Test each group once, and validate on a part of the others.

    Arguments
    ---------
    groups : [n] sequence
        Fold or speaker of each clip. The pool of the others is in the order
        in which groups appear first.
    valid_share : float
        Part of the pool that validates.

    Returns
    -------
    list of ArchRun
        One for each group, in order of first appearance.

    Raises
    ------
    ValueError
        If there are absurdly many groups, or too few clips.

    Example
    -------
    >>> runs = fold_runs([1, 1, 1, 2, 2, 2], 0.3)
    >>> runs[1].test, sorted(runs[1].train + runs[1].valid)
    ([3, 4, 5], [0, 1, 2])
    """
    members = _members(groups)
    if len(members) > MAX_FOLDS:
        raise ValueError(
            f"The clips have {len(members)} folds, over {MAX_FOLDS}: each is "
            "tested once. Is the table as it is published?"
        )
    runs = []
    for test, clips in members.items():
        pool = [n for other in members if other != test for n in members[other]]
        runs.append(ArchRun(str(test), *split_off(pool, valid_share), clips))
    return runs


def cyclic_runs(groups: Sequence, order: Sequence) -> list[ArchRun]:
    """Test each group once and validate on the next one.

    Arguments
    ---------
    groups : [n] sequence
        Fold or speaker of each clip.
    order : sequence
        The groups in their order; behind the last comes the first.

    Returns
    -------
    list of ArchRun
        One for each group.

    Raises
    ------
    ValueError
        If a group has no clip.

    Example
    -------
    >>> cyclic_runs("abca", "abc")[2]
    ArchRun(name='c', train=[1], valid=[0, 3], test=[2])
    """
    members = _members(groups)
    if missing := [group for group in order if group not in members]:
        raise ValueError(
            f"There is no clip of {missing}: each of {list(order)} is tested "
            "once. Is the data set complete?"
        )
    runs = []
    for number, test in enumerate(order):
        valid = order[(number + 1) % len(order)]
        train = [
            clip
            for group in order
            if group not in (test, valid)
            for clip in members[group]
        ]
        runs.append(ArchRun(str(test), train, members[valid], members[test]))
    return runs


def given_run(splits: Sequence[str]) -> ArchRun:
    """Take the published split.

    Arguments
    ---------
    splits : [n] sequence of str
        "train", "valid" or "test" for each clip.

    Returns
    -------
    ArchRun
        The one run.

    Raises
    ------
    ValueError
        If a split has no clip.

    Example
    -------
    >>> given_run(["train", "test", "valid"])
    ArchRun(name='test', train=[0], valid=[2], test=[1])
    """
    members = _members(splits)
    for split in ("train", "valid", "test"):
        if split not in members:
            raise ValueError(
                f"The {split} split has no clip: are all lists there?"
            )
    return ArchRun("test", *(members[s] for s in ("train", "valid", "test")))


def _members(groups: Sequence) -> dict:
    """List the clips of each group, in order of first appearance."""
    members: dict = {}
    for clip, group in enumerate(groups):
        members.setdefault(group, []).append(clip)
    return members
