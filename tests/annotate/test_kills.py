"""A server that is killed again and again while people work: what it has acknowledged is there, once."""

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.claims import DIMENSIONS, Found, blast
from onereward.annotate.audit import audit
from onereward.people.tables import CLAIMS, SLOTS, VOTES
from tests.annotate.crowd import Annotator, crowded
from tests.app_process import Mortal

PEOPLE = 8


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_every_acknowledged_answer_outlives_kills_and_none_is_there_twice(
    place: str, tmp_path: Path, kills: int
) -> None:
    with (
        crowded(place, tmp_path, PEOPLE, items=200 + 200 * kills) as (of, tokens),
        Mortal(app="annotate", of=of, folder=tmp_path) as server,
    ):
        died, results = threading.Event(), list[Found]()
        browsers = {token: Annotator(server.address, token, patient=True) for token in tokens}
        crowd = threading.Thread(target=lambda: results.append(blast(browsers.__getitem__, tokens, stop=died)))
        crowd.start()
        try:
            for _ in range(kills):
                server.kill()
            time.sleep(0.3)
        finally:
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
