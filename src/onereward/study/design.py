"""Who sees what, where and in which order: balanced incomplete blocks, one for each participant.

All outputs of an item in a block go to the same participant, so that systems are compared by the same eyes on the same
items; they come a whole round apart, never in succession, since an output beside its rival would be rated against it.
A round shows every item of the block once, in the same order, and each system on an equal share of them.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from onereward.seeds import python_generator

_MOST = 10_000  # participants
_TRIES = 10  # orders tried for each replicate; the one that spreads pairs of items most evenly is taken
_Turn = tuple[str, int]  # an item, and whether its sides are swapped
_Together = defaultdict[str, Counter[str]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is shown at one position of a block: an item by one system, or by two, left and right."""

    item: str
    systems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One participant's list, in the order in which it is shown."""

    index: int
    pages: tuple[Page, ...]

    @property
    def items(self) -> frozenset[str]:
        """The items it shows."""
        return frozenset(page.item for page in self.pages)


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How balanced a design is, in counts; where two are given they are the least and the most of what should be equal.

    answers: of each output (or pair of outputs). blocks: pages in a block. together: blocks that two items share.
    places: of one system (or pair) at one position of a block. lefts: how often a system is left less how often it is
    right, at its worst, over all pages. apart: the fewest pages from an item's page to its next in a block.
    """

    answers: tuple[int, int]
    blocks: tuple[int, int]
    together: tuple[int, int]
    places: tuple[int, int]
    lefts: int
    apart: int


def design_ratings(
    items: Sequence[str], systems: Sequence[str], *, answers: int, items_a_block: int, seed: int
) -> tuple[Block, ...]:
    """Blocks in which each output is rated `answers` times, by as many participants.

    Every system stands equally often at every position once the blocks are a multiple of the systems. Raises ValueError
    for names that come twice, and for numbers that leave nothing to balance.
    """
    return _blocks(items, [(system,) for system in _distinct(systems)], answers, items_a_block, seed)


def design_comparisons(
    items: Sequence[str], pairs: Sequence[tuple[str, str]], *, answers: int, items_a_block: int, seed: int
) -> tuple[Block, ...]:
    """Blocks in which each pair of systems is compared `answers` times on each item; half of them either way round.

    The halves are equal for every item and pair where `answers` is even, and in every block where its items are.
    Raises ValueError as `design_ratings` does, and for a system paired with itself.
    """
    if any(first == second for first, second in pairs):
        raise ValueError(f"got the pairs {pairs}, expected two different systems in each")
    _distinct([" ".join(sorted(pair)) for pair in pairs])
    return _blocks(items, list(pairs), answers, items_a_block, seed)


def count_blocks(items: int, answers: int, items_a_block: int) -> int:
    """How many blocks, and so participants, that takes; ValueError for too few or too many."""
    if not items or answers < 1:
        raise ValueError(f"got {items} items and {answers} answers to each, expected 1 or more of both")
    if not 2 <= items_a_block <= items:
        raise ValueError(f"got {items_a_block} items a block, expected 2 to {items}, the number of items")
    blocks = -(-items * answers // items_a_block)
    if blocks > _MOST:
        raise ValueError(
            f"got {items} items with {answers} answers to each and {items_a_block} items a block, which takes "
            f"{blocks:,} participants; expected {_MOST:,} at most"
        )
    return blocks


def balance_of(blocks: Sequence[Block]) -> Balance:
    """How balanced these blocks are (all of a design, or those that were finished)."""
    shown = [(place, page) for block in blocks for place, page in enumerate(block.pages)]
    answers = Counter((page.item, *sorted(page.systems)) for _, page in shown)
    items = sorted({page.item for _, page in shown})
    together = Counter(pair for block in blocks for pair in itertools.combinations(sorted(block.items), 2))
    kinds = sorted({tuple(sorted(page.systems)) for _, page in shown})
    places = Counter((place, *sorted(page.systems)) for place, page in shown)
    full = min(len(block.pages) for block in blocks)
    at_places = [places[place, *kind] for place in range(full) for kind in kinds]
    lefts: Counter[str] = Counter()
    for _, page in shown:
        if len(page.systems) == 2:
            lefts[page.systems[0]] += 1
            lefts[page.systems[1]] -= 1
    shared = [together[pair] for pair in itertools.combinations(items, 2)]
    return Balance(
        answers=(min(answers.values()), max(answers.values())),
        blocks=(full, max(len(block.pages) for block in blocks)),
        together=(min(shared, default=0), max(shared, default=0)),
        places=(min(at_places), max(at_places)),
        lefts=max((abs(count) for count in lefts.values()), default=0),
        apart=min(_apart(block) for block in blocks),
    )


def _blocks(
    items: Sequence[str], shows: Sequence[tuple[str, ...]], answers: int, items_a_block: int, seed: int
) -> tuple[Block, ...]:
    _distinct(items)
    count_blocks(len(items), answers, items_a_block)
    if not shows:
        raise ValueError("got no systems and no pairs of systems, expected some")
    generator = python_generator(seed, "blocks")
    chunks = _chunks(items, answers, items_a_block, generator)
    shuffled = generator.sample(list(shows), len(shows))
    blocks, starts = [], [0] * items_a_block
    for index, chunk in enumerate(chunks):
        shift = index % len(shows)
        if shift == 0:  # the next blocks, as many as systems, share their starts: every place sees each system once
            starts = _starts(items_a_block, len(shows), generator)
        pages = []
        for turn in range(len(shows)):
            for place, (item, flip) in enumerate(chunk):
                which = (starts[place] + shift + turn) % len(shows)
                show = shuffled[which]
                pages.append(Page(item=item, systems=show[::-1] if (flip + which) % 2 else show))
        blocks.append(Block(index=index, pages=tuple(pages)))
    return tuple(blocks)


def _starts(places: int, shows: int, generator: Random) -> list[int]:
    """Which system each place of a block begins with: every one equally often, in random order."""
    rounds = [generator.sample(range(shows), shows) for _ in range(-(-places // shows))]
    return [start for order in rounds for start in order][:places]


def _chunks(items: Sequence[str], answers: int, size: int, generator: Random) -> list[list[_Turn]]:
    """Blocks of (item, flip): every item `answers` times, at most once in a block, flipped every other time."""
    flips = {item: place % 2 for place, item in enumerate(generator.sample(list(items), len(items)))}
    line: list[_Turn] = []
    for replicate in range(answers):
        begun = line[len(line) // size * size :]
        together = _together(line, size)
        now = [(item, (flip + replicate) % 2) for item, flip in flips.items()]
        tried = [_replicate(now, begun, size, together, generator) for _ in range(_TRIES)]
        line += min(tried, key=lambda order: _repeats([*begun, *order], size, together))
    return [line[start : start + size] for start in range(0, len(line), size)]


def _replicate(
    turns: Sequence[_Turn], begun: Sequence[_Turn], size: int, together: _Together, generator: Random
) -> list[_Turn]:
    """All items once, those flipped and not in turns, going on from a block that is `begun`.

    Each next one is of those that shared the fewest blocks with the items of its block.
    """
    left, order, block = generator.sample(list(turns), len(turns)), [], list(begun)
    shared: Counter[str] = Counter()
    for item, _ in block:
        shared.update(together[item])
    while left:
        chosen = {item for item, _ in block}
        best = min(left, key=lambda turn: (turn[0] in chosen, turn[1] != len(block) % 2, shared[turn[0]]))
        left.remove(best)
        order.append(best)
        block.append(best)
        shared.update(together[best[0]])
        if len(block) == size:
            block = []
            shared.clear()
    return order


def _repeats(order: Sequence[_Turn], size: int, together: _Together) -> int:
    """How often pairs would share a block, squared: least where it is most even."""
    return sum((together[first][second] + 1) ** 2 for first, second in _pairs(order, size))


def _together(line: Sequence[_Turn], size: int) -> _Together:
    """How many blocks any two items share so far."""
    found: _Together = defaultdict(Counter)
    for first, second in _pairs(line, size):
        found[first][second] += 1
        found[second][first] += 1
    return found


def _pairs(line: Sequence[_Turn], size: int) -> Iterable[tuple[str, str]]:
    """All pairs of items that share a block of that size."""
    for start in range(0, len(line), size):
        yield from itertools.combinations([item for item, _ in line[start : start + size]], 2)


def _apart(block: Block) -> int:
    """The fewest pages from an item's page to its next; the block's length where none comes again."""
    last: dict[str, int] = {}
    least = len(block.pages)
    for place, page in enumerate(block.pages):
        least = min(least, place - last.get(page.item, place - least))
        last[page.item] = place
    return least


def _distinct(names: Sequence[str]) -> Sequence[str]:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"got {twice[0]!r} twice, expected each name once")
    return names
