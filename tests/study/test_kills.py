"""A study's server that is killed again and again while people come, answer and leave: nothing is lost or doubled."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.app_process import Mortal
from tests.study.crowd import Participant, check_whole
from tests.study.running import SYSTEMS, study

PEOPLE, ITEMS = 8, 4
LEAVES = 0.02  # of pages before which somebody leaves the study


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_every_acknowledged_answer_outlives_kills_and_all_go_on_to_the_end(
    place: str, tmp_path: Path, kills: int
) -> None:
    """Eight at a time, each with a link of their own, the next when one has come to the end."""
    blocks = 100 + 60 * kills
    with (
        study(tmp_path, place=place, items=ITEMS, answers=blocks, practice=1, check_every=4) as made,
        Mortal(app="study", of=made, folder=tmp_path) as server,
    ):
        crowd, over = list[Participant](), threading.Event()

        def come_and_go(number: int) -> None:
            draw = Random(number)
            while not over.is_set():
                _, token = made.link_of(f"person {number}")
                person = Participant(server.address, token, patient=True, seed=draw.randrange(10**9))
                crowd.append(person)
                while person.claim() is not None:
                    if draw.random() < LEAVES:
                        person.leave(drop=draw.random() < 0.5)
                        break
                    person.answer()
                person.close()

        with ThreadPoolExecutor(PEOPLE) as pool:
            going = [pool.submit(come_and_go, number) for number in range(PEOPLE)]
            try:
                for _ in range(kills):
                    server.kill()
                assert not any(one.done() for one in going), "too few blocks for so many kills"
            finally:
                over.set()
            for one in going:
                one.result()
        told = {name: sum(getattr(one, name) for one in crowd) for name in ("retries", "known")}
        answers = sum(len(one.acknowledged) for one in crowd)
        print(f"{kills} kills, {len(crowd)} people, {answers} answers; {told} of requests that were sent again")
        check_whole(made.database, crowd, blocks * ITEMS * len(SYSTEMS))
        assert {one.end for one in crowd} == {"finished", "left"}
        assert answers > 20 * kills / 3 and told["retries"] >= kills
