"""What both servers of models are around their routes: the token, and the schemas of bodies that are forms too."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from onereward.serve.bodies import BodySchemas
from onereward.serve.queue import QueueFullError
from onereward.web import shell
from onereward.web.shell import Refuse, refusal

_RETRY_SECONDS = "2"


def new_app(
    router: APIRouter,
    *,
    description: str,
    upload: int,
    token: str | None,
    bodies: Mapping[str, Callable[[], BodySchemas]],
    refusals: Sequence[tuple[type[Exception], Refuse]],
) -> FastAPI:
    """An app around the routes of `router`, whose requests have `upload` bytes at most.

    With a token every route but /healthz asks for it, without one only this machine is answered. `bodies` are the
    schemas of what is posted to a path, `refusals` what answers an error.
    """
    app = shell.new_app(
        router,
        description=description,
        upload=upload,
        local_only=token is None,
        dependencies=[] if token is None else [Depends(_bearer_of(token))],
        refusals=[(QueueFullError, refusal(429, {"Retry-After": _RETRY_SECONDS})), *refusals],
    )
    app.openapi = lambda: _openapi(app, bodies)  # type: ignore[method-assign]
    return app


def is_token(given: str, token: str) -> bool:
    """Whether both are equal, in a time that does not tell how far they are."""
    return secrets.compare_digest(given.encode(), token.encode())


def _bearer_of(token: str) -> Callable[..., None]:
    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if given is None or not is_token(given.credentials, token):
            raise HTTPException(
                401, "send the server's token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    return check


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
