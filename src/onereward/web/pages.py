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

from onereward.web.sessions import Visitor, csrf_of, session_of
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
_TITLES = {401: "You are not signed in", 403: "This page is not for you"}
_FOREVER = "public, max-age=31536000, immutable"


class Pages:
    """The pages of one app, called `title`: `folder` has `templates/*.html` and `static/`, read once, at the start.

    What all apps share lies beside this module and is served together with it: ValueError where both have a name.
    Templates name a static file by `static("work.js")`: a path with the content's hash in it, the same hash for all, so
    that modules and style sheets find their neighbours by relative names.
    """

    def __init__(self, folder: Traversable, *, title: str) -> None:
        templates = _with_shared("templates", folder)
        self._static = _with_shared("static", folder)
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
        self._environment.globals |= {"static": self.static, "site": title}

    def mount(self, app: FastAPI) -> None:
        """Be the app's pages; no address leads to another, which a Host header would be part of."""
        app.state.pages = self
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

    def page(self, template: str, request: Request, who: Visitor | None = None, **context: object) -> HTMLResponse:
        """A page, with what its script needs to know of who reads it: their id, and what proves that we sent it."""
        session = session_of(request)
        person, csrf = ("", "") if who is None or session is None else (who.id, csrf_of(session))
        return self.render(template, 200, person=person, csrf=csrf, **context)

    def show(self, request: Request, refused: Refusal) -> Response:
        """A refusal as a plain page, as JSON under /api/."""
        if request.url.path.startswith("/api/"):
            return as_json(request, refused)
        phrase = HTTPStatus(refused.code).phrase
        detail = "there is no such page" if refused.detail == phrase == "Not Found" else refused.detail
        title = _TITLES.get(refused.code, phrase)
        answer = self.render("error.html", refused.code, title=title, detail=detail)
        answer.headers.update(refused.headers or {})
        return answer

    async def _read_static(self, version: str, name: str) -> Response:
        if version != self._version or name not in self._static:
            raise HTTPException(404, "there is no such file, or no longer: load the page again")
        kind = _TYPES[PurePosixPath(name).suffix]
        return Response(self._static[name], media_type=kind, headers={"Cache-Control": _FOREVER})


def pages_of(request: Request) -> Pages:
    """The pages of the request's app."""
    pages: Pages = request.app.state.pages
    return pages


def _with_shared(kind: str, folder: Traversable) -> dict[str, bytes]:
    """An app's files of a kind and those of all apps."""
    own, shared = _content(folder / kind), _content(files("onereward.web") / kind)
    if twice := sorted(own.keys() & shared.keys()):
        raise ValueError(f"got {kind}/{twice[0]}, which all apps have from onereward/web: give it another name")
    return own | shared


def _content(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """All files under a folder, by their path in it."""
    found: dict[str, bytes] = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        name = prefix + entry.name
        found |= _content(entry, f"{name}/") if entry.is_dir() else {name: entry.read_bytes()}
    return found
