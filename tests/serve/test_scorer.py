"""The HTTP API of the judge: what it answers, in which words it refuses, and that a failed score is never a number."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from onereward.edit.jobs import data_url
from onereward.edit.judge import ImageJudge, load_judge
from onereward.models.judge_contract import JudgeContract
from onereward.serve.limits import Taken
from onereward.serve.scorer import create_scorer
from onereward.serve.scorer_bodies import question_of_json, question_schemas
from onereward.serve.scoring import Asking, ScoreQueue
from onereward.terms import DIMENSIONS, Dimension, Task, dimensions_of
from tests.pictures import noise
from tests.serve.edits import file_of
from tests.serve.malformed import malformed
from tests.serve.running import Running, running
from tests.serve.scores import FIELDS, FILES, FIRST, PAIR, SECOND, FailingModel, GatedJudge
from tests.tiny_judge import tiny_judge_folder

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge_folder(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder: Path) -> ImageJudge:
    return load_judge(str(folder))


@contextmanager
def served(judge: Any, token: str | None = None, asking: Asking | None = None, **limits: int) -> Iterator[TestClient]:
    with ScoreQueue(judge, limits=Taken(**limits), asking=asking) as queue:
        app = create_scorer(queue, "tiny", token=token)
        with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
            yield client
        if isinstance(judge, GatedJudge):
            judge.gate.release(1000)


@pytest.fixture(scope="module")
def client(judge: ImageJudge) -> Iterator[TestClient]:
    with served(judge, asking=Asking(deterministic=True), upload=2**20, pixels=10_000) as client:
        yield client


def expected(judge: ImageJudge, task: str, prompt: str, dimensions: Any = ()) -> dict[str, Any]:
    first, second = (Image.open(io.BytesIO(file)) for file in (FIRST, SECOND))
    scores = judge.scores(first, second, task, prompt, dimensions)
    return {dimension: asdict(score) for dimension, score in scores.items()}


def test_json_and_a_form_get_the_judge_s_own_numbers(client: TestClient, judge: ImageJudge) -> None:
    for dimensions in (["structure"], ["aesthetics", "text_alignment"]):
        as_json = client.post("/v1/scores", json={**PAIR, "dimension": dimensions})
        as_form = client.post("/v1/scores", data={**FIELDS, "dimension": dimensions}, files=FILES)
        assert as_json.status_code == as_form.status_code == 200
        scores = expected(judge, "fill", "a red star", dimensions)
        assert as_json.json() == as_form.json() == {"scores": scores, "judge": judge.fingerprint, "batch_size": 1}
        assert list(as_json.json()["scores"]) == dimensions


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("prompt", ["", "a red star"])
def test_no_dimension_stands_for_all_that_apply(client: TestClient, judge: ImageJudge, task: Task, prompt: str) -> None:
    body = {name: PAIR[name] for name in ("first", "second")} | {"task": task}
    for asked in (body | {"prompt": prompt}, body | {"prompt": prompt, "dimension": []}):
        assert client.post("/v1/scores", json=asked).json()["scores"] == expected(judge, task, prompt)
    assert list(client.post("/v1/scores", data={"task": task}, files=FILES).json()["scores"]) == [
        *dimensions_of(task, "")
    ]


def test_a_score_is_prob_better_and_one_minus_it_for_the_swapped_pair(client: TestClient, judge: ImageJudge) -> None:
    pictures = [noise(40, 32), noise(40, 32).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    first, second = (data_url(file_of(picture)) for picture in pictures)
    there, back = (
        client.post("/v1/scores", json={**PAIR, "first": one, "second": other}).json()["scores"]["structure"]
        for one, other in ((first, second), (second, first))
    )
    assert there["probability"] == judge.prob_better(*pictures, "fill", "structure", "a red star")
    assert there["probability"] + back["probability"] == pytest.approx(1, abs=1e-6)
    assert there["log_odds_forward"] == pytest.approx(back["log_odds_backward"], abs=1e-5)


def test_the_judge_says_who_it_is(client: TestClient, judge: ImageJudge) -> None:
    contract = json.loads(json.dumps(asdict(JudgeContract())))
    told = {"name": "tiny", "judge": judge.fingerprint, "contract": contract, "deterministic": True}
    assert client.get("/v1/judge").json() == told
    cooler = ImageJudge(judge.model.with_contract(temperatures={Dimension.STRUCTURE: 2.0}))
    with served(cooler) as other:
        answer, about = other.post("/v1/scores", json=PAIR).json(), other.get("/v1/judge").json()
    assert about["contract"]["temperatures"] == {"structure": 2.0} and about["deterministic"] is False
    assert answer["judge"] == about["judge"] != judge.fingerprint
    assert answer["scores"] == expected(cooler, "fill", "a red star", ["structure"])


def test_pairs_of_several_requests_share_a_batch(judge: ImageJudge) -> None:
    with served(judge, asking=Asking(batch=4, wait_ms=20_000)) as client, ThreadPoolExecutor(4) as senders:
        answers = [*senders.map(lambda _: client.post("/v1/scores", json=PAIR).json(), range(4))]
    assert [answer["batch_size"] for answer in answers] == [4] * 4
    for answer in answers:
        for name, value in expected(judge, "fill", "a red star", ["structure"])["structure"].items():
            assert answer["scores"]["structure"][name] == pytest.approx(value, abs=1e-4)


def test_a_failed_score_is_an_error_and_fails_no_neighbour(judge: ImageJudge) -> None:
    failing: Any = ImageJudge(FailingModel(judge.model, fails_on=50, no_number_of=60))  # type: ignore[arg-type]
    bodies = [PAIR, *({**PAIR, "first": data_url(file_of(noise(width, 32)))} for width in (50, 60))]
    with served(failing, asking=Asking(batch=3, wait_ms=20_000)) as client, ThreadPoolExecutor(3) as senders:
        good, failed, no_number = senders.map(lambda body: client.post("/v1/scores", json=body), bodies)
    assert good.json()["batch_size"] == 3
    assert (failed.status_code, failed.json()) == (
        500,
        {"detail": "unexpected RuntimeError: the server's log says more"},
    )
    assert no_number.status_code == 500 and list(no_number.json()) == ["detail"]
    assert no_number.json()["detail"].startswith("the judge's answer is no number (log_odds_backward is inf)")


def test_a_full_line_says_when_to_come_back(judge: ImageJudge) -> None:
    gated = GatedJudge(judge)
    with served(gated, waiting=1, asking=Asking(batch=1)) as client, ThreadPoolExecutor(2) as senders:
        running = senders.submit(client.post, "/v1/scores", json=PAIR)
        assert gated.entered.acquire(timeout=20)
        waiting = senders.submit(client.post, "/v1/scores", json=PAIR)
        queue: ScoreQueue = client.app.state.queue  # type: ignore[attr-defined]
        wait_until(lambda: len(queue._waiting) == 1)
        full = client.post("/v1/scores", json=PAIR)
        assert full.status_code == 429 and full.headers["retry-after"] == "2"
        assert full.json() == {"detail": "1 pairs wait already, which is all that may: try again later"}
        gated.gate.release(2)
        assert {running.result().status_code, waiting.result().status_code} == {200}


def test_after_the_end_nothing_is_taken(judge: ImageJudge) -> None:
    with served(judge) as client:
        client.app.state.queue.close()  # type: ignore[attr-defined]
        answer = client.post("/v1/scores", json=PAIR)
    assert (answer.status_code, answer.json()) == (503, {"detail": "the scorer ends: ask another one"})


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_client_that_goes_makes_room_for_the_next(judge: ImageJudge) -> None:
    gated = GatedJudge(judge)
    body = json.dumps(PAIR).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/scores", "headers": headers, "query_string": b""}

    async def goes() -> list[Any]:
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
        sent: list[Any] = []

        async def receive() -> Any:
            if len(messages) == 1:
                await asyncio.to_thread(wait_until, lambda: len(queue._waiting) == 1)
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await asyncio.wait_for(app(scope, receive, send), 20)
        return sent

    with served(gated, waiting=1, asking=Asking(batch=1)) as client, ThreadPoolExecutor(2) as senders:
        queue: ScoreQueue = client.app.state.queue  # type: ignore[attr-defined]
        running = senders.submit(client.post, "/v1/scores", json=PAIR)
        assert gated.entered.acquire(timeout=20)
        app: Any = create_scorer(queue, "tiny")
        sent = asyncio.run(goes())
        assert sent[0]["status"] == 400
        other = senders.submit(client.post, "/v1/scores", json=PAIR)
        wait_until(lambda: [one.answer.cancelled() for one in queue._waiting] == [False])
        gated.gate.release(2)
        assert other.result().status_code == running.result().status_code == 200
    assert gated.batches == [1, 1]


def test_with_a_token_every_request_must_bear_it(judge: ImageJudge) -> None:
    with served(judge, token="s3cret") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        for method, path in (("POST", "/v1/scores"), ("GET", "/v1/judge")):
            for headers in ({}, {"Authorization": "Bearer s3cre"}):
                refused = client.request(method, path, headers=headers)
                assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        client.headers["Authorization"] = "Bearer s3cret"
        answer = client.post("/v1/scores", json=PAIR, headers={"Origin": "https://elsewhere.org", "Host": "judge.org"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "send the body as application/json or as"),
        ({"json": PAIR, "headers": {"Content-Encoding": "gzip"}}, 415, "send the body without a Content-Encoding"),
        ({"json": PAIR, "headers": {"Host": "evil.org"}}, 403, "a server without a token answers to localhost alone"),
        ({"json": {**PAIR, "prompt": "x" * 2**20}}, 413, "a request may have 1,048,576 bytes"),
        ({"content": b"[" * 1000, "headers": {"Content-Type": "application/json"}}, 422, "Invalid JSON"),
        ({"json": []}, 422, "expected an object with a task, which is one of fill, extend, remove, text"),
        ({"json": {**PAIR, "task": "paint"}}, 422, "expected an object with a task"),
        ({"json": {**PAIR, "mask": PAIR["first"]}}, 422, "mask: Extra inputs are not permitted"),
        ({"json": {**PAIR, "first": "/etc/passwd"}}, 422, "first: String should match pattern"),
        ({"json": {**PAIR, "first": "data:;base64,?"}}, 422, "the first image is no base64"),
        ({"json": {**PAIR, "dimension": "structure"}}, 422, "dimension: Input should be a valid array"),
        ({"json": {**PAIR, "dimension": ["beauty"]}}, 422, "dimension: Input should be"),
        ({"json": {**PAIR, "dimension": ["removal_quality"]}}, 422, "dimension: Input should be"),
        ({"json": {**PAIR, "dimension": ["structure"] * 6}}, 422, "dimension: List should have at most 5 items"),
        ({"json": {**PAIR, "prompt": 3}}, 422, "prompt: Input should be a valid string"),
        (
            {"json": {**PAIR, "prompt": "", "dimension": ["text_alignment"]}},
            422,
            "dimension: text_alignment asks whether an image shows what the prompt says: send the prompt",
        ),
        ({"json": {**PAIR, "prompt": "x<|im_end|>"}}, 422, "the prompt has the judge's own sign <|im_end|>"),
        ({"json": {**PAIR, "second": data_url(file_of(noise(101, 100)))}}, 422, "has 101x100 pixels, at most 10,000"),
        ({"json": {**PAIR, "second": data_url(file_of(noise(1, 300)))}}, 422, "cannot show the judge the second image"),
        ({"json": {**PAIR, "second": data_url(file_of(noise(9, 9), "GIF"))}}, 422, "it is no PNG, JPEG or WebP"),
        ({"json": {**PAIR, "second": data_url(SECOND[:-30])}}, 422, "cannot read the second image"),
        ({"data": FIELDS, "files": {"first": FIRST}}, 422, "second: Field required"),
        ({"data": {**FIELDS, "dimension": ["structure", "x"]}, "files": FILES}, 422, "dimension: Input should be"),
        ({"data": {**FIELDS, "prompt": ["a", "b"]}, "files": FILES}, 422, "the form has the field 'prompt' twice"),
        ({"data": {**FIELDS, "dimension": ["structure"] * 40}, "files": FILES}, 422, "the form has over 32 fields"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_sentence(
    client: TestClient, request_: dict[str, Any], code: int, words: str
) -> None:
    answer = client.post("/v1/scores", **request_)
    assert answer.status_code == code, answer.text
    assert list(answer.json()) == ["detail"] and words in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 500


def test_bodies_allow_the_dimensions_of_each_task_and_no_others() -> None:
    for task in Task:
        for dimension in Dimension:
            body = json.dumps({**PAIR, "task": task, "dimension": [dimension]}).encode()
            if dimension in DIMENSIONS[task]:
                assert question_of_json(body).dimensions == (dimension,)
            else:
                with pytest.raises(ValueError, match="dimension: Input should be"):
                    question_of_json(body)
    assert {one["additionalProperties"] for one in question_schemas()[0]["$defs"].values() if "properties" in one} == {
        False
    }


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    options = ["--deterministic", "--max-upload", "4", "--max-pixels", "1000000"]
    with running(str(folder), log, *options, token="secret", verb=("score", "--serve", "--judge")) as server:
        yield server


@pytest.mark.parametrize("examples", [3, pytest.param(100, marks=pytest.mark.soak)])
def test_the_schema_and_the_server_agree(server: Running, tmp_path: Path, examples: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    options = ["--header", f"Authorization: Bearer {server.token}", "--checks", "all", "--seed", "1"]
    sizes = ["--max-examples", str(examples), "--request-timeout", "60", "--max-response-time", "60"]
    hooks = {"PYTHONPATH": os.pathsep.join(sys.path), "SCHEMATHESIS_HOOKS": "tests.serve.schemathesis_hooks"}
    done = subprocess.run(
        [*command, *options, *sizes], cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True
    )
    print(done.stdout[done.stdout.find("Test cases:") :])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "3 selected / 3 total" in done.stdout and re.search(r"(\d+) generated, \1 passed", done.stdout)
    assert "Traceback" not in server.log.read_text()


def test_many_clients_get_the_same_bits_and_those_that_go_do_no_harm(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({**PAIR, "prompt": "another question"})
    headers = {"Authorization": "Bearer secret", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = ["POST /v1/scores HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items()), "", body]

    def leaves(_: int) -> None:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall("\r\n".join(lines).encode())

    with server.client() as client, ThreadPoolExecutor(8) as senders:

        def asks(_: int) -> str:
            return client.post("/v1/scores", json=PAIR).text

        alone = asks(0)
        gone = [senders.submit(leaves, place) for place in range(40)]
        assert {*senders.map(asks, range(40))} == {alone}
        for one in gone:
            one.result()
        assert json.loads(alone)["scores"].keys() == {"structure"}
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_malformed_uploads_get_no_number(server: Running, count: int) -> None:
    """The uploads that the editor's server is sent too, their picture in the place of the first one."""
    with server.client() as client:
        for upload in malformed(count, count, 4 * 2**20):
            request = upload.request
            if "files" in request:
                of_edit = {"image", "mask", "task", "prompt"}
                extra = {name: value for name, value in request["data"].items() if name not in of_edit}
                files = {"first": request["files"]["image"], "second": SECOND}
                request = {"data": {**FIELDS, **extra}, "files": files}
            try:
                answer = client.post("/v1/scores", **request)
            except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                assert upload.kind == "too large"
                continue
            assert answer.status_code in (200, 413, 415, 422), (upload.kind, answer.text[:500])
            if answer.status_code == 200:
                assert 200 + 2 in upload.codes  # harmless by chance
                assert 0 < answer.json()["scores"]["structure"]["probability"] < 1
            else:
                assert list(answer.json()) == ["detail"]
        assert client.post("/v1/scores", json=PAIR).status_code == 200
    assert "Traceback" not in server.log.read_text()


def test_it_ends_in_order_while_clients_wait(folder: Path, tmp_path: Path) -> None:
    options = ["--batch", "64", "--wait", "60000"]
    with (
        running(str(folder), tmp_path / "log.txt", *options, verb=("score", "--serve", "--judge")) as server,
        server.client() as client,
        ThreadPoolExecutor(1) as sender,
    ):
        waiting = sender.submit(client.post, "/v1/scores", json=PAIR)
        time.sleep(1)
        assert not waiting.done()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
        answer = waiting.result()
    assert (answer.status_code, answer.json()) == (503, {"detail": "the scorer ends: ask another one"})
    said = (tmp_path / "log.txt").read_text()
    assert said.splitlines()[-1].startswith("onereward: interrupted") and "Traceback" not in said


def test_the_api_is_imported_without_torch() -> None:
    code = "import sys, onereward.serve.scorer, onereward.serve.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
