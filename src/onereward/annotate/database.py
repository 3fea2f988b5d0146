"""The vote database: answers are appended, each with the client's uuid so that a retry is no second vote.

SQLite (in WAL mode) by path, PostgreSQL by URL. On SQLite every write opens with BEGIN IMMEDIATE: a transaction that
reads first and writes later loses to another writer with "database is locked", whatever the timeout.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.engine.interfaces import DBAPIConnection

from onereward.terms import Dimension, Task, Vote, VoterKind

_BUSY_MS = 30_000
_UNUSABLE = "not a database", "unable to open", "readonly database"  # how SQLite says that a file will not do

METADATA = sa.MetaData()
VOTES = sa.Table(
    "votes",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("candidates", sa.String(64), nullable=False, index=True),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("triplet_id", sa.String(255), nullable=False),
    sa.Column("dimension", sa.String(32), nullable=False),
    sa.Column("best", sa.Integer),
    sa.Column("worst", sa.Integer),
    sa.Column("voter", sa.String(255), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("weight", sa.Double, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class CastVote:
    """A vote as it was given: by which client request (`uuid`), on which candidates (their folder's fingerprint)."""

    uuid: str
    candidates: str
    task: Task
    vote: Vote


class VoteDatabase:
    """Appends and reads answers; a context manager that closes its connections. Threads and processes may share a file.

    `place` is a path (SQLite) or a database URL. Raises ValueError if `create` is false and no file is there, or if the
    file is no vote database.
    """

    def __init__(self, place: str, *, create: bool = True) -> None:
        url = sa.make_url(place if "://" in place else f"sqlite:///{place}")
        if url.get_backend_name() == "sqlite" and url.database:
            if not create and not Path(url.database).exists():
                raise ValueError(f"no vote database at {place}: pass the --database that votes were collected in")
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(url)
        try:
            if not create and not _has_votes(url):
                raise ValueError(f"{place} is not a vote database: pass the --database that votes were collected in")
            with self._writing() as connection:
                _migrate(connection)
        except sa.exc.DatabaseError as error:
            self._engine.dispose()
            if not any(words in str(error) for words in _UNUSABLE):
                raise
            raise ValueError(
                f"cannot use {place} as a vote database ({error.orig}): pass another --database, or mend that file"
            ) from error

    def __enter__(self) -> "VoteDatabase":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._engine.dispose()

    def add(self, answers: Sequence[CastVote]) -> int:
        """Append what is new, all in one transaction, and return how many were; an answer known by its uuid is no news.

        Raises ValueError, and appends nothing, if a known uuid comes with another content.
        """
        query = sa.select(VOTES).where(VOTES.c.uuid.in_([answer.uuid for answer in answers]))
        with self._writing() as connection:
            kept = {row.uuid: _answer_of(row) for row in connection.execute(query)}
            for answer in answers:
                if kept.get(answer.uuid, answer) != answer:
                    raise ValueError(
                        f"answer {answer.uuid} was given before as {kept[answer.uuid].vote}, now as {answer.vote}: "
                        "a correction needs a uuid of its own"
                    )
            new = [answer for answer in answers if answer.uuid not in kept]
            if new:
                connection.execute(VOTES.insert(), [_row_of(answer) for answer in new])
        return len(new)

    def answers(self, candidates: str) -> list[CastVote]:
        """The answers on the candidates of that fingerprint, in the order in which they were given."""
        query = sa.select(VOTES).where(VOTES.c.candidates == candidates).order_by(VOTES.c.sequence)
        with self._engine.connect() as connection:
            return [_answer_of(row) for row in connection.execute(query)]

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(onereward_writes=True) as connection, connection.begin():
            yield connection


def _has_votes(url: sa.URL) -> bool:
    """Whether the table of votes is there, by a look that changes nothing."""
    engine = sa.create_engine(url)
    try:
        return sa.inspect(engine).has_table(VOTES.name)
    finally:
        engine.dispose()


def _engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, record: object) -> None:
    connection.isolation_level = None  # the driver shall not begin transactions by itself, see _begin_sqlite
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("onereward_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: sa.Connection) -> None:
    """Bring the schema to the newest revision inside the caller's transaction."""
    with as_file(files("onereward.annotate") / "migrations") as folder:
        script = ScriptDirectory(str(folder))
        context = MigrationContext.configure(connection)
        pending = list(script.iterate_revisions("head", context.get_current_revision() or "base"))
        with Operations.context(context):
            for revision in reversed(pending):
                revision.module.upgrade()
        if pending:
            context.stamp(script, "head")


def _row_of(answer: CastVote) -> dict[str, object]:
    vote = answer.vote
    return {
        "uuid": answer.uuid,
        "candidates": answer.candidates,
        "task": answer.task.value,
        "triplet_id": vote.triplet_id,
        "dimension": vote.dimension.value,
        "best": vote.best,
        "worst": vote.worst,
        "voter": vote.voter,
        "kind": vote.kind.value,
        "weight": vote.weight,
    }


def _answer_of(row: "sa.Row[tuple[object, ...]]") -> CastVote:
    return CastVote(
        uuid=row.uuid,
        candidates=row.candidates,
        task=Task(row.task),
        vote=Vote(
            triplet_id=row.triplet_id,
            dimension=Dimension(row.dimension),
            best=row.best,
            worst=row.worst,
            voter=row.voter,
            kind=VoterKind(row.kind),
            weight=row.weight,
        ),
    )
