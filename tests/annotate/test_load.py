"""Forty people at once: how long they wait at their pace, and that nothing is lost when they do not pause at all."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.claims import Found, blast, measure, p95
from onereward.annotate.audit import audit
from tests.annotate.crowd import Annotator, crowded
from tests.app_process import NO_LIMIT, Address, running
from tests.postgres import on_disk

PEOPLE = 40
SHORT, LONG = 3.0, 300.0
forms = pytest.mark.parametrize("seconds", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)])


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with on_disk(request.param, tmp_path) as place:
        yield place


@forms
def test_forty_people_wait_little_and_lose_nothing(disk: str, tmp_path: Path, seconds: float) -> None:
    """Over HTTP, of the real server: first 2 tasks a second in all, then as many as go.

    The short form has some 4 a second, which is harder, so that few seconds have answers enough, and prints how long
    they wait: other tests that run beside it may take the machine away.
    """
    rate = 2.2 if seconds == LONG else 8
    with crowded(disk, tmp_path, PEOPLE, items=250 if seconds == SHORT else 20_000) as (of, tokens):
        with running("annotate", of, tmp_path / "log", rate=NO_LIMIT) as server:
            browsers = {token: Annotator(Address(url=server.url), token) for token in tokens}
            every = [blast(browsers.__getitem__, tokens[:1], seconds=0.2)]  # no server's first answers
            every.append(paced := blast(browsers.__getitem__, tokens, seconds, pause=PEOPLE / rate))
            every.append(full := blast(browsers.__getitem__, tokens, seconds))
        with of.database.reading() as connection:
            print(json.dumps({"paced": paced.figures(connection), "full blast": full.figures(connection)}, indent=1))
            whole = Found.of(every)
            assert whole.failed == []
            assert whole.lost(connection) == whole.double(connection) == 0
            assert len(full.acknowledged) > len(paced.acknowledged) > seconds
            audit(connection)
    if seconds == LONG:
        assert p95(paced.claims) <= 0.1 and p95(paced.answers) <= 0.1


@forms
def test_the_version_that_most_would_write_loses_claims_and_ours_does_not(disk: str, seconds: float) -> None:
    found = measure(disk, people=PEOPLE, seconds=seconds / 3, items=300 if seconds == SHORT else 10_000)
    print(json.dumps(found, indent=1))
    assert found["ours"]["failed"] == found["ours"]["lost"] == found["ours"]["double-assigned"] == 0
    assert found["naive"]["failed"] + found["naive"]["double-assigned"] > 0
