"""Pages: templates that escape, static files that stay what they are under their address, and strict headers."""

import hashlib
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from fastapi import FastAPI, Request
from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from onereward.web.shell import Refusal, as_json

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Of every answer of an app with pages."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


class Pages:
    """The pages of one app: `folder` has `templates/*.html` and `static/`, all read once, when the app starts.

    Templates name a static file by `static("work.js")`: a path with the content's hash in it, the same hash for all, so
    that modules and style sheets find their neighbours by relative names.
    """

    def __init__(self, folder: Traversable) -> None:
        templates = _content(files("onereward.web") / "templates") | _content(folder / "templates")
        self._static = _content(folder / "static")
        if unknown := [name for name in self._static if PurePosixPath(name).suffix not in _TYPES]:
            raise ValueError(f"got the static file {unknown[0]}, expected one of {', '.join(_TYPES)}")
        digest = hashlib.sha256()
        for name, content in sorted(self._static.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self._version = digest.hexdigest()[:16]
        self._environment = Environment(
            loader=DictLoader({name: content.decode() for name, content in templates.items()}),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["static"] = self.static

    def mount(self, app: FastAPI) -> None:
        """Serve the static files; no address leads to another, which a Host header would be part of."""
        app.router.redirect_slashes = False
        app.get("/static/{version}/{name:path}", include_in_schema=False)(self._read_static)

    def static(self, name: str) -> str:
        """The path of a static file; raises ValueError for one that is not there."""
        if name not in self._static:
            raise ValueError(f"no static file {name!r}, there are {', '.join(sorted(self._static))}")
        return f"/static/{self._version}/{name}"

    def render(self, template: str, code: int = 200, **context: object) -> HTMLResponse:
        """The page that a template makes; every variable that it names must be in the context."""
        return HTMLResponse(self._environment.get_template(template).render(context), code)

    def show(self, request: Request, refused: Refusal) -> Response:
        """A refusal as a plain page, as JSON under /api/."""
        if request.url.path.startswith("/api/"):
            return as_json(request, refused)
        title = HTTPStatus(refused.code).phrase
        answer = self.render("error.html", refused.code, title=title, detail=refused.detail)
        answer.headers.update(refused.headers or {})
        return answer

    async def _read_static(self, version: str, name: str) -> Response:
        if version != self._version or name not in self._static:
            raise HTTPException(404, "there is no such file, or no longer: load the page again")
        kind = _TYPES[PurePosixPath(name).suffix]
        return Response(self._static[name], media_type=kind, headers={"Cache-Control": _FOREVER})


def _content(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """All files under a folder, by their path in it."""
    found: dict[str, bytes] = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        name = prefix + entry.name
        found |= _content(entry, f"{name}/") if entry.is_dir() else {name: entry.read_bytes()}
    return found
