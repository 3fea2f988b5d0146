"""`onereward plan` on the toy recipe: what it prints, and what it refuses."""

import json
import re
from typing import Any

import pytest

from onereward.cli.main import main

GIB = 2**30


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    capture = pytest.MonkeyPatch()
    printed: list[str] = []
    capture.setattr("builtins.print", lambda text, **_: printed.append(text))
    try:
        assert main(["plan", "toy", "--gpu", "24GB", "--set", "batch=24", "--set", "micro_batch=2", "--json"]) == 0
    finally:
        capture.undo()
    values: dict[str, Any] = json.loads(printed[0])
    return values


def test_json_holds_every_figure(found: dict[str, Any]) -> None:
    assert found["fits"] and found["advice"] is None
    assert found["card"]["name"] == "RTX 4090" and "is taken for an RTX 4090" in found["notes"][0]
    assert found["side"] == 64
    assert found["peak"] == sum(round(line["count"] * line["bytes_each"]) for line in found["lines"])
    phases = {phase["name"]: phase for phase in found["phases"]}
    assert phases["reference rollout"]["parts"][0]["times"] == 4 * 12
    assert found["seconds"] == pytest.approx(sum(phase["seconds"] for phase in phases.values()))
    assert found["shares"]["source"]


def test_text_shows_the_arithmetic_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "toy", "--gpu", "cpu", "--set", "micro_batch=2", "--set", "lora_rank=4", "-q"]) == 0
    text = capsys.readouterr().out
    assert "frozen base" in text and "5,238,688 x 4 bytes" in text and "19.98 MiB" in text
    assert "fits, " in text and "live tensors" in text and "reserve: " in text
    assert re.search(r"reference rollout +24 x [\d.]+ \+ 6 x [\d.]+ = [\d.]+", text)  # four steps of six parts
    assert "note: no speed is assumed of a CPU" in text


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    smallest = ["lora_rank=1", "checkpointing=true", "micro_batch=1"]
    words = [word for setting in smallest for word in ("--set", setting)]
    assert main(["plan", "toy", "--gpu", "2.1GB", "-q", *words]) == 0  # the reserve alone is more
    text = capsys.readouterr().out
    assert "DOES NOT FIT" in text
    tried = "with --set cache_conditions=true --offload-idle live tensors still take"
    assert f"No setting that was tried makes it fit: {tried}" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan", "toy"], "--gpu"),
        (["plan", "toy", "--gpu", "big"], "expected a memory such as 80GB"),
        (["plan", "toy", "--gpu", "80GB", "--world", "0"], "--world 0"),
        (["plan", "toy", "--gpu", "80GB", "--editor", "a/b"], "sizes of the editor 'a/b' are not known"),
        (["plan", "toy", "--gpu", "80GB", "--set", "jump_range=[0.01,0.02]"], "widen the range"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
