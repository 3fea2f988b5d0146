"""Simulated participants who send what the pages send, in threads, to a server process."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx
import sqlalchemy as sa

from onereward.people.database import Database
from onereward.people.tables import STUDY_ANSWERS, STUDY_BLOCKS
from onereward.study.audit import audit
from onereward.study.closing import status_of
from tests.app_process import Address, Browser
from tests.study.running import answer_to

_STEPS = {"consent": "consent", "instructions": "practice", "ready": "block"}
"""What is asked for at each stage that has no pages."""


class Participant(Browser):
    """One person's way through the study, page by page, with answers by chance.

    end: the stage at which there was no page any more. acknowledged: request -> trial and values that it said. known:
    answers that had come before. took: path -> seconds that each answer of the server took.
    """

    def __init__(
        self, address: Address, token: str, *, by: str = "/api/session", patient: bool = False, seed: int = 0
    ) -> None:
        super().__init__(address, token, by=by, patient=patient)
        self._draw, self._trial = Random(seed), dict[str, Any]()
        self.end = ""
        self.acknowledged: dict[str, tuple[str, dict[str, int]]] = {}
        self.known, self.took = 0, defaultdict[str, list[float]](list)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """The server's answer."""
        start = time.perf_counter()
        answer = super().ask(method, path, body)
        self.took[path].append(time.perf_counter() - start)
        return answer

    def claim(self) -> int | None:
        """Go on to the next page, through the steps that lie before it; how many came before it, or None at an end."""
        place = self._place()
        while step := _STEPS.get(place["stage"]):
            said = self.ask("POST", f"/api/{step}")
            place = self._place()
            assert said.status_code == 204 or (said.status_code, place["stage"]) == (409, "full"), said.text
        if not place["trials"]:
            self.end = place["stage"]
            return None
        self._trial = place["trials"][0]
        return int(place["done"])

    def answer(self) -> str:
        """Answer the page; the request's uuid."""
        values = {one["name"]: self._draw.choice(one["options"])["value"] for one in self._trial["questions"]}
        answer = answer_to(self._trial, values=values)
        said = self.ask("POST", "/api/answers", answer)
        assert said.status_code == 200, said.text
        assert said.json()["state"] in ("accepted", "known")
        self.known += said.json()["state"] == "known"
        self.acknowledged[answer["uuid"]] = answer["trial"], values
        return str(answer["uuid"])

    def leave(self, *, drop: bool) -> None:
        """Take part no longer; with `drop` what was answered is not used."""
        said = self.ask("POST", "/api/withdrawal", {"drop": drop})
        assert said.status_code == 204 or (said.status_code, self.retries > 0) == (401, True), said.text
        self.end = "left"

    def _place(self) -> dict[str, Any]:
        said = self.ask("GET", "/api/place")
        assert said.status_code == 200, said.text
        place: dict[str, Any] = said.json()
        return place


def check_whole(database: Database, crowd: Sequence[Participant], pages: int) -> None:
    """Raise unless what these people were told is what there is, and the study wants as many `pages` as ever.

    Each has come to an end, each acknowledged answer is there as it was sent, once, and no other is; whoever has
    finished has a block.
    """
    ends = Counter(one.end for one in crowd)
    assert ends.keys() <= {"finished", "full", "left"}, ends
    sent = {request: answer for one in crowd for request, answer in one.acknowledged.items()}
    assert len(sent) == sum(len(one.acknowledged) for one in crowd) == len({trial for trial, _ in sent.values()})
    with database.reading() as connection:
        audit(connection)
        kept: dict[str, tuple[str, dict[str, int]]] = {}
        rows = connection.execute(sa.select(STUDY_ANSWERS)).all()
        for row in rows:
            kept.setdefault(row.submission, (row.trial, {}))[1][row.criterion] = row.value
        assert kept == sent
        assert len(rows) == sum(len(values) for _, values in sent.values())
        blocks = connection.execute(sa.select(STUDY_BLOCKS).where(STUDY_BLOCKS.c.finished_at.is_not(None))).all()
    assert len({block.person for block in blocks}) == len(blocks) == ends["finished"]
    assert status_of(database).wanted == pages
