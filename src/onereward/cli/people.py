"""What the commands of annotation and study share: the database, where people reach it, who they are, examples."""

import argparse
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from onereward.people.database import Database
    from onereward.people.events import Verified
    from onereward.people.persons import Entry

_HOME = "http://127.0.0.1:8000"
_WAYS = {
    "add": ("Make a person and print their link, once.", '"Ann" --url https://{host}'),
    "list": ("Everybody with role, last visit and state.", ""),
    "link": ("Give a person a new link; the old one and all sessions end.", "ID --url https://{host}"),
    "withdraw": ("End a person's link and sessions, and give what they hold to others.", "ID"),
    "erase": ("Withdraw a person and forget their name; their answers stay, under an id that says nothing.", "ID"),
}


def example(*lines: str) -> str:
    """A help's last lines, as those of a verb are."""
    return "\n".join(["example:", *(f"  {line}" for line in lines)])


def place(text: str) -> str:
    """Where a database lies, from the command line; a slash at its end would name a folder."""
    if text.endswith("/"):
        raise argparse.ArgumentTypeError("got a slash at the end, as of a folder; expected a file, or a database's URL")
    return text


def web_address(text: str) -> str:
    """Where people reach a server, from the command line: links begin with it, so that it is no more than a host."""
    address = text.lower().removesuffix("/")
    if not re.fullmatch(r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?", address):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected http://HOST or https://HOST, with a :PORT if need be and nothing after it"
        )
    return address


def add_database(parser: argparse.ArgumentParser, *, images: bool = False) -> None:
    """Where votes lie, and the pictures that go with them."""
    parser.add_argument(
        "--database", required=True, type=place, metavar="FILE", help="SQLite file, or a postgresql:// URL"
    )
    if images:
        parser.add_argument(
            "--images", metavar="FOLDER", help="pictures as people see them (default: DATABASE.images beside the file)"
        )


def add_url(parser: argparse.ArgumentParser, host: str) -> None:
    """Where people reach the server of `serve`, which can only be guessed where none runs."""
    parser.add_argument(
        "--url",
        type=web_address,
        metavar="URL",
        help=f"where people reach the server, such as https://{host} (default: {_HOME})",
    )


def images_of(args: argparse.Namespace) -> Path:
    """The folder of pictures; ValueError if a server's has not been named."""
    if args.images is not None:
        return Path(args.images)
    if "://" in args.database:
        raise ValueError("got a database URL without --images, expected the folder of its pictures")
    return Path(f"{args.database}.images")


def add_people(
    ways: "argparse._SubParsersAction[argparse.ArgumentParser]", verb: str, roles: tuple[str, ...], host: str, file: str
) -> None:
    """`VERB people add|list|link|withdraw|erase`; people reach it at `host` and its database is `file` in examples."""

    def command(way: str) -> str:
        words = _WAYS[way][1].format(host=host)
        return " ".join(filter(None, (f"onereward {verb} people {way}", words, f"--database {file}")))

    people = ways.add_parser(
        "people", description="Who may sign in, and by which link.", epilog=example(*map(command, _WAYS))
    )
    sub = people.add_subparsers(dest="people_way", required=True, metavar="|".join(_WAYS))
    for way, (description, _) in _WAYS.items():
        one = sub.add_parser(way, description=description, epilog=example(command(way)))
        add_database(one)
        if way == "add":
            one.add_argument("name", help="as the admin page shows it")
            one.add_argument("--role", choices=roles, default=roles[0], help="default: %(default)s")
        elif way != "list":
            one.add_argument("person", metavar="ID", help="as `people list` shows it")
        if way == "withdraw":
            one.add_argument("--drop", action="store_true", help="what they answered is not counted, and asked again")
        if way in ("add", "link"):
            add_url(one, host)


def run_people(args: argparse.Namespace, database: "Database", withdraw: "Callable[..., None]") -> None:
    """Do what `people` was asked to; `withdraw(person, drop=...)` also gives what they hold to others."""
    from onereward.people.persons import Persons, Role

    persons = Persons(database)
    if args.people_way == "list":
        _show_people(args, persons.all())
    elif args.people_way == "add":
        person, token = persons.make(args.name, Role(args.role))
        _show_link(args, persons.all(), person, token)
    elif args.people_way == "link":
        token = persons.new_link(args.person)
        _show_link(args, persons.all(), args.person, token)
    else:
        withdraw(args.person, drop=args.people_way == "withdraw" and args.drop)
        if args.people_way == "erase":
            persons.erase(args.person)
        _show_gone(args, persons.all(), args.person)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """The arguments of `verify`."""
    add_database(parser, images=True)
    parser.add_argument("--expect", metavar="HASH", help="a hash that was printed before, which must be in the log")


def run_verify(args: argparse.Namespace, audit: "Callable[..., Verified]") -> None:
    """Hold everything that is kept, pictures too, against the log of events."""
    from onereward.people.database import Database
    from onereward.people.pictures import Pictures

    with Database(args.database, create=False) as database, database.reading() as connection:
        found = audit(connection, expected=args.expect)
        Pictures(images_of(args)).check(connection)
    if args.json:
        print(json.dumps(vars(found)))
        return
    if found.expected is not None:
        print(f"the expected hash is that of event {found.expected} of {found.events}")
    print(f"{found.events} events, nothing altered; keep this hash to check again later: {found.head}")


def add_backup(parser: argparse.ArgumentParser) -> None:
    """The arguments of `backup`."""
    add_database(parser, images=True)
    parser.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="new folder to write to; to restore, pass the file in it as --database: its pictures lie beside it",
    )


def run_backup(args: argparse.Namespace, audit: "Callable[..., Verified]") -> None:
    """Copy, and hold the copy against its log of events."""
    from onereward.people.backup import back_up

    found = back_up(args.database, images_of(args), Path(args.output), audit)
    text = f"{args.output} has a copy with {found.events} events, the last {found.head}"
    told = {"output": args.output, "events": found.events, "head": found.head}
    print(json.dumps(told) if args.json else text)


def _show_people(args: argparse.Namespace, entries: "Sequence[Entry]") -> None:
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
        seen = "-" if entry.seen_at is None else f"{datetime.fromtimestamp(entry.seen_at, UTC):%Y-%m-%d}"
        gone = "withdrawn, not counted" if entry.dropped else "withdrawn"
        state = "active" if entry.withdrawn_at is None else gone
        table.add_row(entry.id, entry.name or "(erased)", entry.role, seen, state)
    Console().print(table)


def _show_link(args: argparse.Namespace, entries: "Sequence[Entry]", person: str, token: str) -> None:
    """Print a link that will not be shown again, and whose it is."""
    [name] = [entry.name for entry in entries if entry.id == person]
    told = {"name": name, "id": person, "link": link_of(args, f"enter#{token}")}
    if args.json:
        print(json.dumps(told))
        return
    print("\n".join(f"{key:4} {value}" for key, value in told.items()))
    show_guess(args)


def link_of(args: argparse.Namespace, path: str) -> str:
    """An address of the server: of the one that was named, else of one on this machine."""
    return f"{args.url or _HOME}/{path}"


def show_guess(args: argparse.Namespace) -> None:
    """Say below a link where its server was guessed to be."""
    if args.url is None:
        print(f"(for a server at {_HOME}; pass --url if it is elsewhere)")


def _show_gone(args: argparse.Namespace, entries: "Sequence[Entry]", person: str) -> None:
    """Print what became of somebody who was withdrawn or erased, and of their answers."""
    [entry] = [entry for entry in entries if entry.id == person]
    if args.json:
        print(json.dumps({"id": person, "erased": entry.name is None, "counted": not entry.dropped}))
        return
    name = ", the name is forgotten" if entry.name is None else ""
    answers = "are not counted any more" if entry.dropped else "are kept and counted"
    print(f"{person} takes part no longer: link and sessions have ended{name}; answers given before {answers}")
