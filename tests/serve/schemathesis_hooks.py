"""What schemathesis cannot know (SCHEMATHESIS_HOOKS names this module): pictures, and edits that are quick."""

import io
import re
from typing import Any

import schemathesis
from PIL import Image
from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer

from onereward.edit.jobs import data_url


def _white(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, file_format)
    return file.getvalue()


_FILES = {f"<a white {file_format} file>": _white(file_format) for file_format in ("PNG", "JPEG", "WEBP")}

_MOST = {"steps": 1000, **dict.fromkeys(("left", "right", "top", "bottom"), 100_000)}


@schemathesis.hook
def before_load_schema(_context: Any, schema: dict[str, Any]) -> None:
    """Leave few pictures: not any data: URL, and in forms a name, since bytes fit no JSON schema.

    A format alone would not do: what breaks it counts as valid.
    """
    for model in schema["components"]["schemas"].values():
        for field in model.get("properties", {}).values():
            if field.get("format") == "data-url":
                field["enum"] = [data_url(file) for file in _FILES.values()]
            elif field.get("format") == "binary":
                field["enum"] = sorted(_FILES)


@REQUESTS_TRANSPORT.serializer("multipart/form-data")
def form(context: Any, body: Any) -> Any:
    """The form with the files in the place of their names."""
    if isinstance(body, dict):
        body = {name: _FILES.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    return multipart_serializer(context, body)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Put small values in the place of large ones that the schema allows, so that jobs are short.

    Whether a canvas is too large hangs on the picture, which a schema cannot say.
    """
    if isinstance(case.body, dict):
        case.body = {name: _small(name, value) for name, value in case.body.items()}


def _small(name: str, value: Any) -> Any:
    if name in _MOST and type(value) in (int, float) and 1 <= value <= _MOST[name] and value == int(value):
        return min(value, 9)
    for field, separator in {"ratio": ":", "size": "x"}.items():
        pair = f"[1-9][0-9]{{0,5}}{separator}[1-9][0-9]{{0,5}}"
        if name == field and isinstance(value, str) and re.fullmatch(pair, value):
            return f"16{separator}9"
    return value


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """No forms with something else than text in a field of words: on its way it becomes text, which is right there."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    words = (case.body.get(name, "") for name in ("prompt", "negative_prompt"))
    return all(isinstance(value, str | list | dict) for value in words)
