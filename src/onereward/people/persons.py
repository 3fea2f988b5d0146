"""People with roles, their links and sessions; only hashes of tokens are kept."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.events import append
from onereward.people.tables import PEOPLE, PERSONAL, SESSIONS

SESSION_SECONDS = 14 * 24 * 3600.0
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 200  # what the column has room for
_SEEN_SECONDS = 60.0  # how exact "last seen" is

Clock = Callable[[], float]


class Role(StrEnum):
    """What somebody may do."""

    ANNOTATOR = "annotator"
    PARTICIPANT = "participant"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who has signed in."""

    id: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A person as an admin sees them; `name` is None once erased."""

    id: str
    role: Role
    name: str | None
    made_at: float
    seen_at: float | None
    withdrawn_at: float | None
    dropped: bool


class UnknownPersonError(ValueError):
    """There is nobody of that id."""


class WithdrawnError(ValueError):
    """The person takes part no longer."""


class Persons:
    """The people of a database."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def make(self, name: str, role: Role) -> tuple[str, str]:
        """A new person's id and the token of their link, which is told this once.

        Raises ValueError without a name, or with one that is too long or no line of what can be printed.
        """
        if not name.strip():
            raise ValueError("got an empty name, expected what the list of people is to show")
        if found := _UNPRINTED.search(name):
            raise ValueError(f"got a name with {found[0]!a}, expected one line of what can be printed")
        if len(name) > _LONGEST:
            raise ValueError(f"got a name of {len(name)} characters, expected {_LONGEST} at most")
        with self._database.writing() as connection:
            return self.add(connection, name, role)

    def add(self, connection: sa.Connection, name: str, role: Role) -> tuple[str, str]:
        """The same in the caller's transaction."""
        person, salt, token, at = new_id(), secrets.token_hex(16), secrets.token_urlsafe(24), self._clock()
        row = {"id": person, "role": role.value, "made_at": at, "link": hashed(token)}
        connection.execute(PEOPLE.insert(), row)
        connection.execute(PERSONAL.insert(), {"person": person, "name": name, "salt": salt})
        append(connection, "person", person, at, role=role.value, name=hashed(salt + name))
        return person, token

    def new_link(self, person: str) -> str:
        """Another token for their link; the old one and all sessions end. WithdrawnError for who has left."""
        token = secrets.token_urlsafe(24)
        with self._database.writing() as connection:
            self._require(connection, person)
            mine = PEOPLE.c.id == person
            if connection.execute(sa.select(PEOPLE.c.withdrawn_at).where(mine)).scalar_one() is not None:
                raise WithdrawnError(f"{person} has been withdrawn, and no link would work: add them as somebody new")
            connection.execute(PEOPLE.update().where(mine).values(link=hashed(token)))
            self._end_sessions(connection, person)
            append(connection, "link", person, self._clock())
        return token

    def withdraw(self, connection: sa.Connection, person: str, *, drop: bool) -> None:
        """End their links and sessions in the caller's transaction; with `drop` their answers are not counted."""
        self._require(connection, person)
        at = self._clock()
        gone = sa.func.coalesce(PEOPLE.c.withdrawn_at, at)
        # Once not counted, they stay so: "forget me" after "do not use my answers" brings none back.
        changes = {"withdrawn_at": gone, "dropped": sa.or_(PEOPLE.c.dropped, sa.literal(drop)), "link": None}
        connection.execute(PEOPLE.update().where(PEOPLE.c.id == person).values(changes))
        self._end_sessions(connection, person)
        append(connection, "withdrawal", person, at, drop=drop)

    def erase(self, person: str) -> None:
        """Forget what they could be known by, their link as well; their answers stay, under an id that says nothing.

        Raises OSError if the database's files could not be freed of it yet: call it again.
        """
        with self._database.writing() as connection:
            self._require(connection, person)
            at = self._clock()
            gone = {"link": None, "settings": "{}", "withdrawn_at": sa.func.coalesce(PEOPLE.c.withdrawn_at, at)}
            connection.execute(PEOPLE.update().where(PEOPLE.c.id == person).values(gone))
            connection.execute(PERSONAL.delete().where(PERSONAL.c.person == person))
            self._end_sessions(connection, person)
            append(connection, "erasure", person, at)
        self._database.forget_deleted()

    def sign_in(self, token: str) -> tuple[Person, str] | None:
        """Who has the link with this token, and the token of a new session; None if nobody has (any more)."""
        session = secrets.token_urlsafe(24)
        with self._database.writing() as connection:
            found = connection.execute(
                sa.select(PEOPLE.c.id, PEOPLE.c.role).where(
                    PEOPLE.c.link == hashed(token), PEOPLE.c.withdrawn_at.is_(None)
                )
            ).one_or_none()
            if found is None:
                return None
            at = self._clock()
            connection.execute(SESSIONS.delete().where(SESSIONS.c.expires_at < at))
            row = {"token": hashed(session), "person": found.id, "expires_at": at + SESSION_SECONDS}
            connection.execute(SESSIONS.insert(), row)
            append(connection, "session", found.id, at)
        return Person(id=found.id, role=Role(found.role)), session

    def sign_out(self, session: str) -> None:
        """End one session."""
        with self._database.writing() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.token == hashed(session)))

    def of_session(self, session: str) -> Person | None:
        """Whose session it is; None for one that has ended or never was."""
        query = (
            sa.select(PEOPLE.c.id, PEOPLE.c.role, PEOPLE.c.seen_at)
            .join(SESSIONS, SESSIONS.c.person == PEOPLE.c.id)
            .where(SESSIONS.c.token == hashed(session), SESSIONS.c.expires_at > self._clock())
        )
        with self._database.reading() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            return None
        at = self._clock()
        if found.seen_at is None or at - found.seen_at > _SEEN_SECONDS:
            with self._database.writing() as connection:
                connection.execute(PEOPLE.update().where(PEOPLE.c.id == found.id).values(seen_at=at))
        return Person(id=found.id, role=Role(found.role))

    def all(self) -> list[Entry]:
        """Everybody, in the order in which they were made."""
        query = (
            sa.select(PEOPLE, PERSONAL.c.name)
            .join(PERSONAL, PERSONAL.c.person == PEOPLE.c.id, isouter=True)
            .order_by(PEOPLE.c.made_at, PEOPLE.c.id)
        )
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def settings(self, person: str) -> str:
        """What the person has chosen for their pages, as JSON."""
        with self._database.reading() as connection:
            return str(connection.execute(sa.select(PEOPLE.c.settings).where(PEOPLE.c.id == person)).scalar_one())

    def change_settings(self, person: str, settings: str) -> None:
        """Keep what the person has chosen."""
        with self._database.writing() as connection:
            connection.execute(PEOPLE.update().where(PEOPLE.c.id == person).values(settings=settings))

    def _require(self, connection: sa.Connection, person: str) -> None:
        if connection.execute(sa.select(PEOPLE.c.id).where(PEOPLE.c.id == person)).one_or_none() is None:
            raise UnknownPersonError(f"nobody has the id {person}: `people list` shows the ids")

    def _end_sessions(self, connection: sa.Connection, person: str) -> None:
        connection.execute(SESSIONS.delete().where(SESSIONS.c.person == person))


def new_id() -> str:
    """A random id that says nothing: 22 characters of a URL, and no option of a command line."""
    while (drawn := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return drawn


def hashed(token: str) -> str:
    """SHA-256: tokens are long and random, so that nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _entry(row: "sa.RowMapping | Mapping[str, object]") -> Entry:
    names = "id", "name", "made_at", "seen_at", "withdrawn_at", "dropped"
    return Entry(role=Role(row["role"]), **{name: row[name] for name in names})  # type: ignore[arg-type]
