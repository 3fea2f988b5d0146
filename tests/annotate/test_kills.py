"""A server that is killed again and again while people work: what it has acknowledged is there, once."""

import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.claims import DIMENSIONS, Found, blast
from onereward.annotate.audit import audit
from onereward.people.tables import CLAIMS, SLOTS, VOTES
from tests.annotate.crowd import Address, Browser, crowded
from tests.annotate.running import running

PEOPLE = 8


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_every_acknowledged_answer_outlives_kills_and_none_is_there_twice(
    place: str, tmp_path: Path, kills: int
) -> None:
    with crowded(place, tmp_path, PEOPLE, items=200 + 200 * kills) as (of, tokens), ExitStack() as servers:
        address, died, results = Address(), threading.Event(), list[Found]()
        next_one = servers.enter_context(running(of, tmp_path / "log", rate=1_000_000))
        address.url = next_one.url
        browsers = {token: Browser(address, token, patient=True) for token in tokens}
        crowd = threading.Thread(target=lambda: results.append(blast(browsers.__getitem__, tokens, stop=died)))
        crowd.start()
        for number in range(kills):
            killed = next_one
            # The next is started before, so that the time in which nobody answers is as short as a kill.
            next_one = servers.enter_context(running(of, tmp_path / f"log{number}", rate=1_000_000))
            time.sleep(random.uniform(0.1, 0.4))
            killed.process.kill()
            address.url = next_one.url
        time.sleep(0.3)
        died.set()
        crowd.join()
        [found] = results
        with of.database.reading() as connection:
            assert found.failed == []
            assert len(found.acknowledged) > 20 * kills / 3
            assert found.lost(connection) == found.double(connection) == 0
            audit(connection)
            # One answer a claim, in each dimension once; one claim a slot; and nothing that nobody was told of,
            # but for what was on its way when the last server was asked to end.
            votes = sa.select(sa.func.count(), sa.func.count(sa.distinct(VOTES.c.claim))).select_from(VOTES)
            rows, claims = connection.execute(votes).one()
            assert rows == claims * len(DIMENSIONS) == len(found.acknowledged) * len(DIMENSIONS)
            done = sa.select(sa.func.count()).where(SLOTS.c.done_at.is_not(None))
            given = sa.select(sa.func.count()).select_from(CLAIMS)
            assert connection.execute(done).scalar_one() == len(found.acknowledged)
            assert connection.execute(given).scalar_one() == len(found.given)
