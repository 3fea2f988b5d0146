"""A small app of pages behind sessions, with the sessions in a dictionary."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import HTMLResponse

from onereward.web.entrance import add_entrance
from onereward.web.pages import HEADERS, Pages
from onereward.web.rates import Rates
from onereward.web.sessions import CSRF_HEADER, Gate, csrf_of, session_of, signed_in
from onereward.web.shell import new_app

HOME = "http://study.example:8000"
SESSIONS = {name: f"{letter * 31}1" for name, letter in (("ann", "a"), ("bob", "b"), ("root", "r"), ("eve", "e"))}
LINKS = {name: session[::-1] for name, session in SESSIONS.items()}
ROLES = {"root": "admin", "eve": "guest"}
FILES = {
    "templates/hello.html": "<title>{{ name }}</title><script src={{ static('app.js') }}></script>",
    "templates/broken.html": "{{ nowhere }}",
    "static/app.js": 'import "./parts/a.js";',
    "static/parts/a.js": "1;",
    "static/look.css": "p {}",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    id: str
    role: str


class Kept:
    """Sessions, and how often somebody looked."""

    def __init__(self) -> None:
        self.looks, self.ended = 0, list[str]()

    def of_session(self, session: str) -> Known | None:
        self.looks += 1
        names = [name for name, token in SESSIONS.items() if token == session]
        return Known(id=names[0], role=ROLES.get(names[0], "annotator")) if names else None

    def sign_in(self, token: str) -> tuple[Known, str] | None:
        found = self.of_session(token[::-1])
        return None if found is None else (found, token[::-1])

    def sign_out(self, session: str) -> None:
        self.ended.append(session)


def folder_of(path: Path, **changes: str) -> Path:
    for name, content in (FILES | changes).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


def small_app(folder: Path, *, per_second: float = 1, burst: int = 1000, url: str | None = None) -> FastAPI:
    """The way in; pages at /hello and /broken; a route for annotators and admins, one for admins alone."""
    router, pages = APIRouter(), Pages(folder, title="Small <app>")
    add_entrance(router, {"annotator": "/hello", "admin": "/admin"})

    @router.get("/hello")
    def hello(who: Annotated[Known, Depends(signed_in())]) -> HTMLResponse:
        return pages.render("hello.html", name=f"<{who.id}>")

    @router.get("/broken")
    def broken() -> HTMLResponse:
        return pages.render("broken.html")

    @router.api_route("/api/me", methods=["GET", "POST", "PUT", "DELETE"])
    def me(request: Request, who: Annotated[Known, Depends(signed_in("annotator", "admin"))]) -> list[str | None]:
        return [who.id, session_of(request)]

    @router.get("/admin")
    def admin(who: Annotated[Known, Depends(signed_in("admin"))]) -> str:
        return who.id

    app = new_app(router, description="", upload=2**10, local_only=False, headers=HEADERS, show=pages.show)
    pages.mount(app)
    app.state.gate = Gate(
        Kept(),
        seconds=60,
        url=url,
        visitors=Rates(per_second=per_second, burst=burst),
        strangers=Rates(per_second=per_second, burst=burst),
    )
    return app


def client_of(app: FastAPI, name: str | None = None, **headers: str) -> TestClient:
    """A browser at a page of the app, signed in under a name if one is given."""
    session = {} if name is None else {"Cookie": f"onereward={SESSIONS[name]}", CSRF_HEADER: csrf_of(SESSIONS[name])}
    return TestClient(app, base_url=HOME, headers={"Origin": HOME} | session | headers, raise_server_exceptions=False)
