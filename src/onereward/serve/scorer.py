"""The HTTP API of the judge: two pictures in as JSON or a form, scores out; a failed score is an error, no number."""

import asyncio
from concurrent.futures import Future
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from onereward.models.judge_contract import JudgeContract
from onereward.serve.forms import form_fields
from onereward.serve.intake import Intake
from onereward.serve.scorer_bodies import LISTS, PICTURES, question_of_form, question_of_json, question_schemas
from onereward.serve.scoring import ClosedError, NoScoreError, Scored, ScoreQueue
from onereward.serve.shell import new_app
from onereward.terms import Dimension
from onereward.web.shell import problems, refusal

Share = Annotated[float, Field(ge=0, le=1)]


class DimensionScore(BaseModel):
    """The judge's answer in one dimension, of both orders of the two pictures."""

    probability: Share
    """That the first is better, calibrated; for the swapped pair 1 minus it."""
    log_odds_forward: float
    """log P(yes) - log P(no), the first one shown first."""
    log_odds_backward: float
    """The same, the first one shown last."""
    outside_mass: Share
    """The probability of every other word, the mean of both orders."""


class PairScores(BaseModel):
    """The scores of a pair, the SHA-256 of the judge, and how many pairs it was asked about at once."""

    scores: dict[Dimension, DimensionScore]
    judge: str
    batch_size: int


class JudgeInfo(BaseModel):
    """Which judge answers, by name and SHA-256, and what it was trained to be asked."""

    name: str
    judge: str
    contract: JudgeContract
    deterministic: bool


def _queue_of(request: Request) -> ScoreQueue:
    queue: ScoreQueue = request.app.state.queue
    return queue


Queue = Annotated[ScoreQueue, Depends(_queue_of)]

_api = APIRouter(prefix="/v1", responses=problems(401))


@_api.post("/scores", responses=problems(400, 408, 422, 429, 500, 503))
async def score_pair(request: Request, queue: Queue) -> PairScores:
    """Which of two pictures is better, sent as JSON with data: URLs or as a multipart form with files."""
    intake: Intake = request.app.state.intake
    asked = await intake.take(
        request,
        of_json=question_of_json,
        of_form=lambda body, boundary: question_of_form(
            form_fields(body, boundary, pictures=PICTURES, lists=LISTS),
        ),
        then=queue.submit,
    )
    scored = await _unless_gone(request, asked)
    return PairScores(
        scores={dimension: DimensionScore(**asdict(score)) for dimension, score in scored.scores.items()},
        judge=queue.judge.fingerprint,
        batch_size=scored.batch,
    )


@_api.get("/judge")
async def read_judge(request: Request, queue: Queue) -> JudgeInfo:
    """Which judge answers."""
    return JudgeInfo(
        name=request.app.state.name,
        judge=queue.judge.fingerprint,
        contract=queue.judge.model.contract,
        deterministic=queue.asking.deterministic,
    )


def create_scorer(queue: ScoreQueue, name: str, *, token: str | None = None) -> FastAPI:
    """The API to the judge of that name; with a token every /v1 request must bear it, else it answers this machine."""
    app = new_app(
        _api,
        description="Which of two edits is better, dimension by dimension, by one judge.",
        upload=queue.limits.upload,
        token=token,
        bodies={"/v1/scores": question_schemas},
        refusals=[(NoScoreError, refusal(500)), (ClosedError, refusal(503))],
    )
    app.state.queue = queue
    app.state.name = name
    app.state.intake = Intake()
    return app


async def _unless_gone(request: Request, asked: Future[Scored]) -> Scored:
    """The answer; raises ClientDisconnect if the client goes before, and then takes the pair out of the line."""
    answer, gone = asyncio.wrap_future(asked), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
