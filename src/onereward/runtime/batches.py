"""Batches of what can share one: a network takes images of one size at a time."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches_of(items: Iterable[Item], size: int, alike: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    """Batches of at most `size` items with equal `alike(item)`, each in the items' order."""
    groups: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[alike(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
