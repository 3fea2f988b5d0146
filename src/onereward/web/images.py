"""Pictures by their ids: the route's answer, and what is said where a picture's file is gone."""

import logging
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from onereward.web.shell import problems

logger = logging.getLogger(__name__)

IMAGE_ROUTE: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}, **problems(404)},
}
"""What the schema says of a route that answers with a picture."""

_HEADERS = {"Cache-Control": "private, max-age=86400, immutable"}


class Images:
    """Answers with files of one folder; a missing one is an error of whoever runs the server, and logged once."""

    def __init__(self) -> None:
        self._missing: set[Path] = set()

    def answer(self, path: Path) -> Response:
        """The file; HTTPException 404 if it is not there."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if path not in self._missing:
                self._missing.add(path)
                logger.error("the picture %s is missing: bring it back, people cannot work on its item", path)
            raise HTTPException(404, "this picture is missing here: tell whoever runs this") from None
        return Response(content, media_type="image/png", headers=_HEADERS)
