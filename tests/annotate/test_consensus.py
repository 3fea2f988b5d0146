"""Several votes into one: by hand, and on simulated voters whose accuracy is known."""

from random import Random
from uuid import UUID

import pytest

from onereward.annotate.consensus import Weighting, dawid_skene, majority, weighed
from onereward.annotate.database import CastVote
from onereward.terms import Dimension, Task, Vote, VoterKind


def test_most_voices_win_with_their_share_and_a_tie_has_no_winner() -> None:
    found = majority([("a", 1), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", None)])
    assert found.keys() == {"a", "c"}
    assert (found["a"].option, found["a"].probability) == (1, pytest.approx(2 / 3))
    assert (found["c"].option, found["c"].probability) == (None, 1.0)


def test_two_equal_voters_who_differ_leave_it_open_and_one_voter_is_believed_in_part() -> None:
    found = dawid_skene([("a", "ann", 0), ("b", "ann", 0), ("b", "bob", 1)], {"a": 2, "b": 2})
    assert "b" not in found or found["b"].probability < 0.8
    assert found["a"].option == 0 and 0.5 < found["a"].probability < 1


def test_after_one_round_the_posterior_is_bayes_by_hand() -> None:
    # All begin at .7; of three options the others share .3: .7 * .7 * .15 : .15 * .15 * .7 : .15 ** 3.
    from onereward.annotate.consensus import _posterior

    found = _posterior([("ann", "x"), ("bob", "x"), ("cy", "y")], dict.fromkeys(("ann", "bob", "cy"), 0.7), 3)
    x, y, z = 0.7 * 0.7 * 0.15, 0.15 * 0.15 * 0.7, 0.15**3
    assert found == {"x": pytest.approx(x / (x + y + z)), "y": pytest.approx(y / (x + y + z))}


def test_a_good_voter_outweighs_two_bad_ones() -> None:
    random, truth = Random(0), {item: Random(item).randrange(4) for item in range(400)}
    accuracy = {"good": 0.95, "also": 0.9, "bad": 0.3, "worse": 0.3}

    def said(item: int, voter: str) -> int:
        right = random.random() < accuracy[voter]
        return truth[item] if right else random.choice([other for other in range(4) if other != truth[item]])

    answers = [(item, voter, said(item, voter)) for item in truth for voter in accuracy]
    found = dawid_skene(answers, dict.fromkeys(truth, 4))
    by_most = majority((item, option) for item, _, option in answers)

    def share(of: dict[object, object]) -> float:
        return sum(item in of and of[item].option == truth[item] for item in truth) / len(truth)  # type: ignore[attr-defined]

    right, most = share(dict(found)), share(dict(by_most))
    print(f"right: {right:.3f} by Dawid and Skene, {most:.3f} by most voices")
    assert right > 0.92 and right > most + 0.05
    believed = sum(belief.probability for belief in found.values()) / len(found)
    assert believed == pytest.approx(right, abs=0.05)  # its probabilities are right as often as they say


def cast(number: int, voter: str, best: int | None, worst: int | None) -> CastVote:
    vote = Vote(
        triplet_id="t", dimension=Dimension.STRUCTURE, best=best, worst=worst, voter=voter, kind=VoterKind.PERSON
    )
    return CastVote(uuid=str(UUID(int=number)), candidates="c", task=Task.FILL, vote=vote)


def test_a_consensus_is_one_vote_with_the_lower_share_and_none_where_there_is_none() -> None:
    three = [cast(1, "ann", 2, 0), cast(2, "bob", 2, 1), cast(3, "cy", 2, 0)]
    [one] = weighed(three, Weighting.MAJORITY, {})
    assert (one.vote.best, one.vote.worst, one.vote.voter) == (2, 0, "majority")
    assert one.vote.weight == pytest.approx(2 / 3)
    [likeliest] = weighed(three, Weighting.DAWID_SKENE, {"t": 3})
    assert (likeliest.vote.best, likeliest.vote.worst) == (2, 0) and 0.5 < likeliest.vote.weight < 1
    assert weighed(three, Weighting.EACH, {}) == three
    # Best 0 by most, worst 0 by most, of others: no pair can come of that.
    none = weighed([cast(1, "ann", 0, 1), cast(2, "bob", 0, 2), cast(3, "cy", 1, 0), cast(4, "di", 2, 0)],
                     Weighting.MAJORITY, {})  # fmt: skip
    assert none == []
    [skip] = weighed([cast(1, "ann", None, None), cast(2, "bob", None, None), cast(3, "cy", 0, 1)],
                     Weighting.MAJORITY, {})  # fmt: skip
    assert skip.vote.is_skip and skip.vote.worst is None
    assert skip.vote.weight == pytest.approx(2 / 3)


def test_the_likelihood_of_many_answers_is_no_zero() -> None:
    """Of 2,000 answers, a product would be 0 for every option."""
    answers = [("a", f"v{number}", number % 2 if number < 1980 else 0) for number in range(2000)]
    assert dawid_skene(answers, {"a": 3})["a"].option == 0
