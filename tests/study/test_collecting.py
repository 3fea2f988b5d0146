"""A participant's way through a study, by the room itself: on SQLite and, where it is, on PostgreSQL."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import verify
from onereward.people.persons import Persons, Role
from onereward.people.pictures import Pictures
from onereward.people.tables import EVENTS, PEOPLE, SETTINGS, STUDY_ANSWERS, STUDY_BLOCKS
from onereward.study.analysis import AnalysisPlan
from onereward.study.audit import audit
from onereward.study.closing import OpenStudyError, close, collected_of, results_of, status_of
from onereward.study.collecting import (
    BETTER,
    ConflictError,
    Stage,
    State,
    Submission,
    Trial,
    UnknownTrialError,
)
from onereward.study.exclusion import ExclusionRules
from onereward.study.project import ClosedError, StudyConfig, change_rules, new_study, open_to_all, study_of
from onereward.study.trials import CHECK, PRACTICE
from tests.postgres import Postgres
from tests.study.running import SYSTEMS, Clock, Made, answer_all, answer_next, begin, study, write_inputs

PAIRS = (SYSTEMS,)
TOKEN = "t" * 32


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    place = None
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        place = server.new_database()
    with study(tmp_path, items=4, practice=2, check_every=3, place=place) as made:
        yield made


def test_from_consent_to_thanks(made: Made) -> None:
    collecting, (person, _) = made.collecting, made.link_of("Ann")
    assert collecting.place(person).stage is Stage.CONSENT
    with pytest.raises(ConflictError, match="agree to take part first"):
        collecting.begin_practice(person)
    collecting.consent(person)
    collecting.consent(person)  # again, after a lost reply
    assert collecting.place(person).stage is Stage.INSTRUCTIONS
    with pytest.raises(ConflictError, match="finish what comes before"):
        collecting.begin_block(person)
    collecting.begin_practice(person)
    place = collecting.place(person)
    assert (place.stage, place.done, place.total) == (Stage.PRACTICE, 0, 2)
    assert all(trial.practice for trial in place.trials)
    assert len({trial.subtask for trial in place.trials}) == 2  # of as many tasks as can be
    answer_next(collecting, person)
    with pytest.raises(ConflictError, match="finish what comes before"):
        collecting.begin_block(person)
    answer_next(collecting, person)
    assert collecting.place(person).stage is Stage.READY
    collecting.begin_block(person)
    collecting.begin_block(person)
    place = collecting.place(person)
    assert (place.stage, place.done, place.total) == (Stage.WORK, 0, 4 * 2 + 2)  # two checks among eight
    assert len(answer_all(collecting, person)) == 10
    assert collecting.place(person).stage is Stage.FINISHED
    status = status_of(made.database)
    assert (status.blocks, status.claimed, status.finished, status.answers, status.wanted) == (2, 1, 1, 8, 16)
    with made.database.reading() as connection:
        kinds = Counter(connection.execute(sa.select(EVENTS.c.kind)).scalars())
        assert audit(connection).events == sum(kinds.values())
    assert kinds == {"study": 1, "person": 1, "consent": 1, "instructions": 1, "block": 1, "answer": 12}


def test_a_block_is_shown_as_it_was_designed_and_stored(made: Made) -> None:
    person, systems = begin(made), made.systems()
    with made.database.reading() as connection:
        query = sa.select(STUDY_BLOCKS.c.pages).where(STUDY_BLOCKS.c.person == person)
        pages = json.loads(connection.execute(query).scalar_one())
        body = connection.execute(sa.select(EVENTS.c.body).where(EVENTS.c.kind == "block")).scalar_one()
    shown = answer_all(made.collecting, person)
    logged = json.loads(body)["trials"]
    assert [trial.id for trial in shown] == [row[0] for row in logged]
    counted = [trial for trial, row in zip(shown, logged, strict=True) if row[1] != CHECK]
    assert [[systems[picture] for picture in trial.shown] for trial in counted] == [page[1:] for page in pages]
    checks = [trial for trial in shown if trial not in counted]
    holes = [trial for trial in checks if systems[trial.shown[0]] is None]
    assert len(checks) == 2 and len(holes) == 1 and holes[0].asked is None
    assert {trial.asked for trial in checks if trial not in holes} <= {2, 4}


def test_nobody_gets_anothers_block(made: Made) -> None:
    """Five people want two blocks at once: two get one each, the others are told so, and a released one is given on."""
    people = []
    for number in range(5):
        person, _ = made.link_of(f"P{number}")
        made.collecting.consent(person)
        made.collecting.begin_practice(person)
        for _ in range(2):
            answer_next(made.collecting, person)
        people.append(person)
    refused, gate = [], threading.Barrier(5)

    def want(person: str) -> None:
        gate.wait()
        try:
            made.collecting.begin_block(person)
        except ConflictError:
            refused.append(person)

    threads = [threading.Thread(target=want, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    having = [person for person in people if person not in refused]
    assert len(having) == 2
    with made.database.reading() as connection:
        owners = list(connection.execute(sa.select(STUDY_BLOCKS.c.person)).scalars())
    assert sorted(owners) == sorted(having)
    assert made.collecting.place(refused[0]).stage is Stage.FULL
    made.collecting.withdraw(having[0], drop=False)
    made.collecting.begin_block(refused[0])
    assert made.collecting.place(refused[0]).total == 4 * 2 + 2


def test_an_answer_counts_once(made: Made) -> None:
    collecting, person, other = made.collecting, begin(made), begin(made, "Bob")
    first, second = collecting.place(person).trials[:2]
    values = {name: allowed[0] for name, allowed in first.allowed.items()}
    sent = Submission(uuid=uuid4(), trial=first.id, seconds=3.0, values=values)
    assert collecting.answer(person, sent) is State.ACCEPTED
    assert collecting.answer(person, sent) is State.KNOWN
    changed = {name: allowed[-1] for name, allowed in first.allowed.items()}
    with pytest.raises(ConflictError, match="with another content"):
        collecting.answer(person, Submission(uuid=sent.uuid, trial=first.id, seconds=3.0, values=changed))
    with pytest.raises(ConflictError, match="answered before"):
        collecting.answer(person, Submission(uuid=uuid4(), trial=first.id, seconds=3.0, values=changed))
    with pytest.raises(UnknownTrialError):
        collecting.answer(other, Submission(uuid=uuid4(), trial=second.id, seconds=3.0, values=values))
    wanted = {name: allowed[0] for name, allowed in second.allowed.items()}
    for wrong in ({}, wanted | {BETTER: 0}, wanted | {next(iter(wanted)): 9}):
        with pytest.raises(ConflictError, match="expected one"):
            collecting.answer(person, Submission(uuid=uuid4(), trial=second.id, seconds=3.0, values=wrong))
    with made.database.reading() as connection:
        kept = connection.execute(sa.select(STUDY_ANSWERS).where(STUDY_ANSWERS.c.trial == first.id)).all()
        assert {row.criterion: row.value for row in kept} == values
        assert verify(connection).events
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), made.database.writing() as connection:
        connection.execute(STUDY_ANSWERS.update().values(value=1))


def test_what_somebody_leaves_goes_to_others(made: Made) -> None:
    collecting, systems = made.collecting, made.systems()

    def pages_of(person: str) -> list[tuple[str | None, ...]]:
        trials = answer_all(collecting, person)
        return sorted((trial.source, systems[trial.shown[0]]) for trial in trials if _counts(trial, systems))  # type: ignore[misc]

    keeps, drops = begin(made, "Keeps"), begin(made, "Drops")
    for person in (keeps, drops):
        for _ in range(5):
            answer_next(collecting, person)
    collecting.withdraw(keeps, drop=False)
    collecting.withdraw(drops, drop=True)
    assert collecting.place(keeps).stage is Stage.WORK  # nobody can ask: the session is over
    for gone in (keeps, drops):  # what was on its way when they left
        with pytest.raises(ConflictError, match="you take part no longer"):
            answer_next(collecting, gone)
    assert Persons(made.database).of_session("x") is None
    rest, whole = pages_of(begin(made, "Rest")), pages_of(begin(made, "Whole"))
    assert len(whole) == 8 and len(rest) < 8 and set(rest) < set(whole)
    with pytest.raises(ConflictError, match="all places in this study are taken"):
        begin(made, "Late")
    status = status_of(made.database)
    assert (status.answers, status.wanted, status.withdrawn) == (16, 16, 2)
    close(made.database, made.clock)
    with made.database.reading() as connection:
        ratings = collected_of(connection).ratings
    answers = Counter((rating.item, rating.system) for rating in ratings if rating.criterion == "usability")
    assert set(answers.values()) == {2} and len(answers) == 8


def _counts(trial: Trial, systems: dict[str, str | None]) -> bool:
    return trial.asked is None and systems[trial.shown[0]] is not None


def test_whoever_is_erased_has_left(made: Made) -> None:
    person = begin(made)
    answer_next(made.collecting, person)
    made.collecting.withdraw(person, drop=False)
    Persons(made.database).erase(person)
    [entry] = Persons(made.database).all()
    assert entry.name is None and entry.withdrawn_at is not None and not entry.dropped
    assert status_of(made.database).blocks == 3  # what was not answered is there for another
    made.collecting.withdraw(begin(made, "Bob"), drop=True)
    with made.database.reading() as connection:
        verify(connection)


def test_an_open_link_makes_participants(made: Made) -> None:
    collecting = made.collecting
    assert collecting.join(TOKEN) is None
    open_to_all(made.database, TOKEN, made.clock)
    own = collecting.join(TOKEN)
    assert own is not None and collecting.join(TOKEN[1:] + "u") is None
    signed = Persons(made.database).sign_in(own)
    assert signed is not None and signed[0].role is Role.PARTICIPANT
    assert collecting.place(signed[0].id).stage is Stage.INSTRUCTIONS  # they have agreed
    assert [entry.name for entry in Persons(made.database).all()] == ["participant 1"]
    open_to_all(made.database, "u" * 32, made.clock)
    assert collecting.join(TOKEN) is None
    close(made.database, made.clock, anyway=True)
    with pytest.raises(ClosedError):
        open_to_all(made.database, TOKEN, made.clock)


def test_rules_are_frozen_by_the_first_answer(made: Made) -> None:
    change_rules(made.database, ExclusionRules(failed_checks=2), made.clock)
    with made.database.reading() as connection:
        assert study_of(connection).plan.rules.failed_checks == 2
    person, _ = made.link_of("Ann")
    made.collecting.consent(person)
    made.collecting.begin_practice(person)
    change_rules(made.database, ExclusionRules(failed_checks=1), made.clock)
    answer_next(made.collecting, person)  # even one of practice
    with pytest.raises(ValueError, match="cannot be changed after the first answer"):
        change_rules(made.database, ExclusionRules(), made.clock)
    with made.database.reading() as connection:
        audit(connection)
    with made.database.writing() as connection:  # by somebody who has the file
        kept = connection.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "study")).scalar_one()
        looser = kept.replace('"failed_checks": 1', '"failed_checks": 9')
        assert looser != kept
        connection.execute(SETTINGS.update().where(SETTINGS.c.name == "study").values(value=looser))
    with made.database.reading() as connection, pytest.raises(ValueError, match="not those that were frozen"):
        audit(connection)


def test_results_come_when_the_study_is_closed_and_no_answer_after(made: Made) -> None:
    person = begin(made)
    answer_next(made.collecting, person)
    with pytest.raises(OpenStudyError, match="no results until the study is closed"):
        results_of(made.database)
    with pytest.raises(ValueError, match="of 16 pages are answered: wait, or close it --anyway"):
        close(made.database, made.clock)
    answer_all(made.collecting, begin(made, "Bob"))
    left = made.collecting.place(person).trials[0]
    close(made.database, made.clock, anyway=True)
    close(made.database, made.clock)
    assert made.collecting.place(person).stage is Stage.CLOSED
    values = {name: allowed[0] for name, allowed in left.allowed.items()}
    with pytest.raises(ClosedError):
        made.collecting.answer(person, Submission(uuid=uuid4(), trial=left.id, seconds=1.0, values=values))
    with pytest.raises(ClosedError):
        made.collecting.consent(made.link_of("Late")[0])
    results = results_of(made.database).results
    assert results.participants == 2


def test_attention_checks_are_passed_by_who_looks_and_reads(tmp_path: Path) -> None:
    """One participant does what checks ask for, one always says the best, one follows only the words."""
    with study(tmp_path, items=6, answers=3, check_every=2) as made:
        systems = made.systems()

        def careful(trial: Trial) -> dict[str, int]:
            if trial.asked is not None:
                return {n: int(trial.asked > 3) if len(v) == 2 else trial.asked for n, v in trial.allowed.items()}
            return {
                name: values[0 if systems[trial.shown[0]] is None else -1] for name, values in trial.allowed.items()
            }

        def pleased(trial: Trial) -> dict[str, int]:
            return {name: values[-1] for name, values in trial.allowed.items()}

        def reads(trial: Trial) -> dict[str, int]:
            return careful(trial) if trial.asked is not None else pleased(trial)

        people = {name: begin(made, name) for name in ("careful", "pleased", "reads")}
        for name, judge in (("careful", careful), ("pleased", pleased), ("reads", reads)):
            answer_all(made.collecting, people[name], judge)
        close(made.database, made.clock)
        with made.database.reading() as connection:
            checks = collected_of(connection).checks
        passed = {name: [c.passed for c in checks if c.participant == person] for name, person in people.items()}
    assert {name: (sum(found), len(found)) for name, found in passed.items()} == {
        "careful": (6, 6),
        "pleased": (0, 6),
        "reads": (3, 6),
    }


def test_unbiased_voters_show_no_side(tmp_path: Path) -> None:
    """Simulated voters who like the first system better, whichever side it is on: the left one's lead covers 0."""
    with study(tmp_path, items=10, answers=8, rates=False, comparisons=PAIRS, check_every=5) as made:
        systems, draw, lefts = made.systems(), Random(3), Counter[str | None]()

        def judge(trial: Trial) -> dict[str, int]:
            left = systems[trial.shown[0]]
            liked = draw.choices((1, 0, -1), (5, 2, 3))[0]
            return {BETTER: liked if left == SYSTEMS[0] else -liked}

        for number in range(8):
            for trial in answer_all(made.collecting, begin(made, f"P{number}"), judge):
                if {systems[picture] for picture in trial.shown} == set(SYSTEMS):
                    lefts[systems[trial.shown[0]]] += 1
        close(made.database, made.clock)
        results = results_of(made.database).results
    assert lefts == dict.fromkeys(SYSTEMS, 40)  # each side half of the times, exactly
    bias = results.left_bias
    assert bias is not None and bias.low < 0 < bias.high and bias.high - bias.low < 1
    [net] = [row.net for row in results.preferences if row.group == "all"]
    assert net.low < 0.2 < net.high  # what they do like is still seen


def test_a_study_needs_what_it_shows(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 3)
    systems = {name: inputs[name] for name in SYSTEMS}
    plan = AnalysisPlan(main=SYSTEMS[0], rules=ExclusionRules())

    def new(place: str, index: int = 0, **config: object) -> None:
        settings = StudyConfig(**({"systems": SYSTEMS, "items_a_block": 2, "practice": 1} | config))  # type: ignore[arg-type]
        with Database(str(tmp_path / place)) as database:
            new_study(database, Pictures(tmp_path / "images"), inputs["triplets"], systems, settings, plan, Clock(),
                      index=index)  # fmt: skip

    with pytest.raises(ValueError, match="got 3 triplets, expected at least 4"):
        new("a", practice=2)
    with pytest.raises(ValueError, match="no candidate of index 5"):
        new("a", index=5)
    with pytest.raises(ValueError, match="a comparison with 'nobody'"):
        new("a", comparisons=(("nobody", SYSTEMS[0]),))
    with pytest.raises(ValueError, match="rated, or pairs"):
        new("a", rates=False)
    systems["s" * 256] = systems[SYSTEMS[0]]
    with pytest.raises(ValueError, match="got a system of 256 characters, expected 255 at most"):
        new("a", systems=(*SYSTEMS, "s" * 256))
    new("a")  # what failed has left nothing
    with pytest.raises(ValueError, match="holds a study"):
        new("a")
    write_inputs(tmp_path / "others", 5)
    systems[SYSTEMS[1]] = tmp_path / "others" / SYSTEMS[1]
    with pytest.raises(ValueError, match="were not made from the triplets"):
        new("b")


def test_a_study_that_was_stopped_leaves_no_pictures(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 3)
    systems = {name: inputs[name] for name in SYSTEMS}
    config = StudyConfig(systems=SYSTEMS, items_a_block=2, practice=1)
    plan, images = AnalysisPlan(main=SYSTEMS[0], rules=ExclusionRules()), tmp_path / "images"
    written: list[int] = []

    def stop(_shards: int) -> None:
        written.append(len(list(images.rglob("*.png"))))
        raise KeyboardInterrupt

    with Database(str(tmp_path / "a")) as database:
        with pytest.raises(KeyboardInterrupt):
            new_study(database, Pictures(images), inputs["triplets"], systems, config, plan, Clock(), progress=stop)
        assert written == [3 * 5] and not images.exists()
        assert new_study(database, Pictures(images), inputs["triplets"], systems, config, plan, Clock()) > 0


def test_outputs_made_with_drawn_settings_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the seed may differ: one system's outputs with 4 and with 8 steps are no single editor's."""
    with study(tmp_path / "same", items=3):
        assert caplog.messages == []
    with study(
        tmp_path / "drawn", items=3, made_with=lambda name, at: {"steps": 4 + 4 * (name == SYSTEMS[0] and at == 1)}
    ):
        [message] = caplog.messages
    assert f"the outputs of {SYSTEMS[0]} were made with settings drawn for each" in message


def test_practice_is_not_counted(made: Made) -> None:
    begin(made)
    with made.database.reading() as connection:
        purposes = connection.execute(sa.text("SELECT purpose, answered_at FROM study_trials")).all()
    assert sum(row.purpose == PRACTICE and row.answered_at is not None for row in purposes) == 2
    assert status_of(made.database).answers == 0


def test_a_leaver_takes_no_block_with_them(made: Made) -> None:
    person, _ = made.link_of("Ann")
    made.collecting.consent(person)
    made.collecting.begin_practice(person)
    while made.collecting.place(person).stage is Stage.PRACTICE:
        answer_next(made.collecting, person)
    made.collecting.withdraw(person, drop=False)
    with pytest.raises(ConflictError, match="you take part no longer"):
        made.collecting.begin_block(person)
    assert status_of(made.database).claimed == 0


def test_what_a_leaver_did_not_answer_is_not_held_against_them(tmp_path: Path) -> None:
    """Two of eight pages are answered: the rest is another's by now, so that nobody has left anything unfinished."""
    with study(tmp_path, items=4, rules=ExclusionRules(failed_checks=99, straight_share=1, minimum_seconds=0)) as made:
        leaver, stayer = begin(made, "Ann"), begin(made, "Bob")
        for _ in range(2):
            answer_next(made.collecting, leaver)
        for _ in range(3):
            answer_next(made.collecting, stayer)
        made.collecting.withdraw(leaver, drop=False)
        answer_all(made.collecting, begin(made, "Cid"))
        close(made.database, made.clock, anyway=True)
        analysis = results_of(made.database)
    assert [(one.participant, one.reasons) for one in analysis.left_out] == [
        (stayer, ("unfinished: 3 of 8 assigned pages answered",))
    ]
    assert analysis.results.participants == 2


def test_the_report_tells_who_takes_answers_back_and_when(made: Made) -> None:
    before, after = begin(made, "Ann"), begin(made, "Bob")
    for person in (before, after):
        answer_all(made.collecting, person)
    made.collecting.withdraw(before, drop=True)
    answer_all(made.collecting, begin(made, "Cid"))
    close(made.database, made.clock)
    assert results_of(made.database).results.participants == 2
    made.clock.now += 3600
    made.collecting.withdraw(after, drop=True)
    analysis = results_of(made.database)
    assert analysis.results.participants == 1
    assert {one.participant: one.reasons for one in analysis.left_out} == {
        before: ("left, and asked that no answer is used",),
        after: ("left, and asked that no answer is used, after the study was closed",),
    }


def test_leaving_after_the_end_changes_no_result(tmp_path: Path) -> None:
    """Else whoever has seen the results could take an exclusion back by erasing somebody."""
    with study(tmp_path, items=4, rules=ExclusionRules(failed_checks=99, straight_share=1, minimum_seconds=0)) as made:
        stayer, other = begin(made, "Ann"), begin(made, "Bob")
        answer_next(made.collecting, stayer)
        answer_all(made.collecting, other)
        close(made.database, made.clock, anyway=True)
        before = results_of(made.database)
        made.collecting.withdraw(stayer, drop=False)
        Persons(made.database, made.clock).erase(stayer)
        assert results_of(made.database) == before
    assert [one.participant for one in before.left_out] == [stayer]


def test_a_block_that_lacks_but_a_check_is_nobody_s_place(tmp_path: Path) -> None:
    """There is nothing in it to give to another, who would be told of a place and never get it."""
    with study(tmp_path, items=4, answers=1, check_every=8) as made:
        person, systems = begin(made, "Ann"), made.systems()
        trials = made.collecting.place(person).total
        for _ in range(trials - 1):
            answer_next(made.collecting, person)
        [left] = made.collecting.place(person).trials
        made.clock.now += 25 * 3600
        wanted = left.asked is None and systems[left.shown[0]] is not None
        newcomer = made.link_of("Bob")[0]
        assert made.collecting.place(newcomer).stage is (Stage.CONSENT if wanted else Stage.FULL)


def test_who_does_not_come_back_loses_their_block_to_the_next(made: Made) -> None:
    lost, kept = begin(made, "Ann"), begin(made, "Bob")
    answer_next(made.collecting, lost)
    made.clock.now += 23 * 3600
    late, _ = made.link_of("Cid")
    assert made.collecting.place(late).stage is Stage.FULL
    with made.database.writing() as connection:  # Bob's browser was here
        connection.execute(PEOPLE.update().where(PEOPLE.c.id == kept).values(seen_at=made.clock.now))
    made.clock.now += 2 * 3600
    assert made.collecting.place(lost).stage is Stage.WORK  # theirs until somebody wants it
    third = begin(made, "Dee")
    assert made.collecting.place(third).total == 7 + 2  # one page was answered; two checks
    with pytest.raises(ConflictError, match="you take part no longer"):
        answer_next(made.collecting, lost)
    assert made.collecting.place(late).stage is Stage.FULL  # Bob is at it
    answer_all(made.collecting, kept)
    answer_all(made.collecting, third)
    close(made.database, made.clock)  # nothing is wanting
    with made.database.reading() as connection:
        audit(connection)


def test_places_are_kept_for_good_if_wanted(tmp_path: Path) -> None:
    with study(tmp_path, items=4, answers=1, lapse_hours=0) as made:
        begin(made, "Ann")
        made.clock.now += 1e6
        assert made.collecting.place(made.link_of("Bob")[0]).stage is Stage.FULL
