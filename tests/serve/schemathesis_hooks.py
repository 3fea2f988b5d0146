"""Pictures for schemathesis, which knows no image format (SCHEMATHESIS_HOOKS names this file)."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from onereward.edit.jobs import data_url


def _white(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, file_format)
    return file.getvalue()


_FILES = [_white(file_format) for file_format in ("PNG", "JPEG", "WEBP")]

schemathesis.openapi.format("data-url", st.sampled_from([data_url(file) for file in _FILES]))
schemathesis.openapi.format("binary", st.sampled_from(_FILES))
