"""A PostgreSQL server for the tests: Debian's, in a temporary folder, as another user since it refuses root."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pg8000.dbapi

_START_SECONDS = 30
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files cost no disk's time, for `tempfile`; no test cuts the power."""


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A running server; `data` is its folder."""

    port: int
    data: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self, like: str = "template1") -> str:
        """The URL of a database of its own: a copy of that one, which nobody may be using."""
        name = f"test{next(self._numbers)}"
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {like.rpartition('/')[2]}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _connect(self) -> pg8000.dbapi.Connection:
        return pg8000.dbapi.connect(
            "postgres", host="127.0.0.1", port=self.port, database="postgres", ssl_context=False
        )

    def wait(self) -> None:
        """Return when it answers."""
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._connect().close()
                return
            except pg8000.dbapi.Error:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def running(*, sync: bool = False) -> Iterator[Postgres]:
    """Start a server and stop it at the end; with `sync` it waits for its disk, which a timing needs and no test."""
    programs = _programs()
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="onereward-postgres-", dir=None if sync else MEMORY))
    data, user = folder / "data", None
    if os.getuid() == 0:
        user = _unprivileged()
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    try:
        new = f"{programs}/initdb -D {data} -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync"
        subprocess.run(new.split(), user=user, cwd=folder, check=True, capture_output=True)
        port = _free_port()
        start = f"{programs}/postgres -D {data} -p {port} -h 127.0.0.1 -k {folder} -c fsync={sync}".split()
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(start, user=user, cwd=folder, stderr=log)
        try:
            postgres = Postgres(port=port, data=data)
            postgres.wait()
            yield postgres
        finally:
            server.send_signal(signal.SIGQUIT)  # at once, without writing what is thrown away
            server.wait()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def on_disk(kind: str, folder: Path) -> Iterator[str]:
    """A place for a database, "sqlite" or "postgresql", that waits for its disk, as a real one does."""
    if kind == "sqlite":
        yield str(folder / "votes.sqlite")
    else:
        with running(sync=True) as server:
            yield server.new_database()


def _programs() -> Path:
    """The newest version's folder of programs; not what PATH has, which need not have initdb."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max(found, key=lambda path: int(path.parts[-3])).parent


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
