"""What comes next for a person, and how many answers an item wants.

An item of work has so many slots, each free, held under a lease, or done. A gold item, a repeat and an answer that came
too late get a slot of their own, for that person alone.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from onereward.annotate.answers import differ, last_answers
from onereward.annotate.project import ProjectConfig
from onereward.people.tables import CLAIMS, ITEMS, PEOPLE, SLOTS
from onereward.seeds import python_generator

WORK, GOLD, REPEAT, LATE = "work", "gold", "repeat", "late"
"""What a slot, and a vote, is for; only votes of work are ever exported."""

_FORESEEN = 2000
_FREE = {"person": None, "claim": None, "leased_until": None, "done_at": None}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One answer that an item wants of somebody."""

    id: int
    item: int
    purpose: str


def next_slot(connection: sa.Connection, person: str, config: ProjectConfig, at: float) -> Slot | None:
    """What the person gets now; which purpose is drawn from who they are and how much they had."""
    purpose = _purpose(config, person, _count(connection, CLAIMS.c.person == person))
    if purpose == GOLD:
        item = _gold_item(connection, person)
        if item is not None:
            return _own_slot(connection, person, item, GOLD)
    elif purpose == REPEAT:
        item = _item_to_repeat(connection, person, config.repeat_after)
        if item is not None:
            return _own_slot(connection, person, item, REPEAT)
    return _takeable_slot(connection, person, at)


def still_to_come(connection: sa.Connection, person: str, config: ProjectConfig) -> int:
    """How many items the person gets from now on, if nobody else takes any: gold and repeats are counted with the rest.

    Each is one less once it was given, whatever it is for, so that the count does not tell. It looks as far ahead as
    `_FORESEEN` claims; what is left by then is taken for work.
    """
    mine = SLOTS.c.person == person
    had, work = _count(connection, CLAIMS.c.person == person), still_open(connection, person)
    gold = _count(connection, ITEMS.c.gold.is_not(None), ~_had(person)) if config.gold else 0
    own, again = (_count(connection, mine, SLOTS.c.purpose == purpose) for purpose in (WORK, REPEAT))
    repeats = own - config.repeat_after - again  # below 0 by as many as must come before the next repeat
    for claim in range(_FORESEEN):
        purpose = _purpose(config, person, had + claim)
        if purpose == GOLD and gold > 0:
            gold -= 1
        elif purpose == REPEAT and repeats > 0:
            repeats -= 1
        elif work > 0:
            work, repeats = work - 1, repeats + 1
        else:
            return claim
    return _FORESEEN + work


def note_late(connection: sa.Connection, claim: "sa.Row[Any]", at: float) -> None:
    """Remember that somebody has answered an item that was with others by then, so that they are not asked again."""
    late = SLOTS.c.item == claim.item, SLOTS.c.person == claim.person, SLOTS.c.purpose == LATE
    if connection.execute(sa.select(SLOTS.c.id).where(*late)).first() is None:
        slot = _own_slot(connection, claim.person, claim.item, LATE)
        connection.execute(SLOTS.update().where(SLOTS.c.id == slot.id).values(claim=claim.id, done_at=at))


def take_back(connection: sa.Connection, claim: "sa.Row[Any]") -> int | None:
    """Give who has lost an item of work a slot of it that is still free, and return its id.

    None if there is no such slot, if they have the item by another claim, or if they take part no longer.
    """
    takes_part = sa.exists().where(PEOPLE.c.id == claim.person, PEOPLE.c.withdrawn_at.is_(None))
    is_free = SLOTS.c.item == claim.item, SLOTS.c.purpose == WORK, SLOTS.c.person.is_(None)
    query = (
        sa.select(SLOTS.c.id)
        .join(ITEMS, ITEMS.c.id == SLOTS.c.item)
        .where(*is_free, ~_had(claim.person), takes_part)
        .order_by(SLOTS.c.replicate)
        .limit(1)
    )
    slot: int | None = connection.execute(query).scalar_one_or_none()
    if slot is not None:
        taken = {"person": claim.person, "claim": claim.id}
        connection.execute(SLOTS.update().where(SLOTS.c.id == slot).values(taken))
    return slot


def order_of(connection: sa.Connection, seed: int, person: str, slot: Slot) -> list[int]:
    """The candidate indices as this person will see them; another order where they see them again."""
    options = connection.execute(sa.select(ITEMS.c.options).where(ITEMS.c.id == slot.item)).scalar_one()
    indices = [index for index, _ in json.loads(options)]
    order = _drawn(indices, seed, person, slot.item, slot.purpose)
    if slot.purpose == REPEAT and order == _drawn(indices, seed, person, slot.item, WORK):
        order.reverse()
    return order


def still_open(connection: sa.Connection, person: str) -> int:
    """Items that the person has not had and that still want an answer, whoever holds them."""
    had = (
        sa.select(sa.func.count(sa.distinct(SLOTS.c.item)))
        .join(ITEMS, ITEMS.c.id == SLOTS.c.item)
        .where(SLOTS.c.person == person, ITEMS.c.open)
        .scalar_subquery()
    )
    return int(connection.execute(sa.select(sa.func.count() - had).select_from(ITEMS).where(ITEMS.c.open)).scalar_one())


def settle(connection: sa.Connection, config: ProjectConfig, item: int) -> None:
    """Ask for one more answer to an item whose answers are all there and differ, for no more where they do not.

    To be called after its slots of work or their answers have changed.
    """
    of_work = SLOTS.c.item == item, SLOTS.c.purpose == WORK
    slots = connection.execute(sa.select(SLOTS).where(*of_work)).all()
    done = [slot.claim for slot in slots if slot.done_at is not None]
    is_open = len(done) < len(slots)
    if len(done) >= config.annotators:
        if not differ(last_answers(connection, done).values()):
            connection.execute(SLOTS.delete().where(*of_work, SLOTS.c.person.is_(None)))
            is_open = any(slot.done_at is None and slot.person is not None for slot in slots)
        elif not is_open and len(slots) < config.annotators + config.extra:
            connection.execute(SLOTS.insert(), {"item": item, "replicate": len(slots), "purpose": WORK})
            is_open = True
    connection.execute(ITEMS.update().where(ITEMS.c.id == item, ITEMS.c.open != is_open).values(open=is_open))


def free(connection: sa.Connection, config: ProjectConfig, *which: "sa.ColumnElement[bool]") -> int:
    """Take slots from who has them, and return how many: those of work are for others, the rest are no more."""
    items = connection.execute(sa.select(SLOTS.c.item).where(*which, SLOTS.c.purpose == WORK)).scalars().all()
    gone = connection.execute(SLOTS.delete().where(*which, SLOTS.c.purpose != WORK)).rowcount
    connection.execute(SLOTS.update().where(*which, SLOTS.c.purpose == WORK).values(_FREE))
    for item in items:
        settle(connection, config, item)
    return len(items) + gone


def _own_slot(connection: sa.Connection, person: str, item: int, purpose: str) -> Slot:
    """A new slot that is nobody else's."""
    row = {"item": item, "replicate": 0, "purpose": purpose, "person": person}
    result = connection.execute(SLOTS.insert().values(row))
    [slot] = result.inserted_primary_key or (None,)
    assert isinstance(slot, int)
    return Slot(id=slot, item=item, purpose=purpose)


def _takeable_slot(connection: sa.Connection, person: str, at: float) -> Slot | None:
    """Of the first item that the person has not had: a free slot, or else one whose lease is over."""
    is_free = sa.or_(SLOTS.c.person.is_(None), SLOTS.c.leased_until < at)
    takeable = SLOTS.c.done_at.is_(None), SLOTS.c.purpose == WORK, is_free
    # First the item, along an index in this order, so that not every open slot is looked at.
    can_be_had = sa.exists().where(SLOTS.c.item == ITEMS.c.id, *takeable), ~_had(person)
    item = sa.select(ITEMS.c.id).where(ITEMS.c.open, *can_be_had).order_by(ITEMS.c.id).limit(1).scalar_subquery()
    best = SLOTS.c.person.is_not(None), SLOTS.c.replicate
    query = sa.select(SLOTS.c.id, SLOTS.c.item).where(SLOTS.c.item == item, *takeable).order_by(*best).limit(1)
    found = connection.execute(query).one_or_none()
    return None if found is None else Slot(id=found.id, item=found.item, purpose=WORK)


def _had(person: str) -> sa.Exists:
    """Whether the person has, or had, the item of the surrounding query."""
    own = SLOTS.alias()
    return sa.exists().where(own.c.item == ITEMS.c.id, own.c.person == person)


def _gold_item(connection: sa.Connection, person: str) -> int | None:
    query = sa.select(ITEMS.c.id).where(ITEMS.c.gold.is_not(None), ~_had(person)).order_by(ITEMS.c.id).limit(1)
    return connection.execute(query).scalar_one_or_none()


def _item_to_repeat(connection: sa.Connection, person: str, after: int) -> int | None:
    """The person's oldest answered item with so many after it, those held among them, that has not been repeated."""
    again = SLOTS.alias()
    repeated = sa.exists().where(again.c.item == SLOTS.c.item, again.c.person == person, again.c.purpose == REPEAT)
    mine = SLOTS.c.person == person, SLOTS.c.purpose == WORK
    last_first = SLOTS.c.done_at.is_not(None), SLOTS.c.done_at.desc(), SLOTS.c.id.desc()
    early = sa.select(SLOTS.c.id).where(*mine).order_by(*last_first).offset(after)
    query = (
        sa.select(SLOTS.c.item)
        .where(SLOTS.c.id.in_(early), SLOTS.c.done_at.is_not(None), ~repeated)
        .order_by(SLOTS.c.done_at, SLOTS.c.id)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def _purpose(config: ProjectConfig, person: str, had: int) -> str:
    """What a person's next item is for, after so many claims, if there is one for that."""
    drawn = _share(config.seed, person, had)
    return GOLD if drawn < config.gold else REPEAT if drawn < config.gold + config.repeats else WORK


@lru_cache(maxsize=2**17)
def _share(seed: int, person: str, had: int) -> float:
    return python_generator(seed, person, had, "purpose").random()


def _count(connection: sa.Connection, *conditions: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one())


def _drawn(indices: list[int], seed: int, person: str, item: int, purpose: str) -> list[int]:
    order = list(indices)
    python_generator(seed, person, item, purpose, "order").shuffle(order)
    return order
