"""Every rule of handing items out and keeping answers, on SQLite and on PostgreSQL; people are one-letter names."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
import sqlalchemy as sa

from benchmarks.claims import DIMENSIONS
from onereward.annotate.database import VoteDatabase
from onereward.annotate.project import pause
from onereward.annotate.work import (
    Assignment,
    Choice,
    ConflictError,
    LostAssignmentError,
    Nothing,
    Reason,
    State,
    Submission,
    TooSoonError,
    UnknownAssignmentError,
    Work,
)
from onereward.people.persons import UnknownPersonError
from onereward.people.tables import CLAIMS, SLOTS, VOTES
from tests.annotate.desk import Desk, said

ALWAYS = 1 - 1e-12  # a share that is below 1, as it has to be


def test_an_item_goes_to_so_many_people_and_to_nobody_twice(desk: Desk) -> None:
    desk.set_up("a", "b", "c", items=2, annotators=2)
    assert [desk.do(name).item for name in ("a", "b")] == [1, 1]
    held = [(name, desk.take(name)) for name in ("c", "a")]
    assert [assignment.item for _, assignment in held] == [2, 2]
    assert desk.claim("b") is Nothing.BUSY  # both slots are with others, who may yet lose them
    for name, assignment in held:
        desk.answer(name, assignment)
    assert {desk.claim(name) for name in "abc"} == {Nothing.FINISHED}
    assert desk.counted().keys() == {("a", 1), ("b", 1), ("c", 2), ("a", 2)}
    assert not desk.is_open(1) and not desk.is_open(2)


def test_nobody_holds_more_than_two(desk: Desk) -> None:
    desk.set_up("a", items=4)
    first, second = desk.take("a"), desk.take("a")
    with pytest.raises(ConflictError, match="answer one of the 2 items"):
        desk.claim("a")
    assert [each.id for each in desk.work.held(desk.ids["a"])] == [first.id, second.id]
    desk.answer("a", first)
    assert desk.take("a").item == 3


def test_a_lease_that_is_over_goes_to_the_next_who_asks_and_the_late_answer_is_not_counted(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=1, lease_seconds=600)
    request = uuid4()
    lost = desk.claim("a", request)
    assert isinstance(lost, Assignment)
    desk.clock.pass_(600)
    assert desk.claim("b") is Nothing.BUSY
    desk.clock.pass_(1)
    taken = desk.take("b")
    assert taken.item == lost.item and taken.id != lost.id
    with pytest.raises(LostAssignmentError):
        desk.work.heartbeat(desk.ids["a"], lost.id)
    with pytest.raises(LostAssignmentError):
        desk.claim("a", request)
    assert desk.work.held(desk.ids["a"]) == []
    uuid = uuid4()
    assert desk.answer("a", lost, 3, uuid) is State.LATE
    assert desk.answer("a", lost, 3, uuid) is State.KNOWN
    assert desk.claim("a") is Nothing.FINISHED  # they have judged it, and are not asked again
    assert desk.answer("b", taken, 1) is State.ACCEPTED
    assert desk.counted() == {("b", 1): 1} and desk.purposes() == ["late", "work"]


def test_a_late_answer_can_be_corrected_and_stays_late(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=1)
    lost = desk.take("a")
    desk.clock.pass_(601)
    desk.do("b")
    desk.answer("a", lost, 3)
    assert desk.work.reopen(desk.ids["a"], lost.id).choices == said(lost, 3)
    assert desk.answer("a", lost, 2) is State.LATE
    assert desk.purposes() == ["work", "late", "late"] and desk.slots(1, "late") == 1


def test_two_late_answers_of_one_person_to_one_item_are_both_kept(desk: Desk) -> None:
    desk.set_up("a", "b", "c", annotators=2)
    first = desk.take("a")
    desk.take("b")
    desk.clock.pass_(601)
    desk.take("c")  # a's
    second = desk.take("a")  # b's
    desk.clock.pass_(601)
    desk.take("b")  # c's
    desk.take("c")  # a's again
    assert [desk.answer("a", each) for each in (first, second)] == [State.LATE, State.LATE]
    assert desk.purposes() == ["late", "late"] and desk.slots(1, "late") == 1


def test_who_lost_an_item_unanswered_may_get_it_again_with_the_same_order(desk: Desk) -> None:
    desk.set_up("a", "b", "c", annotators=2)
    lost, other = desk.take("a"), desk.take("b")
    desk.clock.pass_(601)
    desk.take("c")  # a's, the first of the two
    desk.work.heartbeat(desk.ids["b"], other.id)
    assert desk.claim("a") is Nothing.BUSY
    desk.clock.pass_(601)
    again = desk.take("a")
    assert (again.item, again.order) == (1, lost.order) and again.id != lost.id


def test_a_lease_that_is_over_is_still_its_holders_until_somebody_takes_it(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=1)
    held = desk.take("a")
    desk.clock.pass_(5000)
    assert desk.work.heartbeat(desk.ids["a"], held.id) == 600
    assert desk.claim("b") is Nothing.BUSY
    desk.clock.pass_(5000)
    [resumed] = desk.work.held(desk.ids["a"])
    assert resumed == held
    assert desk.claim("b") is Nothing.BUSY  # looking at what one holds is a sign of life, too
    desk.clock.pass_(5000)
    assert desk.answer("a", held) is State.ACCEPTED


def test_a_free_slot_is_taken_before_one_whose_lease_is_over(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=2)
    held = desk.take("a")
    desk.clock.pass_(601)
    assert desk.take("b").item == held.item
    assert desk.answer("a", held) is State.ACCEPTED


def test_a_repeated_request_claims_once(desk: Desk) -> None:
    desk.set_up("a", "b", items=3)
    request = uuid4()
    first = desk.claim("a", request)
    assert desk.claim("a", request) == first
    assert desk.count(CLAIMS) == 1
    with pytest.raises(ConflictError, match="by somebody else"):
        desk.claim("b", request)


def test_a_repeated_request_shows_what_was_answered_meanwhile(desk: Desk) -> None:
    """Its reply was lost, and the person went on with the item on another device."""
    desk.set_up("a")
    request = uuid4()
    item = desk.claim("a", request)
    assert isinstance(item, Assignment)
    desk.answer("a", item, 2)
    again = desk.claim("a", request)
    assert isinstance(again, Assignment) and (again.id, again.choices) == (item.id, said(item, 2))


def test_a_repeated_answer_is_known_and_another_content_is_refused(desk: Desk) -> None:
    desk.set_up("a", items=2)
    first, second, uuid = desk.take("a"), desk.take("a"), uuid4()
    assert desk.answer("a", first, 1, uuid) is State.ACCEPTED
    events = desk.events()
    assert desk.answer("a", first, 1, uuid) is State.KNOWN
    with pytest.raises(ConflictError, match="with other choices"):
        desk.answer("a", first, 2, uuid)
    with pytest.raises(ConflictError, match="to another item"):
        desk.answer("a", second, 1, uuid)
    assert desk.count(VOTES) == len(DIMENSIONS) and desk.events() == events
    assert desk.counted() == {("a", 1): 1}


def test_undo_shows_what_was_said_and_that_counts_until_a_new_answer_comes(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=2)
    assignment = desk.do("a", 1)
    with pytest.raises(UnknownAssignmentError):
        desk.work.reopen(desk.ids["b"], assignment.id)
    assert desk.work.reopen(desk.ids["a"], assignment.id) == replace(assignment, choices=said(assignment, 1))
    assert desk.counted() == {("a", 1): 1}
    assert desk.answer("a", assignment, 3) is State.ACCEPTED
    assert desk.counted() == {("a", 1): 3}
    assert desk.count(VOTES) == 2 * len(DIMENSIONS)  # corrected by a new row, the old one is still there
    held = desk.take("b")
    with pytest.raises(ConflictError, match="no answer to this item"):
        desk.work.reopen(desk.ids["b"], held.id)
    assert desk.events()[-4:] == ["answer", "undo", "answer", "claim"]


def test_an_answer_takes_its_time_by_both_clocks(desk: Desk) -> None:
    desk.set_up("a", minimum_seconds=5)
    assignment = desk.take("a")
    desk.clock.pass_(2)
    with pytest.raises(TooSoonError, match="in 3 seconds") as early:
        desk.answer("a", assignment)
    assert early.value.left == 3
    desk.clock.pass_(3)
    with pytest.raises(TooSoonError) as early:
        desk.answer("a", assignment, seconds=4.5)  # fetched ahead, and looked at for less
    assert early.value.left == 0.5
    assert desk.count(VOTES) == 0
    assert desk.answer("a", assignment, seconds=5) is State.ACCEPTED
    assert desk.answer("a", assignment, best=1, seconds=1) is State.ACCEPTED  # a correction is quick


@pytest.mark.parametrize(
    ("bests", "asked"),
    [
        ([0, 0], 2), ([0, 1], 3), ([None, None], 2), ([0, None], 3),
        ([0, 0, 0], 3), ([0, 1, 0], 3), ([0, 1, 2], 4), ([None, 1, None], 3), ([None, 1, 2], 4),
        ([0, 1, 2, 3], 4),
    ],
)  # fmt: skip
def test_one_more_is_asked_exactly_where_no_choice_has_most_voices(
    desk: Desk, bests: list[int | None], asked: int
) -> None:
    names = "abcdefgh"[: max(3, len(bests))]
    desk.set_up(*names, annotators=min(len(bests), 3), extra=1)
    for name, best in zip(names, bests, strict=False):
        desk.do(name, best)
    assert desk.slots(1) == asked
    assert desk.is_open(1) is (asked > len(bests))


def test_one_dimension_in_which_they_differ_is_enough(desk: Desk) -> None:
    desk.set_up("a", "b", "c", annotators=2, extra=2)
    desk.do("a", 0)
    other = desk.take("b")
    last = said(other, 1)[-1]
    choices = (*said(other, 0)[:-1], last)
    desk.work.answer(desk.ids["b"], Submission(uuid=uuid4(), assignment=other.id, seconds=9, choices=choices))
    assert desk.slots(1) == 3
    assert isinstance(desk.claim("c"), Assignment)


def test_a_correction_can_ask_for_one_more_and_make_it_needless(desk: Desk) -> None:
    desk.set_up("a", "b", "c", annotators=2, extra=1)
    first, second = desk.do("a", 0), desk.do("b", 1)
    assert desk.slots(1) == 3
    desk.answer("b", second, 0)
    assert desk.slots(1) == 2 and desk.claim("c") is Nothing.FINISHED
    desk.answer("a", first, 2)
    assert desk.slots(1) == 3
    extra = desk.take("c")
    desk.answer("a", first, 0)
    assert desk.slots(1) == 3 and desk.answer("c", extra) is State.ACCEPTED  # who has it already is let go on


def test_gold_items_are_asked_of_everybody_and_never_exported(desk: Desk) -> None:
    desk.set_up("a", "b", items=3, gold_items=[2, 3], annotators=1, gold=ALWAYS)
    assert [desk.do("a").item for _ in range(3)] == [2, 3, 1]
    assert [desk.do("b").item for _ in range(2)] == [2, 3]
    assert desk.claim("a") is desk.claim("b") is Nothing.FINISHED
    assert desk.purposes() == ["gold", "gold", "work", "gold", "gold"]
    assert desk.counted().keys() == {("a", 1)}


def test_repeats_come_after_enough_others_in_another_order_and_are_never_exported(desk: Desk) -> None:
    desk.set_up("a", items=5, candidates=2, annotators=1, repeats=ALWAYS, repeat_after=2)
    done = [desk.do("a", best=number % 2) for number in range(8)]
    # 1 can come again when 2 and 3 are done, 2 when 4 is, and 3 when 5 is; 4 and 5 never have two after them.
    assert [each.item for each in done] == [1, 2, 3, 1, 4, 2, 5, 3]
    assert desk.claim("a") is Nothing.FINISHED
    orders = {(each.item, index): each.order for index, each in enumerate(done)}
    assert all(orders[again] == orders[first][::-1] for first, again in (((1, 0), (1, 3)), ((2, 1), (2, 5))))
    assert Counter(desk.purposes()) == {"work": 5, "repeat": 3}
    assert desk.counted() == {("a", 1): 0, ("a", 2): 1, ("a", 3): 0, ("a", 4): 0, ("a", 5): 0}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_the_shares_of_gold_and_repeats_are_those_of_the_settings(desk: Desk) -> None:
    desk.set_up("a", items=260, gold_items=range(1, 101), annotators=1, gold=0.2, repeats=0.1, repeat_after=1)
    for _ in range(150):
        desk.do("a")
    purposes = Counter(desk.purposes())
    assert 15 <= purposes["gold"] <= 47 and 4 <= purposes["repeat"] <= 29  # 30 and 15, within 3.5 deviations


def test_while_paused_nothing_is_given_out_and_what_was_may_be_answered(desk: Desk) -> None:
    desk.set_up("a", items=2)
    request = uuid4()
    held = desk.claim("a", request)
    assert isinstance(held, Assignment)
    pause(desk.database, True, desk.clock)
    assert desk.claim("a") is Nothing.PAUSED
    assert desk.claim("a", request) == held
    assert desk.answer("a", held) is State.ACCEPTED
    pause(desk.database, False, desk.clock)
    assert desk.take("a").item == 2
    assert desk.events()[-4:] == ["pause", "answer", "pause", "claim"]


def test_a_released_item_is_free_for_others(desk: Desk) -> None:
    desk.set_up("a", "b", annotators=1)
    held = desk.take("a")
    desk.work.release(held.id)
    with pytest.raises(UnknownAssignmentError, match="nobody holds"):
        desk.work.release(held.id)
    with pytest.raises(LostAssignmentError):
        desk.work.heartbeat(desk.ids["a"], held.id)
    done = desk.do("b")
    assert desk.answer("a", held) is State.LATE
    assert done.item == held.item
    with pytest.raises(UnknownAssignmentError, match="nobody holds"):
        desk.work.release(done.id)
    assert desk.counted().keys() == {("b", 1)} and "release" in desk.events()


def test_an_answer_to_a_released_item_that_nobody_has_yet_counts(desk: Desk) -> None:
    desk.set_up("a", "b", "c", annotators=2, items=2)
    released, other = desk.take("a"), desk.take("b")
    desk.work.release(released.id)
    uuid = uuid4()
    assert desk.answer("a", released, 3, uuid) is State.ACCEPTED
    assert desk.answer("a", released, 3, uuid) is State.KNOWN
    assert desk.answer("b", other, 2) is State.ACCEPTED
    assert not desk.is_open(1) and desk.take("c").item == 2
    assert desk.work.reopen(desk.ids["a"], released.id).choices == said(released, 3)
    assert desk.answer("a", released, 1) is State.ACCEPTED
    assert desk.counted() == {("a", 1): 1, ("b", 1): 2} and desk.slots(1, "late") == 0
    assert desk.work.progress(desk.ids["a"]).done == 1


def test_an_answer_to_a_released_item_that_they_hold_again_is_late(desk: Desk) -> None:
    desk.set_up("a", annotators=2)
    released = desk.take("a")
    desk.work.release(released.id)
    again = desk.take("a")
    assert desk.answer("a", released) is State.LATE
    assert desk.work.progress(desk.ids["a"]).done == 0  # what is not counted is not done
    assert desk.answer("a", again, 1) is State.ACCEPTED
    assert desk.counted() == {("a", 1): 1}
    assert desk.work.progress(desk.ids["a"]).done == 1


def test_an_answer_to_a_released_gold_item_is_late(desk: Desk) -> None:
    desk.set_up("a", items=2, gold_items=[1], gold=ALWAYS)
    released = desk.take("a")
    desk.work.release(released.id)
    assert desk.answer("a", released) is State.LATE


def test_a_released_gold_item_leaves_no_slot_behind(desk: Desk) -> None:
    desk.set_up("a", items=2, gold_items=[1], gold=ALWAYS)
    desk.work.release(desk.take("a").id)
    assert desk.slots(1, "gold") == 0
    assert desk.do("a").item == 1


def test_who_withdraws_is_signed_out_and_what_they_held_goes_to_others(desk: Desk) -> None:
    desk.set_up("a", "b", items=2, gold_items=[], annotators=1)
    link = desk.persons.new_link(desk.ids["a"])
    signed_in = desk.persons.sign_in(link)
    assert signed_in is not None
    done, held = desk.do("a", 1), desk.take("a")
    desk.work.withdraw(desk.ids["a"], drop=False)
    assert desk.persons.sign_in(link) is None and desk.persons.of_session(signed_in[1]) is None
    with pytest.raises(ConflictError, match="no longer"):
        desk.claim("a")
    for item in (held, done):  # requests that were on their way
        with pytest.raises(ConflictError, match="no longer"):
            desk.answer("a", item, 3)
    assert desk.do("b", 2).item == held.item == 2
    assert desk.counted() == {("a", 1): 1, ("b", 2): 2}
    with pytest.raises(UnknownPersonError):
        desk.work.withdraw("nobody", drop=False)


def test_with_drop_their_answers_are_not_counted_and_asked_again(desk: Desk) -> None:
    desk.set_up("a", "b", "c", items=2, annotators=2)
    for name in ("a", "b", "a", "b"):
        desk.do(name, 1)
    assert not desk.is_open(1) and desk.claim("c") is Nothing.FINISHED
    desk.work.withdraw(desk.ids["a"], drop=True)
    assert desk.counted() == {("b", 1): 1, ("b", 2): 1}
    assert desk.is_open(1) and desk.is_open(2) and desk.claim("b") is Nothing.FINISHED
    assert [desk.do("c", 0).item for _ in range(2)] == [1, 2]
    assert desk.counted() == {("b", 1): 1, ("b", 2): 1, ("c", 1): 0, ("c", 2): 0}


def test_who_is_dropped_takes_the_need_of_one_more_along(desk: Desk) -> None:
    desk.set_up("a", "b", "c", "d", annotators=2, extra=1)
    desk.do("a", 0)
    desk.do("b", 1)
    desk.do("c", 1)
    desk.work.withdraw(desk.ids["a"], drop=True)
    assert desk.slots(1) == 2 and not desk.is_open(1) and desk.claim("d") is Nothing.FINISHED


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_the_order_is_stored_and_shows_each_candidate_at_each_place_alike(desk: Desk) -> None:
    desk.set_up("a", items=96, annotators=1)
    places = Counter[tuple[int, int]]()
    for _ in range(96):
        assignment = desk.do("a")
        assert sorted(assignment.order) == [0, 1, 2, 3]
        assert assignment.candidates == tuple(f"{assignment.item}-c{index}" for index in assignment.order)
        places.update(enumerate(assignment.order))
    with desk.database.reading() as connection:
        shown = connection.execute(sa.select(CLAIMS.c.shown).order_by(CLAIMS.c.item)).scalars().all()
    assert Counter(each for text in shown for each in enumerate(json.loads(text))) == places
    # 24 expected in each of 16 cells; with 9 degrees of freedom chi-square is above 36 once in 25,000 times.
    assert len(places) == 16 and sum((count - 24) ** 2 / 24 for count in places.values()) < 36


def test_two_people_see_an_item_in_orders_of_their_own(desk: Desk) -> None:
    desk.set_up(*"abcdefgh", annotators=8)
    assert len({desk.take(name).order for name in "abcdefgh"}) > 2


def test_progress_is_what_is_done_what_can_still_be_had_and_the_usual_time(desk: Desk) -> None:
    desk.set_up("a", "b", items=4, gold_items=[4], annotators=1)
    assert desk.work.progress(desk.ids["a"]).seconds_an_item is None
    for seconds in (3.0, 50.0):
        desk.answer("a", desk.take("a"), seconds=seconds)
    assert desk.answer("a", desk.take("a"), seconds=5.0) is State.ACCEPTED
    found = desk.work.progress(desk.ids["a"])
    assert (found.done, found.remaining, found.seconds_an_item) == (3, 0, 5.0)
    assert desk.work.progress(desk.ids["b"]).remaining == 0


@pytest.mark.parametrize("held", [1, 2])
def test_progress_moves_alike_whatever_an_answer_was_for(desk: Desk, held: int) -> None:
    """Else a count that stands still would tell that an item is gold or comes a second time."""
    shares = {"gold": 0.25, "repeats": 0.25, "repeat_after": 2}
    desk.set_up("a", items=26, gold_items=range(1, 7), annotators=1, **shares)
    ann, hand = desk.ids["a"], list[Assignment]()
    told = [desk.work.progress(ann)]
    while True:
        while len(hand) < held and isinstance(item := desk.claim("a"), Assignment):
            hand.append(item)
            assert desk.work.progress(ann).remaining == told[-1].remaining  # held is not done
        if not hand:
            break
        desk.answer("a", hand.pop(0))
        desk.clock.pass_(1)
        told.append(desk.work.progress(ann))
    count = len(told) - 1
    assert [(found.done, found.remaining) for found in told] == [(done, count - done) for done in range(count + 1)]
    assert Counter(desk.purposes()).keys() == {"work", "gold", "repeat"}


def test_what_is_far_ahead_is_counted_as_work(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onereward.annotate.queue._FORESEEN", 4)
    desk.set_up("a", items=30, gold_items=range(1, 21), annotators=1, gold=ALWAYS)
    assert desk.work.progress(desk.ids["a"]).remaining == 4 + 10


def test_what_is_left_counts_what_one_holds_and_what_others_hold(desk: Desk) -> None:
    desk.set_up("a", "b", items=4, annotators=1)
    desk.do("a")
    desk.take("a")
    desk.take("b")
    assert [desk.work.progress(desk.ids[name]).remaining for name in ("a", "b")] == [3, 3]


def test_pictures_are_for_those_who_were_given_the_item(desk: Desk) -> None:
    desk.set_up("a", "b", items=2)
    assignment = desk.do("a")
    for picture in (assignment.source, assignment.mask, *assignment.candidates):
        assert desk.work.may_see(desk.ids["a"], picture)
        assert not desk.work.may_see(desk.ids["b"], picture)
    assert not desk.work.may_see(desk.ids["a"], "2-source") and not desk.work.may_see(desk.ids["a"], "../1-source")


def test_anothers_assignment_is_as_one_that_is_not_there(desk: Desk) -> None:
    desk.set_up("a", "b")
    held = desk.take("a")
    for act in (desk.work.heartbeat, desk.work.reopen):
        for assignment in (held.id, "none"):
            with pytest.raises(UnknownAssignmentError, match="there is no such assignment"):
                act(desk.ids["b"], assignment)
    with pytest.raises(UnknownAssignmentError):
        desk.answer("b", held)
    assert desk.count(VOTES) == 0


def test_choices_have_to_fit_the_item(desk: Desk) -> None:
    desk.set_up("a")
    held = desk.take("a")
    good = said(held, 0)
    first = good[0]
    wrong = [
        good[1:],
        (*good, first),
        (replace(first, best=1, worst=1), *good[1:]),
        (replace(first, best=4), *good[1:]),
        (replace(first, worst=None), *good[1:]),
        (replace(first, reason=Reason.ALIKE), *good[1:]),
        (Choice(dimension=first.dimension, best=None, worst=None), *good[1:]),
    ]
    for choices in wrong:
        submission = Submission(uuid=uuid4(), assignment=held.id, seconds=9, choices=choices)
        with pytest.raises(ConflictError, match="expected"):
            desk.work.answer(desk.ids["a"], submission)
    assert desk.count(VOTES) == 0 and desk.answer("a", held) is State.ACCEPTED


def test_nothing_imported_is_said(desk: Desk) -> None:
    with pytest.raises(ValueError, match="run `onereward annotate import` first"):
        desk.work.held("a")


ROUNDS = 20


def test_of_two_people_racing_for_the_last_slot_one_gets_it(desk: Desk) -> None:
    """Each through connections of their own, as through two server processes."""
    desk.set_up("a", "b", annotators=1)
    with VoteDatabase(desk.database.place) as other:
        works = {"a": desk.work, "b": Work(other, desk.clock)}
        for _ in range(ROUNDS):
            found = at_once([lambda name=name: works[name].claim(desk.ids[name], uuid4()) for name in works])
            [won] = [each for each in found if isinstance(each, Assignment)]
            assert Nothing.BUSY in found
            desk.work.release(won.id)
    assert desk.count(CLAIMS) == ROUNDS


def test_one_person_who_asks_many_times_at_once_gets_two(desk: Desk) -> None:
    desk.set_up("a", items=9)
    found = at_once([lambda: desk.claim("a")] * 6)
    assert Counter(type(each) for each in found) == {Assignment: 2, ConflictError: 4}


def test_requests_that_arrive_several_times_at_once_do_their_work_once(desk: Desk) -> None:
    desk.set_up("a", items=9)
    request, uuid = uuid4(), uuid4()
    claimed = at_once([lambda: desk.claim("a", request)] * 4)
    assert len({each.id for each in claimed if isinstance(each, Assignment)}) == 1 and desk.count(CLAIMS) == 1
    [assignment] = set(claimed)
    assert isinstance(assignment, Assignment)
    states = at_once([lambda: desk.answer("a", assignment, 0, uuid)] * 4)
    assert Counter(states) == {State.ACCEPTED: 1, State.KNOWN: 3}
    assert desk.count(SLOTS, SLOTS.c.done_at.is_not(None)) == 1


def at_once(acts: "list[Callable[[], object]]") -> list[object]:
    """What each gave or raised, called by threads that set off together."""
    barrier = threading.Barrier(len(acts))

    def set_off(act: "Callable[[], object]") -> object:
        barrier.wait()
        try:
            return act()
        except ValueError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(set_off, acts))
