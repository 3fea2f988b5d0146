"""`onereward study`: people rate outputs and compare systems without knowing whose they are; then the tables."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli import study_new, study_plan
from onereward.cli.people import add_database, add_people, images_of, show_link, show_people
from onereward.cli.serve import missing_extra

if TYPE_CHECKING:
    from onereward.people.database import Database

HELP = "ask people about systems' outputs, blind: ratings, good-same-bad, tables with intervals"
EXAMPLE = """
onereward study new --input triplets --system ours=candidates --system base=other --main ours \\
    --compare ours base --database study.sqlite
onereward study open --database study.sqlite --url https://study.example.org
onereward study serve --database study.sqlite
onereward study status --database study.sqlite
onereward study close --database study.sqlite
onereward study analyse --database study.sqlite --output tables
onereward study plan --half-width 0.2 --variances 0.2 0.3 0.6 --items 100
"""

_ROLES = ("participant", "admin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-verb a thing to do with a study."""
    names = "new|rules|people|open|serve|status|close|analyse|plan|verify|backup"
    ways = parser.add_subparsers(dest="way", required=True, metavar=names)
    study_new.add_arguments(
        ways.add_parser("new", description="Set a study up and freeze it: pictures, blocks, plan of analysis.")
    )
    rules = ways.add_parser("rules", description="Show the exclusion rules; change them before the first answer.")
    add_database(rules)
    rules.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="another value of a rule")
    add_people(ways, _ROLES)
    opened = ways.add_parser("open", description="Make one link by which anybody can take part; an earlier one ends.")
    add_database(opened)
    opened.add_argument("--url", default="http://127.0.0.1:8000", help="where people reach the server")
    _add_serve(ways.add_parser("serve", description="Answer participants' browsers."))
    for way, description in {
        "status": "How far the study is, in counts; nothing of what was answered.",
        "verify": "Check that nothing in the log of events, the answers or the frozen plan was altered.",
        "close": "Take no more answers, for good: only then are there results.",
        "analyse": "Write the tables and figures of a closed study, by the plan that was frozen.",
        "backup": "Copy a database in use, with its pictures.",
    }.items():
        sub = ways.add_parser(way, description=description)
        add_database(sub, images=way == "backup")
        if way == "verify":
            sub.add_argument(
                "--expect", metavar="HASH", help="a hash that was printed before, which must be in the log"
            )
        if way == "close":
            sub.add_argument("--anyway", action="store_true", help="although pages are not answered")
        if way in ("analyse", "backup"):
            sub.add_argument("--output", required=True, metavar="FOLDER", help="folder to write to")
    study_plan.add_arguments(
        ways.add_parser("plan", description="How many ratings an interval of a wanted width needs.")
    )


def run(args: argparse.Namespace) -> None:
    """Do the one thing."""
    ways: dict[str, Callable[[argparse.Namespace], None]] = {
        "new": study_new.run,
        "rules": _rules,
        "people": _people,
        "open": _open,
        "serve": _serve,
        "status": _status,
        "close": _close,
        "analyse": _analyse,
        "plan": study_plan.run,
        "verify": _verify,
        "backup": _backup,
    }
    ways[args.way](args)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add_database(parser, images=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--url", metavar="URL", help="where people reach it, such as https://study.example.org behind a proxy"
    )


def _serve(args: argparse.Namespace) -> None:
    """Answer until interrupted."""
    try:
        from onereward.study.app import create_app
        from onereward.web.server import bound, serve, url_of
    except ModuleNotFoundError as error:
        raise missing_extra(error, "web") from error
    from onereward.people.pictures import Pictures

    with _database(args) as database, bound(args.host, args.port) as listener:
        pictures = Pictures(images_of(args))
        with database.reading() as connection:
            pictures.require(connection)
        app = create_app(database, pictures, url=args.url)
        listener.listen()
        url = args.url or url_of(listener)
        print(json.dumps({"url": url}) if args.json else f"listening on {url}", flush=True)
        serve(app, listener)


def _people(args: argparse.Namespace) -> None:
    from onereward.people.persons import Persons, Role
    from onereward.study.collecting import Collecting

    with _database(args) as database:
        persons = Persons(database)
        if args.people_way == "list":
            show_people(args, persons.all())
        elif args.people_way == "add":
            show_link(args, *persons.make(args.name, Role(args.role)))
        elif args.people_way == "link":
            show_link(args, args.person, persons.new_link(args.person))
        elif args.people_way == "withdraw":
            Collecting(database).withdraw(args.person, drop=args.drop)
        else:
            Collecting(database).erase(args.person)


def _open(args: argparse.Namespace) -> None:
    import secrets
    import time

    from onereward.study.project import open_to_all

    token = secrets.token_urlsafe(24)
    with _database(args) as database:
        open_to_all(database, token, time.time)
    link = f"{args.url.rstrip('/')}/join#{token}"
    print(json.dumps({"link": link}) if args.json else link)


def _rules(args: argparse.Namespace) -> None:
    import time
    from dataclasses import asdict

    from onereward.recipes.settings import with_settings
    from onereward.study.project import change_rules, study_of

    with _database(args) as database:
        with database.reading() as connection:
            rules = study_of(connection).plan.rules
        if args.set:
            rules = with_settings(rules, args.set)
            change_rules(database, rules, time.time)
    found = asdict(rules)
    print(json.dumps(found) if args.json else "\n".join(f"{name} {value}" for name, value in found.items()))


def _status(args: argparse.Namespace) -> None:
    from onereward.study.closing import status_of

    with _database(args) as database:
        status = status_of(database)
    if args.json:
        print(json.dumps(vars(status)))
        return
    print(
        f"{'closed' if status.closed else 'open'}: {status.answers} of {status.wanted} pages answered\n"
        f"{status.finished} of {status.blocks} blocks finished, {status.claimed} taken\n"
        f"{status.participants} participants, {status.consented} agreed to take part, {status.withdrawn} have left"
    )


def _close(args: argparse.Namespace) -> None:
    import time

    from onereward.study.closing import close

    with _database(args) as database:
        close(database, time.time, anyway=args.anyway)
    print(json.dumps({"closed": True}) if args.json else "the study is closed: `onereward study analyse` has results")


def _analyse(args: argparse.Namespace) -> None:
    from onereward.study.closing import results_of
    from onereward.study.tables import write_study

    with _database(args) as database:
        analysis = results_of(database)
    page = write_study(analysis, Path(args.output))
    if args.json:
        print(json.dumps({"output": args.output, "left_out": len(analysis.left_out)}))
    else:
        print(f"{analysis.results.participants} participants, {len(analysis.left_out)} left out: {page}")


def _verify(args: argparse.Namespace) -> None:
    from onereward.study.closing import audit

    with _database(args) as database, database.reading() as connection:
        found = audit(connection, expected=args.expect)
    text = f"{found.events} events, nothing altered; keep this hash to check again later: {found.head}"
    print(json.dumps(vars(found)) if args.json else text)


def _backup(args: argparse.Namespace) -> None:
    from onereward.people.backup import back_up

    found = back_up(args.database, images_of(args), Path(args.output))
    text = f"{args.output} has a copy with {found.events} events, the last {found.head}"
    print(json.dumps({"output": args.output, **vars(found)}) if args.json else text)


def _database(args: argparse.Namespace) -> "Database":
    from onereward.people.database import Database

    return Database(args.database, create=False)
