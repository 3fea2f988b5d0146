"""The HTTP API: edits in as JSON or forms; progress, images and recipes out; every error is a sentence in JSON."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from onereward.models.contract import Contract
from onereward.serve.bodies import EditBody, body_schemas, job_of_form, job_of_json
from onereward.serve.forms import form_fields
from onereward.serve.intake import Intake
from onereward.serve.queue import EditQueue, NotDoneError, State, Status, UnknownEditError
from onereward.serve.shell import new_app
from onereward.web.shell import plain, problems, refusal

_PICTURES = ("image", "mask")


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


async def _events(queue: EditQueue, edit_id: str) -> AsyncIterator[str]:
    try:
        async for status in queue.follow(edit_id):
            yield f"event: status\ndata: {EditStatus.of(status).model_dump_json()}\n\n"
    except UnknownEditError:
        return  # deleted since the route looked


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"edit_id": "$response.body#/id"}}


def _queue_of(request: Request) -> EditQueue:
    queue: EditQueue = request.app.state.queue
    return queue


Queue = Annotated[EditQueue, Depends(_queue_of)]
Format = Literal["png", "webp", "jpg"]

_api = APIRouter(prefix="/v1", responses=problems(401))


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
        **problems(400, 408, 422, 429),
    },
)
async def submit_edit(request: Request, response: Response, queue: Queue) -> EditStatus:
    """Put an edit in the queue, sent as JSON with its pictures as data: URLs or as a multipart form with files."""
    intake: Intake = request.app.state.intake
    status = await intake.take(
        request,
        of_json=job_of_json,
        of_form=lambda body, boundary: job_of_form(form_fields(body, boundary, pictures=_PICTURES)),
        then=queue.submit,
    )
    answer = EditStatus.of(status)
    response.headers["Location"] = answer.url
    return answer


@_api.get("/edits/{edit_id}", responses=problems(404, 422))
async def read_status(edit_id: str, queue: Queue) -> EditStatus:
    """Where an edit stands."""
    return EditStatus.of(queue.status(edit_id))


@_api.delete("/edits/{edit_id}", status_code=204, responses=problems(404, 422))
async def forget_edit(edit_id: str, queue: Queue) -> None:
    """Cancel an edit that is not finished, and drop it with its image."""
    queue.forget(edit_id)


@_api.post("/edits/{edit_id}/cancel", responses=problems(404, 422))
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
        **problems(404, 409, 422),
    },
)
def read_image(edit_id: str, queue: Queue, format: Format = "png") -> Response:
    """The image of an edit that is done; all formats but jpg keep every pixel outside the mask."""
    try:
        file = queue.image(edit_id, f".{format}")
    except ValueError as error:
        raise HTTPException(422, plain(error)) from None
    return Response(file, media_type=f"image/{'jpeg' if format == 'jpg' else format}")


@_api.get("/edits/{edit_id}/recipe", responses={200: {"model": EditRecipe}, **problems(404, 409, 422)})
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
        **problems(404, 422),
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


def create_app(queue: EditQueue, *, token: str | None = None) -> FastAPI:
    """The API to a queue; with a token every /v1 request must bear it, without one only this machine is answered."""
    app = new_app(
        _api,
        description="Edits of pictures, made one after the other by one editor.",
        upload=queue.limits.upload,
        token=token,
        bodies={"/v1/edits": body_schemas},
        refusals=[(UnknownEditError, refusal(404)), (NotDoneError, refusal(409))],
    )
    app.state.queue = queue
    app.state.intake = Intake()
    return app
