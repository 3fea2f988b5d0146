"""`onereward annotate serve`: the annotation app for people's browsers."""

import argparse
import json
from typing import TYPE_CHECKING

from onereward.cli.people import add_database, images_of, web_address
from onereward.cli.serve import missing_extra

if TYPE_CHECKING:
    from onereward.people.database import Database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Database, pictures, address."""
    add_database(parser, images=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--url",
        type=web_address,
        metavar="URL",
        help="where people reach it, such as https://votes.example.org behind a proxy",
    )


def run(args: argparse.Namespace) -> None:
    """Answer until interrupted."""
    try:
        from onereward.annotate.app import create_app
        from onereward.web.server import bound, serve, url_of
    except ModuleNotFoundError as error:
        raise missing_extra(error, "web") from error
    from onereward.annotate.project import project_of
    from onereward.people.database import Database
    from onereward.people.pictures import Pictures

    with Database(args.database, create=False) as database:
        pictures = Pictures(images_of(args))
        with database.reading() as connection:
            project_of(connection)
            pictures.require(connection)
        with bound(args.host, args.port) as listener:
            url = args.url or url_of(listener)
            app = create_app(database, pictures, url=args.url)
            listener.listen()
            link = _first_admin(database, url)
            _say(args, url, link)
            serve(app, listener)


def _first_admin(database: "Database", url: str) -> str | None:
    """The link of an admin, where there is none yet."""
    from onereward.people.persons import Persons, Role

    persons = Persons(database)
    if any(entry.role is Role.ADMIN for entry in persons.all()):
        return None
    _, token = persons.make("admin", Role.ADMIN)
    return f"{url.rstrip('/')}/enter#{token}"


def _say(args: argparse.Namespace, url: str, admin: str | None) -> None:
    if args.json:
        print(json.dumps({"url": url, "admin": admin}), flush=True)
        return
    print(f"listening on {url}", flush=True)
    if admin is not None:
        print(f"the admin's page, by a link that is shown this once: {admin}", flush=True)
