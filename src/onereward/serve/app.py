"""The HTTP API: edits in as JSON or forms; progress, images and recipes out; every error is a sentence in JSON."""

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from onereward import __version__
from onereward.edit.jobs import EditJob
from onereward.models.contract import Contract
from onereward.serve.bodies import EditBody, body_schemas, job_of_form, job_of_json, told
from onereward.serve.forms import form_fields, media_type
from onereward.serve.guard import Guard
from onereward.serve.queue import EditQueue, NotDoneError, QueueFullError, State, Status, UnknownEditError

_BODIES_AT_ONCE = 8
"""Bodies read at a time; others wait in their sockets, so that memory is bounded."""
_THREADS = 2
"""Threads that read bodies and pictures: the allocator keeps some memory for each that ever held a large one."""
_BODY_SECONDS = 60.0
_RETRY_SECONDS = "2"

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Problem(BaseModel):
    """Why a request was refused and what to do, in one sentence."""

    detail: str


class EditStatus(BaseModel):
    """Where an edit stands."""

    id: str
    url: str
    state: State
    place: int | None
    step: int
    steps: int
    message: str | None

    @staticmethod
    def of(status: Status) -> "EditStatus":
        """The status with the path of its edit."""
        return EditStatus(**asdict(status), url=f"/v1/edits/{status.id}")


class EditRecipe(BaseModel):
    """What makes the image again: `onereward edit --recipe FILE --output AGAIN.png`."""

    editor: str
    base: str | None
    lora: str | None
    dtype: str | None
    quantize: str | None
    cache: float | None
    job: EditBody
    pixels: str | None
    onereward: str


_EVENT = {
    "type": "object",
    "properties": {
        "event": {"const": "status"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/EditStatus"},
        },
    },
    "required": ["event", "data"],
}


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


async def _in_thread(request: Request, work: Callable[[_Given], _Made], given: _Given) -> _Made:
    made: _Made = await to_thread.run_sync(work, given, limiter=request.app.state.threads)
    return made


async def _job_in(request: Request) -> EditJob:
    kind, boundary = media_type(request.headers.get("content-type"))
    if kind == "application/json":
        return await _in_thread(request, job_of_json, await request.body())
    if kind == "multipart/form-data":
        return await _in_thread(request, lambda body: job_of_form(form_fields(body, boundary)), await request.body())
    raise HTTPException(415, "send the edit as application/json or as multipart/form-data")


async def _events(queue: EditQueue, edit_id: str) -> AsyncIterator[str]:
    try:
        async for status in queue.follow(edit_id):
            yield f"event: status\ndata: {EditStatus.of(status).model_dump_json()}\n\n"
    except UnknownEditError:
        return  # deleted since the route looked


def _bearer_of(token: str) -> Callable[..., None]:
    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if given is None or not is_token(given.credentials, token):
            raise HTTPException(
                401, "send the server's token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    return check


_Handler = Callable[[Request, Exception], JSONResponse]


def _refusal(code: int, headers: Mapping[str, str]) -> _Handler:
    def refuse(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": _plain(error)}, code, headers)

    return refuse


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": told(error.errors())}, 422)


def _wrong_method(request: Request, error: Exception) -> JSONResponse:
    """A 405 that allows what all routes of the path do; Starlette's own tells of the first."""
    assert isinstance(error, HTTPException)
    routes = [one for one in _api.routes if isinstance(one, Route) and one.matches(request.scope)[0] is not Match.NONE]
    allowed = sorted(method for one in routes for method in one.methods or ())
    headers = {"Allow": ", ".join(allowed)} if allowed else error.headers
    return JSONResponse({"detail": f"{request.method} is not for this path"}, 405, headers)


def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "unexpected error: the server's log says more"}, 500)


_REFUSALS: tuple[tuple[type[Exception] | int, _Handler], ...] = (
    (405, _wrong_method),
    (UnknownEditError, _refusal(404, {})),
    (NotDoneError, _refusal(409, {})),
    (QueueFullError, _refusal(429, {"Retry-After": _RETRY_SECONDS})),
    (ClientDisconnect, _refusal(400, {})),  # nobody reads it
    (RequestValidationError, _invalid),
    (Exception, _unexpected),
)


def _plain(error: Exception) -> str:
    """An error's words, of a length and in characters that a response can have."""
    return str(error)[:500].encode("utf-8", "backslashreplace").decode()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema and, what it has no words for, the two forms that a new edit may take."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        as_json, as_form = body_schemas()
        schema["components"]["schemas"] |= as_json.pop("$defs")
        schema["paths"]["/v1/edits"]["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": as_json}, "multipart/form-data": {"schema": as_form}},
        }
    return FastAPI.openapi(app)


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"edit_id": "$response.body#/id"}}


def _queue_of(request: Request) -> EditQueue:
    queue: EditQueue = request.app.state.queue
    return queue


Queue = Annotated[EditQueue, Depends(_queue_of)]
Format = Literal["png", "webp", "jpg"]

_api = APIRouter(prefix="/v1", responses=_problems(401))


@_api.post(
    "/edits",
    status_code=202,
    responses={
        202: {
            "headers": {"Location": {"description": "The path of the edit.", "schema": {"type": "string"}}},
            "links": {
                name: _link(name) for name in ("read_status", "read_image", "read_recipe", "cancel_edit", "forget_edit")
            },
        },
        **_problems(400, 408, 422, 429),
    },
)
async def submit_edit(request: Request, response: Response, queue: Queue) -> EditStatus:
    """Put an edit in the queue, sent as JSON with its pictures as data: URLs or as a multipart form with files."""
    async with request.app.state.bodies:
        gc.collect()  # a refused body hangs on its error, in a cycle, until somebody looks
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                job = await _job_in(request)
            status = await _in_thread(request, queue.submit, job)
        except TimeoutError:
            raise HTTPException(
                408, f"the body took over {_BODY_SECONDS:.0f} seconds: send a smaller picture"
            ) from None
        except ValueError as error:
            raise HTTPException(422, _plain(error)) from None
    answer = EditStatus.of(status)
    response.headers["Location"] = answer.url
    return answer


@_api.get("/edits/{edit_id}", responses=_problems(404, 422))
async def read_status(edit_id: str, queue: Queue) -> EditStatus:
    """Where an edit stands."""
    return EditStatus.of(queue.status(edit_id))


@_api.delete("/edits/{edit_id}", status_code=204, responses=_problems(404, 422))
async def forget_edit(edit_id: str, queue: Queue) -> None:
    """Cancel an edit that is not finished, and drop it with its image."""
    queue.forget(edit_id)


@_api.post("/edits/{edit_id}/cancel", responses=_problems(404, 422))
async def cancel_edit(edit_id: str, queue: Queue) -> EditStatus:
    """End an edit that is not finished, a running one at its next sampling step; its status stays readable."""
    return EditStatus.of(queue.cancel(edit_id))


@_api.get(
    "/edits/{edit_id}/image",
    response_class=Response,
    responses={
        200: {
            "description": "The edited image.",
            "content": {
                f"image/{kind}": {"schema": {"type": "string", "format": "binary"}} for kind in ("png", "webp", "jpeg")
            },
        },
        **_problems(404, 409, 422),
    },
)
def read_image(edit_id: str, queue: Queue, format: Format = "png") -> Response:
    """The image of an edit that is done; all formats but jpg keep every pixel outside the mask."""
    try:
        file = queue.image(edit_id, f".{format}")
    except ValueError as error:
        raise HTTPException(422, _plain(error)) from None
    return Response(file, media_type=f"image/{'jpeg' if format == 'jpg' else format}")


@_api.get("/edits/{edit_id}/recipe", responses={200: {"model": EditRecipe}, **_problems(404, 409, 422)})
def read_recipe(edit_id: str, queue: Queue) -> Response:
    """The recipe of an edit that is done, with its pictures: a file for `onereward edit --recipe`."""
    return Response(queue.result(edit_id).recipe.to_json(), media_type="application/json")


@_api.get(
    "/edits/{edit_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events named `status`, each with an EditStatus, up to the final one.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        **_problems(404, 422),
    },
)
async def follow_edit(edit_id: str, queue: Queue) -> StreamingResponse:
    """Its status now and after each change, until it is done, failed or cancelled."""
    queue.status(edit_id)
    return StreamingResponse(_events(queue, edit_id), media_type="text/event-stream")


@_api.get("/contract")
async def read_contract(queue: Queue) -> Contract:
    """What the editor was made for: what a request leaves out comes from here."""
    return queue.contract


async def read_health() -> Health:
    """Whether the server answers; needs no token."""
    return Health()


def create_app(queue: EditQueue, *, token: str | None = None) -> FastAPI:
    """The API to a queue; with a token every /v1 request must bear it, without one only this machine is answered."""
    app = FastAPI(
        title="onereward",
        version=__version__,
        description="Edits of pictures, made one after the other by one editor.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        responses=_problems(403, 413, 415),
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.queue = queue
    app.state.bodies = asyncio.Semaphore(_BODIES_AT_ONCE)
    app.state.threads = CapacityLimiter(_THREADS)
    app.include_router(_api, dependencies=[] if token is None else [Depends(_bearer_of(token))])
    app.get("/healthz")(read_health)
    for kind, handler in _REFUSALS:
        app.add_exception_handler(kind, handler)
    app.add_middleware(Guard, limits=queue.limits, local_only=token is None)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def is_token(given: str, token: str) -> bool:
    """Whether both are equal, in a time that does not tell how far they are."""
    return secrets.compare_digest(given.encode(), token.encode())
