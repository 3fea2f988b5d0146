"""A multipart form in memory: what a client sends as files never touches the disk."""

from collections.abc import Collection
from math import inf

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from onereward.edit.jobs import data_url

_MOST_FIELDS = 32


def media_type(content_type: str | None) -> tuple[str, bytes]:
    """The type that a Content-Type header names, in lower case, and the boundary of a form (empty if there is none)."""
    kind, options = parse_options_header(content_type)
    return kind.decode("latin-1"), options.get(b"boundary", b"")


def form_fields(
    body: bytes, boundary: bytes, *, pictures: Collection[str], lists: Collection[str] = ()
) -> dict[str, str | list[str]]:
    """The fields of a form as text, its `pictures` as data: URLs, those that may come several times as `lists`.

    Raises ValueError for a damaged form.
    """
    if not boundary:
        raise ValueError("the Content-Type of the form has no boundary: let the HTTP library write that header")
    fields: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    parts = 0

    def keep(part: Field | File) -> None:
        nonlocal parts
        parts += 1
        if parts > _MOST_FIELDS:
            raise ValueError(f"the form has over {_MOST_FIELDS} fields: send those that are asked for")
        name = _text(part.field_name or b"", "a field's name")
        if name in fields:
            raise ValueError(f"the form has the field {name[:50]!r} twice: send it once")
        file = (part.value or b"") if isinstance(part, Field) else _content(part)
        value = data_url(file) if name in pictures else _text(file, f"the field {name[:50]!r}")
        if name in lists:
            several.setdefault(name, []).append(value)
        else:
            fields[name] = value

    try:
        # Without this python-multipart writes large files to disk.
        config = {"MAX_MEMORY_FILE_SIZE": inf}
        parser = FormParser("multipart/form-data", keep, keep, boundary=boundary, config=config)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ValueError(f"the form is damaged: {error}") from error
    return {**fields, **several}


def _content(file: File) -> bytes:
    file.file_object.seek(0)
    return file.file_object.read()


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8") from None
