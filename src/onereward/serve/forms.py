"""A multipart form in memory: what a client sends as files never touches the disk."""

from math import inf

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from onereward.edit.jobs import data_url

_MOST_FIELDS = 32
_PICTURES = ("image", "mask")


def media_type(content_type: str | None) -> tuple[str, bytes]:
    """The type that a Content-Type header names, in lower case, and the boundary of a form (empty if there is none)."""
    kind, options = parse_options_header(content_type)
    return kind.decode("latin-1"), options.get(b"boundary", b"")


def form_fields(body: bytes, boundary: bytes) -> dict[str, str]:
    """The fields of a form as text, its pictures as data: URLs; raises ValueError for a damaged form."""
    if not boundary:
        raise ValueError("the Content-Type of the form has no boundary: let the HTTP library write that header")
    fields: dict[str, str] = {}

    def keep(part: Field | File) -> None:
        if len(fields) >= _MOST_FIELDS:
            raise ValueError(f"the form has over {_MOST_FIELDS} fields: an edit has fewer")
        name = _text(part.field_name or b"", "a field's name")
        if name in fields:
            raise ValueError(f"the form has the field {name[:50]!r} twice: send it once")
        value = (part.value or b"") if isinstance(part, Field) else _content(part)
        fields[name] = data_url(value) if name in _PICTURES else _text(value, f"the field {name[:50]!r}")

    try:
        # Without this python-multipart writes large files to disk.
        config = {"MAX_MEMORY_FILE_SIZE": inf}
        parser = FormParser("multipart/form-data", keep, keep, boundary=boundary, config=config)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ValueError(f"the form is damaged: {error}") from error
    return fields


def _content(file: File) -> bytes:
    file.file_object.seek(0)
    return file.file_object.read()


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8") from None
