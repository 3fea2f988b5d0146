from collections import Counter

import pytest

from onereward.study.design import Balance, balance_of, design_comparisons, design_ratings

ITEMS = [f"i{number}" for number in range(40)]
SYSTEMS = ["ours", "ideogram", "flux", "photoshop"]


def test_ratings_are_balanced_in_numbers() -> None:
    blocks = design_ratings(ITEMS, SYSTEMS, answers=3, items_a_block=10, seed=1)
    balance = balance_of(blocks)
    # 40 items x 3 answers / 10 a block = 12 blocks of 10 items x 4 systems; 12 blocks / 4 systems at every place
    assert len(blocks) == 12
    assert balance == Balance(
        answers=(3, 3), blocks=(40, 40), together=balance.together, places=(3, 3), lefts=0, apart=10
    )
    for block in blocks:
        shown = Counter((page.item, page.systems[0]) for page in block.pages)
        assert max(shown.values()) == 1 and len(shown) == 40  # every output of its items once
        for turn in range(4):  # in a round every item once, and every system on 2 or 3 of 10 items
            page_round = block.pages[10 * turn : 10 * turn + 10]
            assert len({page.item for page in page_round}) == 10
            assert set(Counter(page.systems for page in page_round).values()) <= {2, 3}


def test_pairs_of_items_meet_more_evenly_than_by_chance() -> None:
    items = [f"i{number}" for number in range(100)]
    blocks = design_ratings(items, SYSTEMS, answers=4, items_a_block=10, seed=0)
    assert balance_of(blocks).together[1] <= 2


@pytest.mark.parametrize(("answers", "items", "size"), [(4, 40, 10), (2, 31, 8)])
def test_sides_are_balanced_for_every_item_and_pair(answers: int, items: int, size: int) -> None:
    pairs = [("ours", "flux"), ("ours", "ideogram")]
    blocks = design_comparisons(ITEMS[:items], pairs, answers=answers, items_a_block=size, seed=3)
    sides = Counter((page.item, page.systems) for block in blocks for page in block.pages)
    both_ways = [shown for pair in pairs for shown in (pair, pair[::-1])]
    assert sides == {(item, shown): answers // 2 for item in ITEMS[:items] for shown in both_ways}
    assert balance_of(blocks).answers == (answers, answers)
    assert balance_of(blocks).lefts == 0
    for block in blocks:
        if size == 10:  # an even number of items: even within the block
            assert sum(page.systems[0] == "ours" for page in block.pages) == len(block.pages) / 2


@pytest.mark.parametrize(("answers", "items", "size"), [(3, 7, 5), (5, 3, 2), (2, 9, 9), (4, 31, 8), (3, 4, 3)])
def test_odd_numbers_keep_the_promises(answers: int, items: int, size: int) -> None:
    blocks = design_ratings(ITEMS[:items], SYSTEMS, answers=answers, items_a_block=size, seed=0)
    outputs = Counter((page.item, page.systems[0]) for block in blocks for page in block.pages)
    assert outputs == {(item, system): answers for item in ITEMS[:items] for system in SYSTEMS}
    for block in blocks:
        assert max(Counter(block.pages).values()) == 1
        assert len(block.pages) == len(block.items) * len(SYSTEMS)


def test_the_seed_decides() -> None:
    one, same, other = (design_ratings(ITEMS, SYSTEMS, answers=2, items_a_block=8, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_what_cannot_be_balanced_is_refused() -> None:
    with pytest.raises(ValueError, match="'i0' twice"):
        design_ratings(["i0", "i0"], SYSTEMS, answers=1, items_a_block=2, seed=0)
    with pytest.raises(ValueError, match="41 items a block, expected 2 to 40"):
        design_ratings(ITEMS, SYSTEMS, answers=1, items_a_block=41, seed=0)
    with pytest.raises(ValueError, match="two different systems"):
        design_comparisons(ITEMS, [("ours", "ours")], answers=2, items_a_block=10, seed=0)
    with pytest.raises(ValueError, match="'flux ours' twice"):
        design_comparisons(ITEMS, [("ours", "flux"), ("flux", "ours")], answers=2, items_a_block=10, seed=0)
    with pytest.raises(ValueError, match="0 answers"):
        design_ratings(ITEMS, SYSTEMS, answers=0, items_a_block=10, seed=0)
    with pytest.raises(ValueError, match="no systems"):
        design_ratings(ITEMS, [], answers=1, items_a_block=10, seed=0)
    with pytest.raises(ValueError, match=r"40 items with 1000000 answers .* 4,000,000 participants; expected 10,000"):
        design_ratings(ITEMS, SYSTEMS, answers=1_000_000, items_a_block=10, seed=0)
