"""`onereward study`: people rate outputs and compare systems without knowing whose they are; then the tables."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli import study_new, study_plan
from onereward.cli.people import (
    add_backup,
    add_database,
    add_people,
    add_url,
    add_verify,
    example,
    images_of,
    link_of,
    run_backup,
    run_people,
    run_verify,
    show_guess,
    web_address,
)
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
_HOST = "study.example.org"
_WAYS = {
    "new": (
        "Set a study up and freeze it: pictures, blocks, plan of analysis.",
        "--input triplets --system ours=candidates --system base=other --compare ours base",
    ),
    "rules": ("Show the exclusion rules; change them before the first answer.", "--set failed_checks=2"),
    "open": ("Make one link by which anybody can take part; an earlier one ends.", f"--url https://{_HOST}"),
    "serve": ("Answer participants' browsers.", f"--url https://{_HOST}"),
    "status": ("How far the study is, in counts; nothing of what was answered.", ""),
    "verify": (
        "Check that nothing in the log of events, the answers, the frozen plan or the pictures was altered.",
        "",
    ),
    "close": ("Take no more answers, for good: only then are there results.", ""),
    "analyse": ("Write the tables and figures of a closed study, by the plan that was frozen.", "--output tables"),
    "backup": ("Copy a database in use, with its pictures.", "--output backup"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-verb a thing to do with a study."""
    names = "new|rules|people|open|serve|status|close|analyse|plan|verify|backup"
    ways = parser.add_subparsers(dest="way", required=True, metavar=names)
    sub = {}
    for way, (description, words) in _WAYS.items():
        command = " ".join(filter(None, (f"onereward study {way} --database study.sqlite", words)))
        sub[way] = ways.add_parser(way, description=description, epilog=example(command))
    study_new.add_arguments(sub["new"])
    _add_rules(sub["rules"])
    add_people(ways, "study", _ROLES, _HOST, "study.sqlite")
    add_database(sub["open"])
    add_url(sub["open"], _HOST)
    _add_serve(sub["serve"])
    for way in ("status", "close", "analyse"):
        add_database(sub[way])
    add_verify(sub["verify"])
    add_backup(sub["backup"])
    sub["close"].add_argument("--anyway", action="store_true", help="although pages are not answered")
    sub["analyse"].add_argument(
        "--output", required=True, metavar="FOLDER", help="folder to write to, new or with an earlier analysis"
    )
    study_plan.add_arguments(
        ways.add_parser(
            "plan",
            description="How many ratings an interval of a wanted width needs.",
            epilog=example(
                "onereward study plan --half-width 0.2 --variances 0.2 0.3 0.6 --items 100",
                "onereward study plan --half-width 0.05 --pilot study.sqlite --answers 3",
            ),
        )
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


def _add_rules(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help=f"another value of {study_new.rule_fields()}"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add_database(parser, images=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--url", type=web_address, metavar="URL", help=f"where people reach it, such as https://{_HOST} behind a proxy"
    )


def _serve(args: argparse.Namespace) -> None:
    """Answer until interrupted."""
    try:
        from onereward.study.app import create_app
        from onereward.web.server import bound, serve, url_of
    except ModuleNotFoundError as error:
        raise missing_extra(error, "web") from error
    from onereward.people.pictures import Pictures
    from onereward.study.project import study_of

    with _database(args) as database, bound(args.host, args.port) as listener:
        pictures = Pictures(images_of(args))
        with database.reading() as connection:
            study_of(connection)
            pictures.require(connection)
        app = create_app(database, pictures, url=args.url)
        listener.listen()
        url = args.url or url_of(listener)
        admins = "`onereward study people add NAME --role admin` prints a link to the page of counts"
        print(json.dumps({"url": url}) if args.json else f"listening on {url}\n{admins}", flush=True)
        serve(app, listener)


def _people(args: argparse.Namespace) -> None:
    from onereward.study.collecting import Collecting
    from onereward.study.project import refuse_if_closed, study_of

    with _database(args) as database:
        with database.reading() as connection:
            study_of(connection)  # an annotation project has people of other roles
            if args.people_way == "add" and args.role == "participant":
                refuse_if_closed(connection)
        run_people(args, database, Collecting(database).withdraw)


def _open(args: argparse.Namespace) -> None:
    import secrets
    import time

    from onereward.study.project import open_to_all

    token = secrets.token_urlsafe(24)
    with _database(args) as database:
        open_to_all(database, token, time.time)
    link = link_of(args, f"join#{token}")
    if args.json:
        print(json.dumps({"link": link}))
        return
    print(link)
    show_guess(args)


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
        f"the study is {'closed' if status.closed else 'open'}\n"
        f"pages: {status.answers} of {status.wanted} answered\n"
        f"places, each one participant's block of pages: {status.blocks}, of which {status.claimed} are taken and "
        f"{status.finished} finished\n"
        f"people with a link: {status.participants}, of whom {status.consented} have agreed to take part; "
        f"{status.withdrawn} have left"
    )


def _close(args: argparse.Namespace) -> None:
    import time

    from onereward.study.closing import close

    with _database(args) as database:
        close(database, time.time, anyway=args.anyway)
    print(json.dumps({"closed": True}) if args.json else "the study is closed: `onereward study analyse` has results")


def _analyse(args: argparse.Namespace) -> None:
    from onereward.study.closing import results_of
    from onereward.study.project import study_of
    from onereward.study.tables import counted, write_study

    with _database(args) as database:
        analysis = results_of(database)
        with database.reading() as connection:
            systems = study_of(connection).config.systems
    page = write_study(analysis, Path(args.output), systems)
    participants, left_out = analysis.results.participants, len(analysis.left_out)
    if args.json:
        print(json.dumps({"output": args.output, "left_out": left_out}))
    elif participants == 0:
        print(f"0 of {left_out} people counted: see who and why in {page}")
    else:
        print(f"{counted(participants)}, {left_out} left out: {page}")


def _verify(args: argparse.Namespace) -> None:
    from onereward.study.audit import audit

    run_verify(args, audit)


def _backup(args: argparse.Namespace) -> None:
    from onereward.study.audit import audit

    run_backup(args, audit)


def _database(args: argparse.Namespace) -> "Database":
    from onereward.people.database import Database

    return Database(args.database, create=False)
