"""What every server of ours is around its routes: the token, the guard, errors as sentences, /healthz, the schema."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from onereward import __version__
from onereward.serve.bodies import BodySchemas, told
from onereward.serve.guard import Guard
from onereward.serve.queue import QueueFullError

_RETRY_SECONDS = "2"

Handler = Callable[[Request, Exception], JSONResponse]


class Problem(BaseModel):
    """Why a request was refused and what to do, in one sentence."""

    detail: str


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


def new_app(
    router: APIRouter,
    *,
    description: str,
    upload: int,
    token: str | None,
    bodies: Mapping[str, Callable[[], BodySchemas]],
    refusals: Sequence[tuple[type[Exception], Handler]],
) -> FastAPI:
    """An app around the routes of `router`, whose requests have `upload` bytes at most.

    With a token every route but /healthz asks for it, without one only this machine is answered. `bodies` are the
    schemas of what is posted to a path, `refusals` what answers an error.
    """
    app = FastAPI(
        title="onereward",
        version=__version__,
        description=description,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        responses=problems(403, 413, 415),
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router, dependencies=[] if token is None else [Depends(_bearer_of(token))])
    app.get("/healthz")(read_health)
    for kind, handler in (*_REFUSALS, *refusals):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(405, _wrong_method_of(router))
    app.add_middleware(Guard, upload=upload, local_only=token is None)
    app.openapi = lambda: _openapi(app, bodies)  # type: ignore[method-assign]
    return app


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What the schema says of answers with these codes."""
    return {code: {"model": Problem} for code in codes}


def refusal(code: int, headers: Mapping[str, str] | None = None) -> Handler:
    """Answers an error with its own words."""

    def refuse(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": plain(error)}, code, headers)

    return refuse


def plain(error: Exception) -> str:
    """An error's words, of a length and in characters that a response can have."""
    return str(error)[:500].encode("utf-8", "backslashreplace").decode()


def is_token(given: str, token: str) -> bool:
    """Whether both are equal, in a time that does not tell how far they are."""
    return secrets.compare_digest(given.encode(), token.encode())


async def read_health() -> Health:
    """Whether the server answers; needs no token."""
    return Health()


def _bearer_of(token: str) -> Callable[..., None]:
    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if given is None or not is_token(given.credentials, token):
            raise HTTPException(
                401, "send the server's token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    return check


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": told(error.errors())}, 422)


def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "unexpected error: the server's log says more"}, 500)


def _wrong_method_of(router: APIRouter) -> Handler:
    """A 405 that allows what all routes of the path do; Starlette's own tells of the first."""

    def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        routes = [one for one in router.routes if isinstance(one, Route)]
        fitting = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
        allowed = sorted(method for one in fitting for method in one.methods or ())
        headers = {"Allow": ", ".join(allowed)} if allowed else error.headers
        return JSONResponse({"detail": f"{request.method} is not for this path"}, 405, headers)

    return refuse


_REFUSALS: tuple[tuple[type[Exception], Handler], ...] = (
    (QueueFullError, refusal(429, {"Retry-After": _RETRY_SECONDS})),
    (ClientDisconnect, refusal(400)),  # nobody reads it
    (RequestValidationError, _invalid),
    (Exception, _unexpected),
)


def _openapi(app: FastAPI, bodies: Mapping[str, Callable[[], BodySchemas]]) -> dict[str, Any]:
    """FastAPI's schema and, what it has no words for, the two forms that a body may take."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        for path, schemas in bodies.items():
            as_json, as_form = schemas()
            schema["components"]["schemas"] |= as_json.pop("$defs")
            schema["paths"][path]["post"]["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": as_json}, "multipart/form-data": {"schema": as_form}},
            }
    return FastAPI.openapi(app)
