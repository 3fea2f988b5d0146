"""Bodies of requests: what an EditJob takes, strictly typed, and no picture on the server's disk."""

import json
from dataclasses import fields
from typing import Any

import pytest

from onereward.edit.jobs import EditJob, Recipe
from onereward.serve.app import EditRecipe
from onereward.serve.bodies import body_schemas, job_of_form, job_of_json
from onereward.terms import Task
from tests.serve.edits import FILL

EXTEND = {"image": FILL["image"], "task": "extend"}
MODELS = {name: one for name, one in body_schemas()[0]["$defs"].items() if "properties" in one}


def test_bodies_have_the_fields_of_a_job_and_the_recipe_those_of_a_recipe() -> None:
    names = {name for model in MODELS.values() for name in model["properties"]}
    assert names == {field.name for field in fields(EditJob)}
    assert set(EditRecipe.model_fields) == {field.name for field in fields(Recipe)}
    assert {model["additionalProperties"] for model in MODELS.values()} == {False}


def test_defaults_are_those_of_a_job() -> None:
    of_job = {field.name: field.default for field in fields(EditJob)}
    for model in MODELS.values():
        for name, field in model["properties"].items():
            assert field.get("default", of_job[name]) == of_job[name]


@pytest.mark.parametrize("base", [FILL, {**FILL, "task": "remove"}, {**EXTEND, "left": 3}, {**EXTEND, "ratio": "2:1"}])
def test_bounds_are_those_of_a_job(base: dict[str, Any]) -> None:
    model = next(
        one
        for name, one in MODELS.items()
        if not name.endswith("Form")
        and base["task"] in (one["properties"]["task"].get("enum") or [one["properties"]["task"].get("const")])
        and set(base) <= set(one["properties"])
    )
    bounded = {name: one for name, one in model["properties"].items() if "maximum" in one}
    assert {"seed", "steps", "guidance", "true_cfg", "feather"} <= set(bounded)
    for name, field in bounded.items():
        for value in (field["minimum"], field["maximum"]):
            assert getattr(job_of_json(json.dumps({**base, name: value}).encode()), name) == value
        beyond = [field["maximum"] + 1] + ([] if field["minimum"] == 1 and name in base else [field["minimum"] - 1])
        for value in beyond:
            with pytest.raises(ValueError, match=name):
                job_of_json(json.dumps({**base, name: value}).encode())
            if name in ("left", "right", "top", "bottom") and value == 0:
                continue  # a job of the command line may say 0 for none
            with pytest.raises(ValueError, match=name):
                EditJob.of({**base, name: value})


def test_a_body_is_the_job_that_it_says() -> None:
    settings = {"seed": 7.0, "steps": 2, "guidance": 3, "negative_prompt": "", "fit": "pad", "feather": 1}
    assert job_of_json(json.dumps({**FILL, **settings}).encode()) == EditJob.of({**FILL, **settings})
    fields_ = {"seed": "7", "steps": "2", "guidance": "3.0", "negative_prompt": "", "fit": "pad", "feather": "1"}
    assert job_of_form({**FILL, **fields_}) == EditJob.of({**FILL, **settings})
    assert job_of_form({**EXTEND, "size": "30x20"}).size == "30x20"
    assert job_of_form({**FILL, "task": "extend"}).task is Task.EXTEND


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": None}, "expected an object with a task, which is one of fill, extend, remove, text"),
        ({"task": "paint"}, "expected an object with a task"),
        ({"task": []}, "expected an object with a task"),
        ({"seed": "7"}, "seed: Input should be a valid integer"),
        ({"seed": True}, "seed: Input should be a valid integer"),
        ({"seed": 1.5}, "seed: Input should be a valid integer"),
        ({"seed": None}, "seed: Input should be a valid integer"),
        ({"guidance": float("nan")}, "guidance: Input should be a finite number"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"left": 3}, "left: Extra inputs are not permitted"),
        ({"prompt": ""}, "prompt: String should have at least 1 character"),
        ({"prompt": "x" * 10_001}, "prompt: String should have at most 10000 characters"),
        ({"image": "/etc/passwd"}, "image: String should match pattern '^data:"),
        ({"image": "file:///etc/passwd"}, "image: String should match pattern '^data:"),
        ({"mask": "../mask.png"}, "mask: String should match pattern '^data:"),
        ({"mask": {"path": "mask.png"}}, "mask: Input should be a valid string"),
        ({"prompt": "\ud800"}, "Invalid JSON"),
    ],
)
def test_a_wrong_body_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        job_of_json(json.dumps({**FILL, **change}).encode())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"[" * 100_000, b'"\xff"', b'{"seed":' + b"9" * 9999 + b"}"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Invalid JSON|expected an object"):
        job_of_json(body)


@pytest.mark.parametrize("how", [{}, {"left": 0}, {"ratio": "16x9"}, {"size": "0x9"}, {"ratio": "2:1", "size": "9x9"}])
def test_an_extend_says_how_far_in_one_way(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        job_of_json(json.dumps({**EXTEND, **how}).encode())
