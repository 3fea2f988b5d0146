"""The HTTP API, route by route: what it answers, and in which words it refuses."""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.jobs import EditJob, Recipe, data_url, digest_of
from onereward.serve import intake
from onereward.serve.app import create_app
from onereward.serve.limits import Limits
from onereward.serve.queue import EditQueue
from onereward.serve.shell import is_token
from tests.pictures import noise
from tests.serve.edits import FIELDS, FILES, FILL, MASK, PHOTO, SIZE, Gated, file_of

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def editor(tiny_folder: Path) -> ImageEditor:
    return load_editor(str(tiny_folder))


@contextmanager
def served(editor: Any, token: str | None = None, **limits: int) -> Iterator[TestClient]:
    recipe = partial(Recipe, editor="tiny")
    with EditQueue(editor, recipe=recipe, limits=Limits(**limits)) as queue:
        with TestClient(create_app(queue, token=token), base_url=LOCAL, raise_server_exceptions=False) as client:
            yield client
        if isinstance(editor, Gated):
            editor.let(1000)


@pytest.fixture(scope="module")
def client(editor: ImageEditor) -> Iterator[TestClient]:
    with served(editor, upload=2**20, pixels=10_000) as client:
        yield client


def done(client: TestClient, submitted: Response) -> str:
    """The URL of an edit, when it is done."""
    assert submitted.status_code == 202, submitted.text
    url: str = submitted.json()["url"]
    deadline = time.monotonic() + 20
    while (status := client.get(url).json())["state"] != "done":
        assert status["state"] in ("queued", "running") and time.monotonic() < deadline, status
        time.sleep(0.01)
    return url


def image_at(client: TestClient, url: str, **query: str) -> Image.Image:
    return Image.open(io.BytesIO(client.get(f"{url}/image", params=query).content))


def test_json_and_a_form_make_the_editor_s_own_image(client: TestClient, editor: ImageEditor) -> None:
    expected = digest_of(editor.edit_batch([EditJob.of({**FILL, "seed": 3}).request()])[0])
    as_json = client.post("/v1/edits", json={**FILL, "seed": 3})
    assert as_json.headers["location"] == as_json.json()["url"] == f"/v1/edits/{as_json.json()['id']}"
    as_form = client.post("/v1/edits", data={**FIELDS, "seed": "3"}, files=FILES)
    for submitted in (as_json, as_form):
        assert digest_of(image_at(client, done(client, submitted))) == expected


def test_a_form_s_picture_needs_no_file_name_and_may_have_any(client: TestClient) -> None:
    for name in (None, "", "../../etc/passwd", "C:\\windows\\x.exe", "é" * 300, "a\x00b"):
        files = {"image": (name, PHOTO), "mask": ("m.png", MASK)}
        done(client, client.post("/v1/edits", data=FIELDS, files=files))


def test_an_extend_says_how_far(client: TestClient) -> None:
    url = done(client, client.post("/v1/edits", data={"task": "extend", "left": "8"}, files={"image": PHOTO}))
    assert image_at(client, url).size == (28, 12)


def test_the_image_comes_in_the_format_asked_for(client: TestClient) -> None:
    url = done(client, client.post("/v1/edits", json=FILL))
    for asked, media_type in {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}.items():
        answer = client.get(f"{url}/image", params={"format": asked})
        assert answer.headers["content-type"] == media_type
        assert Image.MIME[str(Image.open(io.BytesIO(answer.content)).format)] == media_type
    assert client.get(f"{url}/image", params={"format": "gif"}).json() == {
        "detail": "format: Input should be 'png', 'webp' or 'jpg'"
    }
    clear = done(client, client.post("/v1/edits", json={**FILL, "image": data_url(file_of(noise(*SIZE, "RGBA")))}))
    refused = client.get(f"{clear}/image", params={"format": "jpg"})
    assert refused.status_code == 422 and "JPEG cannot be" in refused.json()["detail"]


def test_the_recipe_makes_the_image_again(client: TestClient, editor: ImageEditor, tmp_path: Path) -> None:
    url = done(client, client.post("/v1/edits", json={**FILL, "seed": 5}))
    (tmp_path / "recipe.json").write_bytes(client.get(f"{url}/recipe").content)
    recipe = Recipe.read(tmp_path / "recipe.json")
    assert (recipe.editor, recipe.job.seed, recipe.job.steps) == ("tiny", 5, 3)
    again = digest_of(editor.edit_batch([recipe.job.request()])[0])
    assert again == recipe.pixels == digest_of(image_at(client, url))
    resent = client.post("/v1/edits", json=client.get(f"{url}/recipe").json()["job"])
    assert digest_of(image_at(client, done(client, resent))) == again


def test_the_contract_is_told(client: TestClient, editor: ImageEditor) -> None:
    told = client.get("/v1/contract").json()
    assert told == json.loads(json.dumps(asdict(editor.model.contract)))


def test_events_follow_an_edit_to_its_end(editor: ImageEditor) -> None:
    gated = Gated(editor)
    with served(gated) as client:
        url = client.post("/v1/edits", json={**FILL, "steps": 3}).json()["url"]
        gated.let(3)
        answer = client.get(f"{url}/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event.split("\n") for event in answer.text.split("\n\n") if event]
        assert {head for head, _ in events} == {"event: status"}
        statuses = [json.loads(data.removeprefix("data: ")) for _, data in events]
        assert statuses[-1] == client.get(url).json() and statuses[-1]["state"] == "done"
        steps = [status["step"] for status in statuses]
        assert steps == sorted(steps) and steps[-1] == 3


def test_a_running_edit_is_cancelled_and_forgotten(editor: ImageEditor) -> None:
    gated = Gated(editor)
    with served(gated) as client:
        url = client.post("/v1/edits", json=FILL).json()["url"]
        second = client.post("/v1/edits", json=FILL).json()
        assert client.get(f"{url}/image").status_code == 409
        assert client.post(f"{url}/cancel").json()["state"] == "cancelled" == client.get(url).json()["state"]
        assert client.get(f"{url}/image").json() == {"detail": "the edit is cancelled and has no image"}
        assert client.get(f"{url}/recipe").status_code == 409
        gated.let(1 + 3)
        done(client, Response(202, json=second))
        assert gated.made <= 1 + 3
        for known in (url, second["url"]):
            assert client.delete(known).status_code == 204
            for gone in (client.get(known), client.delete(known), client.get(f"{known}/image")):
                assert gone.status_code == 404 and "no edit has this id" in gone.json()["detail"]
            assert client.get(f"{known}/events").status_code == 404


def test_a_full_queue_says_when_to_come_back(editor: ImageEditor) -> None:
    with served(Gated(editor), waiting=1) as client:
        running = client.post("/v1/edits", json=FILL).json()["url"]
        while client.get(running).json()["state"] == "queued":
            time.sleep(0.005)
        assert client.post("/v1/edits", json=FILL).json()["place"] == 1
        full = client.post("/v1/edits", json=FILL)
        assert full.status_code == 429 and full.headers["retry-after"] == "2"
        assert full.json() == {"detail": "1 edits wait already, which is all that may: try again later"}


def test_a_failed_edit_says_why_and_no_more(editor: ImageEditor) -> None:
    gated = Gated(editor)
    gated.fails = RuntimeError("/secret/place")
    with served(gated) as client:
        url = client.post("/v1/edits", json=FILL).json()["url"]
        while (status := client.get(url).json())["state"] in ("queued", "running"):
            time.sleep(0.005)
        assert (status["state"], status["message"]) == (
            "failed",
            "unexpected RuntimeError: the server's log says more",
        )
        assert client.get(f"{url}/image").status_code == 409


def test_with_a_token_every_request_must_bear_it(editor: ImageEditor) -> None:
    with served(editor, token="s3cret") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        paths = client.get("/openapi.json").json()["paths"]
        for path, methods in paths.items():
            for method, operation in methods.items():
                if path == "/healthz":
                    continue
                assert operation["security"] == [{"HTTPBearer": []}]
                for headers in ({}, *({"Authorization": f"{word}"} for word in ("s3cret", "Bearer s3cre", "Basic x"))):
                    refused = client.request(method, path.replace("{edit_id}", "x"), headers=headers)
                    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
                    assert refused.json() == {"detail": "send the server's token: Authorization: Bearer TOKEN"}
        client.headers["Authorization"] = "Bearer s3cret"
        done(client, client.post("/v1/edits", json=FILL, headers={"Origin": "https://elsewhere.org"}))
    assert is_token("é", "é") and not is_token("", "s3cret")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "127.0.0.2"}, 200),
        ({"Host": "evil.org"}, 403),
        ({"Host": "127.0.0.1.evil.org"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": LOCAL}, 200),
        ({"Origin": "https://evil.org"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_without_a_token_only_this_machine_is_answered(client: TestClient, headers: dict[str, str], code: int) -> None:
    answer = client.get("/healthz", headers=headers)
    assert answer.status_code == code
    assert code == 200 or "a server without a token answers" in answer.json()["detail"]


def test_too_many_bytes_are_refused_as_they_come(client: TestClient) -> None:
    large = data_url(b"x" * 2**20)
    said = client.post("/v1/edits", json={**FILL, "image": large})

    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 2**16] * 17

    streamed = client.post("/v1/edits", content=chunks(), headers={"Content-Type": "application/json"})
    lied = client.post("/v1/edits", content=b"x", headers={"Content-Length": "9" * 5000})
    for refused in (said, streamed, lied):
        assert refused.status_code == 413, refused.text
        assert refused.json() == {"detail": "a request may have 1,048,576 bytes at most: send less"}


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "send the body as application/json or as"),
        ({"content": b"x"}, 415, "send the body as application/json or as"),
        ({"data": FIELDS}, 415, "send the body as application/json or as"),
        ({"json": FILL, "headers": {"Content-Encoding": "gzip"}}, 415, "send the body without a Content-Encoding"),
        ({"json": {**FILL, "image": "/etc/passwd"}}, 422, "image: String should match pattern"),
        ({"json": {**FILL, "image": data_url(file_of(noise(101, 100)))}}, 422, "101x100 pixels, at most 10,000"),
        (
            {"json": {"image": FILL["image"], "task": "extend", "size": "101x100"}},
            422,
            "the extended image has 101x100",
        ),
        ({"json": {"image": FILL["image"], "task": "extend", "size": "9x9"}}, 422, "an extend only adds pixels"),
        ({"json": {**FILL, "image": data_url(file_of(noise(*SIZE), "GIF"))}}, 422, "it is no PNG, JPEG or WebP"),
        ({"json": {**FILL, "image": data_url(PHOTO[:-30])}}, 422, "cannot read the image"),
        ({"json": {**FILL, "image": "data:;base64,?"}}, 422, "the image is no base64"),
        ({"json": {**FILL, "mask": data_url(file_of(noise(9, 9)))}}, 422, "the mask is 9x9 and the image 20x12"),
        ({"data": FIELDS, "files": {"image": PHOTO}}, 422, "mask: Field required"),
        ({"data": {**FIELDS, "seed": "x"}, "files": FILES}, 422, "seed: Input should be a valid integer"),
        ({"data": {**FIELDS, "image": "x"}, "files": FILES}, 422, "the form has the field 'image' twice"),
        ({"data": {str(i): "x" for i in range(40)}, "files": FILES}, 422, "the form has over 32 fields"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            422,
            "the Content-Type of the form has no boundary",
        ),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
            422,
            "the form is damaged",
        ),
        ({"data": FIELDS, "files": {**FILES, "prompt": ("p", b"\xff")}}, 422, "the form has the field 'prompt' twice"),
        ({"data": {"task": "fill"}, "files": {**FILES, "prompt": ("p", b"\xff")}}, 422, "'prompt' is no UTF-8"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_a_sentence(
    client: TestClient, request_: dict[str, Any], code: int, words: str
) -> None:
    answer = client.post("/v1/edits", **request_)
    assert answer.status_code == code, answer.text
    assert list(answer.json()) == ["detail"] and words in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 500


def test_a_body_that_does_not_come_is_not_waited_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def keep(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/edits", "headers": headers, "query_string": b""}
    asyncio.run(client.app(scope, never, keep))  # type: ignore[arg-type, func-returns-value]
    assert sent[0]["status"] == 408


def test_every_answer_keeps_itself_out_of_caches_and_guesses(client: TestClient) -> None:
    for answer in (client.get("/healthz"), client.get("/nowhere"), client.get("/healthz", headers={"Host": "x.org"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_a_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    for method, path, allowed in (
        ("PUT", "/v1/edits/x", "DELETE, GET"),
        ("GET", "/v1/edits", "POST"),
        ("POST", "/healthz", "GET"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json() == {"detail": f"{method} is not for this path"}


def test_an_unexpected_error_tells_nothing(editor: ImageEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(editor) as client:
        monkeypatch.setattr(EditQueue, "status", lambda *_: 1 / 0)
        answer = client.get("/v1/edits/x")
    assert (answer.status_code, answer.json()) == (500, {"detail": "unexpected error: the server's log says more"})
