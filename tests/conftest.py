"""What every test runs under: one thread, no network, a cache of its own, and loud skips of what this machine lacks."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import settings

from tests.postgres import MEMORY, Postgres, running

settings.register_profile("onereward", deadline=None)
settings.load_profile("onereward")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_chromium() -> bool:
    return shutil.which("chromium") is not None


def _has_postgres() -> bool:
    return shutil.which("postgres") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


_NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "gpu": (_has_cuda, "needs a CUDA device"),
    "browser": (_has_chromium, "needs Chromium: apt-get install chromium"),
    "postgres": (_has_postgres, "needs PostgreSQL: apt-get install postgresql"),
}


_LONGEST = (
    "test_demo.py",
    "test_rl_processes.py",
    "test_reward_processes.py",
    "test_loop.py",
    "test_playground.py",
    "test_scorer.py",
)
"""Files that take a minute or more: first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)
    for mark, (is_there, reason) in _NEEDS.items():
        needy = [item for item in items if item.get_closest_marker(mark)]
        if needy and not is_there():
            for item in needy:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    for _, reason in _NEEDS.values():
        count = sum(reason in text for text in reasons)
        if count:
            terminalreporter.write_line(f"NOT RUN: {count} tests, {reason}", red=True, bold=True)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEREWARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; for tests that are marked so."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The URL of a database that has its tables, to copy: making them takes longer than all else."""
    from onereward.people.database import Database

    url = postgres.new_database()
    with Database(url):
        return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a database can be made: a path of SQLite, then the URL of PostgreSQL."""
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            yield str(Path(folder) / "votes.sqlite")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database(like=request.getfixturevalue("migrated"))
        yield url
        server.drop(url)
