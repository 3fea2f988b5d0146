"""What the commands of annotation and study share: the database, its people, checks and copies."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onereward.people.persons import Entry

WAYS = ("add", "list", "link", "withdraw", "erase")


def add_database(parser: argparse.ArgumentParser, *, images: bool = False) -> None:
    """Where votes lie, and the pictures that go with them."""
    parser.add_argument("--database", required=True, metavar="FILE", help="SQLite file, or a postgresql:// URL")
    if images:
        parser.add_argument(
            "--images", metavar="FOLDER", help="pictures as people see them (default: DATABASE.images beside the file)"
        )


def images_of(args: argparse.Namespace) -> Path:
    """The folder of pictures; ValueError if a server's has not been named."""
    if args.images is not None:
        return Path(args.images)
    if "://" in args.database:
        raise ValueError("got a database URL without --images, expected the folder of its pictures")
    return Path(f"{args.database}.images")


def add_people(ways: "argparse._SubParsersAction[argparse.ArgumentParser]", roles: tuple[str, ...]) -> None:
    """`people add|list|link|withdraw|erase`."""
    people = ways.add_parser("people", description="Who may sign in, and by which link.")
    sub = people.add_subparsers(dest="people_way", required=True, metavar="|".join(WAYS))
    described = {
        "add": "Make a person and print their link, once.",
        "list": "Everybody with role, last visit and state.",
        "link": "Give a person a new link; the old one and all sessions end.",
        "withdraw": "End a person's link and sessions, and give what they hold to others.",
        "erase": "Withdraw a person and forget their name; their answers stay, under an id that says nothing.",
    }
    for way, description in described.items():
        one = sub.add_parser(way, description=description)
        add_database(one)
        if way == "add":
            one.add_argument("name", help="as the admin page shows it")
            one.add_argument("--role", choices=roles, default=roles[0], help="default: %(default)s")
        elif way != "list":
            one.add_argument("person", metavar="ID", help="as `people list` shows it")
        if way == "withdraw":
            one.add_argument("--drop", action="store_true", help="what they answered is not counted, and asked again")
        if way in ("add", "link"):
            one.add_argument("--url", default="http://127.0.0.1:8000", help="where people reach the server")


def show_people(args: argparse.Namespace, entries: "list[Entry]") -> None:
    """Print them as a table or as JSON."""
    if args.json:
        print(json.dumps([vars(entry) for entry in entries]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=22)  # whole, since it is what other commands take
    for heading in ("name", "role", "last seen", "state"):
        table.add_column(heading)
    for entry in entries:
        seen = "-" if entry.seen_at is None else f"{datetime.fromtimestamp(entry.seen_at, UTC):%Y-%m-%d %H:%M} UTC"
        gone = "withdrawn, not counted" if entry.dropped else "withdrawn"
        state = "active" if entry.withdrawn_at is None else gone
        table.add_row(entry.id, entry.name or "(erased)", entry.role, seen, state)
    Console().print(table)


def show_link(args: argparse.Namespace, person: str, token: str) -> None:
    """Print a link that will not be shown again."""
    link = f"{args.url.rstrip('/')}/enter#{token}"
    print(json.dumps({"id": person, "link": link}) if args.json else f"{person}\n{link}")
