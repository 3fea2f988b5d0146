"""A crowd at once in a study: how long they wait at their pace, and that nothing is lost when nobody pauses at all."""

import json
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.claims import Found, blast, p95
from onereward.people.persons import Persons
from onereward.study.closing import status_of
from onereward.study.project import open_to_all
from tests.app_process import NO_LIMIT, Address, running
from tests.postgres import on_disk
from tests.study.crowd import Participant, check_whole
from tests.study.running import SYSTEMS, study

TOKEN = "t" * 32


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with on_disk(request.param, tmp_path) as place:
        yield place


@pytest.mark.parametrize(
    ("people", "items", "seconds", "rate", "is_long"),
    [(10, 8, 3.0, 8.0, False), pytest.param(40, 10, 60.0, 2.2, True, marks=pytest.mark.soak)],
)
def test_a_crowd_waits_little_and_loses_nothing(
    disk: str, tmp_path: Path, people: int, items: int, seconds: float, rate: float, is_long: bool
) -> None:
    """Over HTTP, of the real server: first 2 pages a second in all, then as many as go, to the end.

    For that some more come by the open link, twice as many as there are blocks left. As for annotators, the short form
    has more pages a second, and prints how long they wait.
    """
    late, blocks = people // 5 * 2, people + people // 5
    with study(tmp_path, place=disk, items=items, answers=blocks, practice=2, check_every=10) as made:
        open_to_all(made.database, TOKEN, made.clock)
        names = [f"person {number}" for number in range(people)]
        with running("study", made, tmp_path / "log", rate=NO_LIMIT) as server:
            address = Address(url=server.url)
            crowd = {name: Participant(address, made.link_of(name)[1], seed=seed) for seed, name in enumerate(names)}
            every = [blast(crowd.__getitem__, names[:1], seconds=0.2)]
            crowd[names[0]].took.clear()  # a server's first answers
            every.append(paced := blast(crowd.__getitem__, names, seconds, pause=people / rate))
            took = _took(crowd.values())
            waits = [p95(took[path]) for path in ("/api/place", "/api/answers")]
            told = {"paced": _figures(paced, crowd.values())}
            with ThreadPoolExecutor(late) as pool:
                joined = list(
                    pool.map(lambda seed: Participant(address, TOKEN, by="/api/join", seed=seed), range(late))
                )
            crowd |= {f"late {number}": one for number, one in enumerate(joined)}
            every.append(full := blast(crowd.__getitem__, list(crowd)))
        print(json.dumps(told | {"full blast": _figures(full, crowd.values())}, indent=1))
        assert Found.of(every).failed == []
        assert len(full.acknowledged) > len(paced.acknowledged) > seconds
        check_whole(made.database, list(crowd.values()), blocks * items * len(SYSTEMS))
        status = status_of(made.database)
        assert status.claimed == status.finished == status.blocks == blocks and status.answers == status.wanted
        assert [one.end for one in crowd.values()].count("full") == people + late - blocks
    assert not is_long or max(waits) <= 0.1


def test_those_who_join_at_once_have_names_of_their_own(place: str, tmp_path: Path) -> None:
    with study(tmp_path, place=place, answers=8) as made, ThreadPoolExecutor(8) as pool:
        open_to_all(made.database, TOKEN, made.clock)
        gate = threading.Barrier(8)

        def join(_: int) -> str | None:
            gate.wait()
            return made.collecting.join(TOKEN)

        assert None not in list(pool.map(join, range(8)))
        assert len({entry.name for entry in Persons(made.database).all()}) == 8


def _figures(found: Found, crowd: Collection[Participant]) -> dict[str, float]:
    """How fast it went, and how long each path took; the times are forgotten then."""
    waits = {f"{path} p95, ms": round(1000 * p95(seconds), 1) for path, seconds in _took(crowd).items()}
    for one in crowd:
        one.took.clear()
    return {"pages a second": round(len(found.acknowledged) / found.seconds, 1), **waits}


def _took(crowd: Collection[Participant]) -> dict[str, list[float]]:
    """path -> seconds that each answer of the server took, of all together."""
    took: dict[str, list[float]] = {}
    for one in crowd:
        for path, seconds in one.took.items():
            took.setdefault(path, []).extend(seconds)
    return took
