"""What every server of ours is around its routes: the guard, errors as sentences, /healthz."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route

from onereward import __version__
from onereward.web.guard import Guard, secure

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """Why a request was refused and what to do, in one sentence."""

    detail: str


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a refused request is told: the HTTP status, why in one sentence, further headers."""

    code: int
    detail: str
    headers: Mapping[str, str] | None = None


Refuse = Callable[[Request, Exception], Refusal]
Show = Callable[[Request, Refusal], Response]


def as_json(_request: Request, refused: Refusal) -> Response:
    """A refusal as `{"detail": sentence}`."""
    return JSONResponse({"detail": refused.detail}, refused.code, refused.headers)


def new_app(
    router: APIRouter,
    *,
    description: str,
    upload: int,
    local_only: bool,
    dependencies: Sequence[Depends] = (),
    refusals: Sequence[tuple[type[Exception], Refuse]] = (),
    show: Show = as_json,
    headers: Mapping[str, str] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> FastAPI:
    """An app around the routes of `router`, whose requests have `upload` bytes at most.

    Every route but /healthz has the `dependencies`; `refusals` say what an error means and `show` how it is told;
    `headers` are in every answer. `local_only` refuses whoever is not on this machine. `begin` is called when serving
    begins; that it cannot do its work now (OSError) is logged.
    """

    @asynccontextmanager
    async def serving(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await run_in_threadpool(begin)
        except OSError as error:
            logger.warning("%s", error)
        yield

    app = FastAPI(
        title="onereward",
        version=__version__,
        description=description,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        responses=problems(403, 413, 415),
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=serving,
    )
    app.include_router(router, dependencies=dependencies)
    app.get("/healthz")(read_health)
    for kind, refuse in (*_REFUSALS, (405, _wrong_method_of(router)), *refusals):
        app.add_exception_handler(kind, _handler(refuse, show, headers or {}))
    app.add_middleware(Guard, upload=upload, local_only=local_only, headers=headers or {})
    return app


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What the schema says of answers with these codes."""
    return {code: {"model": Problem} for code in codes}


def refusal(code: int, headers: Mapping[str, str] | None = None) -> Refuse:
    """Refuses with an error's own words."""
    return lambda _request, error: Refusal(code=code, detail=plain(error), headers=headers)


def plain(error: Exception) -> str:
    """An error's words, of a length and in characters that a response can have."""
    return str(error)[:500].encode("utf-8", "backslashreplace").decode()


def told(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors as a sentence that names its field and leaves out its value."""
    first = errors[0]
    names = [part for part in first["loc"] if isinstance(part, str)]  # without places in a list
    field = names[-1] if len(names) > 1 else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{field[:100]}: {message}" if field else message


async def read_health() -> Health:
    """Whether the server answers; needs no token."""
    return Health()


def _handler(refuse: Refuse, show: Show, headers: Mapping[str, str]) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        answer = show(request, refuse(request, error))
        secure(answer.headers, headers)  # what is unexpected is answered outside of the guard
        return answer

    return handle


def _refused(_request: Request, error: Exception) -> Refusal:
    assert isinstance(error, HTTPException)
    return Refusal(code=error.status_code, detail=error.detail, headers=error.headers)


def _invalid(_request: Request, error: Exception) -> Refusal:
    assert isinstance(error, RequestValidationError)
    return Refusal(code=422, detail=told(error.errors()))


def _unexpected(_request: Request, _error: Exception) -> Refusal:
    return Refusal(code=500, detail="unexpected error: the server's log says more")


def _wrong_method_of(router: APIRouter) -> Refuse:
    """A 405 that allows what all routes of the path do; Starlette's own tells of the first."""
    routes = [one for one in router.routes if isinstance(one, Route)]
    assert len(routes) == len(router.routes)  # a router in the router would hide its own

    def refuse(request: Request, error: Exception) -> Refusal:
        assert isinstance(error, HTTPException)
        fitting = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
        allowed = sorted(method for one in fitting for method in one.methods or ())
        headers = {"Allow": ", ".join(allowed)} if allowed else error.headers
        return Refusal(code=405, detail=f"{request.method} is not for this path", headers=headers)

    return refuse


_REFUSALS: tuple[tuple[type[Exception] | int, Refuse], ...] = (
    (HTTPException, _refused),
    (ClientDisconnect, refusal(400)),  # nobody reads it
    (RequestValidationError, _invalid),
    (Exception, _unexpected),
)
