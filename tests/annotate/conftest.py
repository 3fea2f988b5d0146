from collections.abc import Iterator

import pytest

from onereward.annotate.database import VoteDatabase
from tests.annotate.desk import Desk, check_whole


@pytest.fixture
def desk(place: str) -> Iterator[Desk]:
    """An empty database on each of both kinds, and a clock that stands still; all has to fit at the end."""
    with VoteDatabase(place) as database:
        yield Desk(database)
        check_whole(database)
