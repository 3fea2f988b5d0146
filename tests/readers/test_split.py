from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onereward.readers.split import SplitConfig, choose_splits, connected, group_preferences, write_split
from onereward.store.shards import read_manifest, read_records, run_stage
from onereward.terms import Dimension, Preference, Task, VoterKind
from tests.preferences import bright_preference

NINE_TO_ONE = {"train": 0.9, "validation": 0.1}

links = st.lists(st.lists(st.sampled_from("abcdefghijklmn"), min_size=1, max_size=3), max_size=20)
shares = st.dictionaries(st.sampled_from(["train", "validation", "test", "dev"]), st.integers(1, 20), min_size=1).map(
    lambda parts: {name: part / sum(parts.values()) for name, part in parts.items()}
)


def spread(links: Sequence[Sequence[str]]) -> list[frozenset[str]]:
    """The names that each link leads to, found by going from name to name until there is no new one."""
    reached = []
    for link in links:
        names = set(link)
        while True:
            more = names.union(*(other for other in links if names & set(other)))
            if more == names:
                break
            names = more
        reached.append(frozenset(names))
    return reached


@given(links)
def test_links_are_of_one_group_where_a_walk_leads_from_one_to_the_other(links: list[list[str]]) -> None:
    groups, walks = connected(links), spread(links)
    for group, walk in zip(groups, walks, strict=True):
        assert group == min(link[0] for link, other in zip(links, walks, strict=True) if other == walk)


@given(links, st.randoms(use_true_random=False))
def test_a_groups_name_does_not_depend_on_the_order(links: list[list[str]], random: Random) -> None:
    order = list(range(len(links)))
    random.shuffle(order)
    shuffled = connected([links[place] for place in order])
    assert shuffled == [connected(links)[place] for place in order]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), shares, st.integers(0, 3))
def test_groups_stay_whole_and_splits_are_near_their_shares(
    groups: list[int], shares: dict[str, float], seed: int
) -> None:
    names = [f"source {group}" for group in groups]
    try:
        splits = choose_splits(names, SplitConfig(shares=shares, seed=seed))
    except ValueError:  # one would be empty
        return
    assert sorted(number for numbers in splits.values() for number in numbers) == list(range(len(names)))
    largest, outer = max(Counter(names).values()), (min(shares), max(shares))
    for name, numbers in splits.items():
        assert numbers and numbers == sorted(numbers)
        # Each cut is off by half a group at most, and an inner split lies between two.
        most = largest / 2 if name in outer else largest
        assert abs(len(numbers) - shares[name] * len(names)) <= most + 1e-6
        others = {names[number] for other in splits.values() if other is not numbers for number in other}
        assert not {names[number] for number in numbers} & others


@given(
    st.lists(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=3, max_size=3), min_size=8, max_size=16)
)
def test_no_source_and_no_image_is_in_two_splits(links: list[list[str]]) -> None:
    groups = connected(links)
    assume(len(set(groups)) > 1)
    try:
        splits = choose_splits(groups, SplitConfig(shares={"train": 0.6, "validation": 0.4}))
    except ValueError:  # one would be empty
        return
    train, validation = ({name for number in numbers for name in links[number]} for numbers in splits.values())
    assert not train & validation


@given(st.lists(st.integers(0, 9), min_size=40, max_size=60), st.randoms(use_true_random=False))
def test_a_source_goes_where_its_name_and_the_seed_say(groups: list[int], random: Random) -> None:
    names = [f"source {group}" for group in groups]
    config = SplitConfig(shares={"train": 0.5, "test": 0.5}, seed=1)
    try:
        splits = choose_splits(names, config)
    except ValueError:
        assume(False)
    shuffled = list(names)
    random.shuffle(shuffled)
    other_order = SplitConfig(shares={"test": 0.5, "train": 0.5}, seed=1)
    again = choose_splits(shuffled, other_order)
    for name in splits:
        assert {names[number] for number in splits[name]} == {shuffled[number] for number in again[name]}


def test_seeds_draw_other_splits() -> None:
    names = [f"source {number}" for number in range(100)]
    drawn = [choose_splits(names, SplitConfig(shares=NINE_TO_ONE, seed=seed))["validation"] for seed in range(3)]
    assert [len(numbers) for numbers in drawn] == [10, 10, 10]
    assert len({tuple(numbers) for numbers in drawn}) == 3


def test_new_sources_move_only_those_near_a_cut() -> None:
    names = [f"source {number}" for number in range(1000)]
    config = SplitConfig(shares=NINE_TO_ONE)
    few, many = (choose_splits(names[:count], config)["validation"] for count in (900, 1000))
    moved = {number for number in many if number < 900} ^ set(few)
    assert len(moved) <= 15  # of 900; drawn anew it would be 162


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.9}, "got the shares train=0.9, expected shares above 0 that sum to 1"),
        ({"train": 1.5, "test": -0.5}, "got the shares train=1.5, test=-0.5"),
        ({}, r"got the shares \(none\)"),
        ({"../x": 1.0}, "got a split named '../x', expected a folder's name"),
        ({"train": float("nan"), "test": 1.0}, "got the shares train=nan"),
    ],
)
def test_shares_that_cannot_be(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitConfig(shares=shares)


def test_a_split_that_would_be_empty_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"validation would be empty: the 20 preferences are of 2 sources.*with 12"):
        choose_splits(["a"] * 12 + ["b"] * 8, SplitConfig(shares=NINE_TO_ONE))


def test_a_split_far_from_its_share_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    groups = ["a"] * 96 + ["b", "c", "d", "e"]
    config = SplitConfig(shares={"train": 0.5, "validation": 0.5})
    splits = choose_splits(groups, config)
    shown = " ".join(caplog.messages)
    assert "not 50.0 %" in shown and "the largest such group has 96.0 %" in shown and len(caplog.messages) == 2
    assert sorted(map(len, splits.values())) != [50, 50]
    caplog.clear()
    choose_splits([str(number) for number in range(10)], config)
    assert not caplog.messages


@dataclass(frozen=True, kw_only=True)
class _Made:
    name: str = "test"


def write_preferences(folder: Path, preferences: Sequence[Preference], shard_size: int = 3) -> Path:
    parts = [preferences[start : start + shard_size] for start in range(0, len(preferences), shard_size)]
    run_stage(
        folder,
        kind=Preference,
        stage="test",
        config=_Made(),
        inputs={},
        shard_count=len(parts),
        make_shard=lambda index: list(parts[index]),
    )
    return folder


def preference(source: str, triplet: str, winner: bytes, loser: bytes) -> Preference:
    return Preference(
        triplet_id=triplet,
        task=Task.FILL,
        dimension=Dimension.STRUCTURE,
        prompt="",
        winner=winner,
        loser=loser,
        winner_index=0,
        loser_index=1,
        voter="v",
        kind=VoterKind.PERSON,
        weight=1.0,
        source=source,
    )


def test_sources_triplets_and_images_connect(tmp_path: Path) -> None:
    folder = write_preferences(
        tmp_path / "in",
        [
            preference("s1", "t1", b"a", b"b"),
            preference("s1", "t2", b"c", b"d"),
            preference("s2", "t1", b"e", b"f"),  # the triplet's name counts only without a source
            preference("", "t1", b"g", b"h"),
            preference("", "t1", b"i", b"j"),
            preference("s3", "t3", b"f", b"k"),  # an image of s2, there the loser
            preference("", "s1", b"l", b"m"),  # a triplet that is called like a source
        ],
    )
    seen: list[int] = []
    groups = group_preferences(folder, seen.append)
    assert groups == [
        "source s1", "source s1", "source s2", "triplet t1", "triplet t1", "source s2", "triplet s1"
    ]  # fmt: skip
    assert seen == [1, 1, 1]


def test_splits_hold_all_preferences_in_order_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preferences = [replace(bright_preference(number), source=f"s{number // 3}") for number in range(30)]
    folder = write_preferences(tmp_path / "in", preferences, shard_size=4)
    groups = group_preferences(folder)
    config = SplitConfig(shares={"train": 0.7, "validation": 0.3}, seed=2, shard_size=5)
    splits = choose_splits(groups, config)
    for name, numbers in splits.items():
        write_split(folder, tmp_path / "out", name, numbers, config)
        found = list(read_records(tmp_path / "out" / name, Preference))
        assert found == [preferences[number] for number in numbers]
        shards = [shard.rows for shard in read_manifest(tmp_path / "out" / name).shards]
        assert sum(shards) == len(numbers) and set(shards[:-1]) <= {5}
    train, validation = (list(read_records(tmp_path / "out" / name, Preference)) for name in splits)
    assert len(train) == 21 and not {row.source for row in train} & {row.source for row in validation}
    monkeypatch.setattr("onereward.readers.split.read_shard", lambda *_: pytest.fail("made again"))
    write_split(folder, tmp_path / "out", "train", splits["train"], config)
    with pytest.raises(ValueError, match=r"other settings: config.seed \(there 2, now 3\)"):
        write_split(folder, tmp_path / "out", "train", splits["train"], replace(config, seed=3))
