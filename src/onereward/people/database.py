"""The database of votes, ratings and who gave them: SQLite (in WAL mode) by path, PostgreSQL by URL.

One writer at a time on both: every event names the hash of the one before, so that writers would wait for each other
anyway, and whoever reads first and writes later sees what is so. On SQLite that is BEGIN IMMEDIATE (a transaction that
begins by reading loses to another writer with "database is locked", whatever the timeout), on PostgreSQL a lock.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.engine.interfaces import DBAPIConnection

from onereward.people.tables import VOTES

_BUSY_MS = 30_000
_FORGET_MS = 5_000  # so long a writer may wait for readers to end
_CONNECTIONS = 40
_UNUSABLE = "not a database", "unable to open", "readonly database"  # how SQLite says that a file will not do
_WRITING = 20_100_603  # any number: the advisory lock of PostgreSQL that a writer holds
_BEGIN = {  # by dialect and whether it is to write
    ("sqlite", False): "BEGIN",
    ("sqlite", True): "BEGIN IMMEDIATE",
    ("postgresql", False): "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    # Not more than READ COMMITTED, which looks at the database after the lock has come, not before.
    ("postgresql", True): f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_WRITING})",
}


class Database:
    """A context manager that closes its connections. Threads and processes may share a file.

    `place` is a path (SQLite) or a database URL. Raises ValueError for another kind of URL, if `create` is false and no
    file is there, if the file is no such database, or one of a newer version of this package; OSError if a driver is
    missing or a server does not answer.
    """

    def __init__(self, place: str, *, create: bool = True) -> None:
        url = _url(place)
        if url.get_backend_name() == "sqlite" and url.database:
            if not create and not Path(url.database).exists():
                raise ValueError(f"there is no database at {place}: `annotate import` and `study new` make one")
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self.place = place
        self._engine = _engine(url)
        self._turn = threading.Lock()  # whoever waits to write keeps no connection from those who read
        try:
            if not create and not _has_votes(url):
                raise ValueError(f"{url!r} is no database of votes or of a study: name another --database")
            with self.writing() as connection:
                _migrate(connection)
        except ValueError:
            self._engine.dispose()
            raise
        except sa.exc.DBAPIError as error:
            self._engine.dispose()
            if url.get_backend_name() != "sqlite":
                raise OSError(f"cannot use the database at {url!r}: {error.orig}") from error
            if not any(words in str(error) for words in _UNUSABLE):
                raise
            raise ValueError(
                f"cannot use {place} as a database of votes or of a study ({error.orig}): name another --database, or "
                "mend that file"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is committed when the block ends, before anybody is told of it."""
        with (
            self._turn,
            self._engine.connect().execution_options(onereward_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def forget_deleted(self) -> None:
        """Take what was deleted out of the files as well; OSError if somebody reads the database all the while."""
        engine = sa.create_engine(self._engine.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with self._turn, engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET lock_timeout = {_FORGET_MS}")
                try:
                    connection.exec_driver_sql("VACUUM FULL personal")
                except sa.exc.DBAPIError as error:
                    raise OSError(
                        "the table of names still has what was deleted, since another program reads it: try again"
                    ) from error
                return
            connection.exec_driver_sql(f"PRAGMA busy_timeout={_FORGET_MS}")
            if connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
                raise OSError(f"{self.place}-wal still has what was deleted, since another program reads it: try again")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database."""
        with self._engine.connect() as connection:
            yield connection


def _url(place: str) -> sa.URL:
    expected = "expected the path of an SQLite file or a postgresql:// URL"
    if not place.strip() or place == ":memory:":
        raise ValueError(f"got {place!r}, {expected}")
    try:
        url = sa.make_url(place if "://" in place else f"sqlite:///{place}")
    except sa.exc.ArgumentError as error:
        raise ValueError(f"got {place}, {expected}") from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+pg8000")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"got {url!r}, {expected}")
    return url


def _has_votes(url: sa.URL) -> bool:
    """Whether the table of votes is there, by a look that changes nothing."""
    return sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).has_table(VOTES.name)


def _engine(url: sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # names in an error's text would get into logs
        )
    except ModuleNotFoundError as error:
        raise OSError(f"no driver for {url.drivername}: pip install 'onereward[postgres]'") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, record: object) -> None:
    connection.isolation_level = None  # the driver shall not begin transactions by itself, see _begin
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("onereward_writes", False)
    connection.exec_driver_sql(_BEGIN[connection.dialect.name, writes])


def _migrate(connection: sa.Connection) -> None:
    """Bring the schema to the newest revision inside the caller's transaction; ValueError if it is beyond that."""
    with as_file(files("onereward.people") / "migrations") as folder:
        script = ScriptDirectory(str(folder))
        context = MigrationContext.configure(connection)
        current = context.get_current_revision()
        if current not in (None, *(revision.revision for revision in script.walk_revisions())):
            raise ValueError(
                f"the database was made by a newer version of onereward (schema {current}; this one knows "
                f"{script.get_current_head()} at most): pip install --upgrade onereward; nothing was changed"
            )
        pending = list(script.iterate_revisions("head", current or "base"))
        with Operations.context(context):
            for revision in reversed(pending):
                revision.module.upgrade()
        if pending:
            context.stamp(script, "head")
