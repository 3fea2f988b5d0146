"""`onereward annotate`: votes on candidates, of people or of the toy world's oracle, and the preferences in them."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli import annotate_serve
from onereward.cli.people import add_database, add_people, images_of, show_link, show_people

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onereward.annotate.database import CastVote
    from onereward.annotate.voting import SkipShare

HELP = "collect votes on candidates and export them as preferences"
EXAMPLE = """
onereward annotate oracle --input triplets --candidates candidates \\
    --database votes.sqlite --output preferences
onereward annotate import --input triplets --candidates candidates --database votes.sqlite
onereward annotate people add "Ann" --database votes.sqlite
onereward annotate serve --database votes.sqlite
onereward annotate export --input triplets --candidates candidates \\
    --database votes.sqlite --output preferences
"""

_ROLES = ("annotator", "admin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-verb a thing to do with a database of votes."""
    names = "oracle|import|people|serve|export|verify|backup"
    ways = parser.add_subparsers(dest="way", required=True, metavar=names)
    _add_oracle(ways.add_parser("oracle", description="Let the toy world's oracle vote, then export the preferences."))
    _add_import(ways.add_parser("import", description="Put triplets and candidates before people."))
    add_people(ways, _ROLES)
    annotate_serve.add_arguments(ways.add_parser("serve", description="Answer people's browsers."))
    _add_export(ways.add_parser("export", description="Write the preferences in the votes."))
    verify = ways.add_parser("verify", description="Check that nothing in the log of events or the votes was altered.")
    add_database(verify)
    verify.add_argument("--expect", metavar="HASH", help="a hash that was printed before, which must be in the log")
    backup = ways.add_parser("backup", description="Copy a database in use, with its pictures.")
    add_database(backup, images=True)
    backup.add_argument("--output", required=True, metavar="FOLDER", help="new folder to write to")


def run(args: argparse.Namespace) -> None:
    """Do the one thing."""
    ways: dict[str, Callable[[argparse.Namespace], None]] = {
        "oracle": _export,
        "import": _import,
        "people": _people,
        "serve": annotate_serve.run,
        "export": _export,
        "verify": _verify,
        "backup": _backup,
    }
    ways[args.way](args)


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", required=True, metavar="TRIPLETS", help="folder or URL of triplets")
    parser.add_argument("--candidates", required=True, metavar="FOLDER", help="their candidates, folder or URL")


def _add_oracle(parser: argparse.ArgumentParser) -> None:
    _add_folders(parser)
    add_database(parser)
    parser.add_argument("--output", required=True, metavar="PREFERENCES", help="folder or URL to write preferences to")
    parser.add_argument(
        "--ties", action="store_true", help="a skip becomes a tie between two candidates (train-reward: tie_weight)"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_oracle(parser)
    parser.add_argument(
        "--all-pairs", action="store_true", help="also best over each of the rest, and each of the rest over worst"
    )
    parser.add_argument(
        "--weighting",
        choices=("each", "majority", "dawid_skene"),
        default="each",
        help="what becomes of several people's votes: all stay, one by most voices, or one by how right each tends to "
        "be; the weight is its share or its probability (default: %(default)s)",
    )
    parser.add_argument("--votes", metavar="FILE", help="also write the votes themselves, to .jsonl or .parquet")


def _add_import(parser: argparse.ArgumentParser) -> None:
    from onereward.annotate.project import ProjectConfig

    _add_folders(parser)
    add_database(parser, images=True)
    default = ProjectConfig()
    helps = {
        "annotators": "different people an item",
        "extra": "further people for an item on which those do not agree",
        "gold": "share of a person's items whose answers are known",
        "repeats": "share of a person's items that come a second time",
        "repeat_after": "other items before one comes a second time, at least",
        "minimum_seconds": "before an item can be answered",
        "lease_seconds": "after which an item that nobody works on goes to somebody else",
        "seed": "of the order of candidates and of what comes when",
    }
    for name, text in helps.items():
        value = getattr(default, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, metavar="N", help=f"{text} (default: {value})")
    parser.add_argument("--gold-votes", metavar="FILE", help="known answers, as `export --votes` writes them (.jsonl)")


def _import(args: argparse.Namespace) -> None:
    import time
    from dataclasses import fields

    from onereward.annotate.pairing import Pairing
    from onereward.annotate.project import ProjectConfig, gold_of, import_items
    from onereward.annotate.votes_file import read_votes
    from onereward.people.database import Database
    from onereward.people.pictures import Pictures
    from onereward.runtime.track import track

    config = ProjectConfig(**{field.name: getattr(args, field.name) for field in fields(ProjectConfig)})
    gold = None if args.gold_votes is None else gold_of(read_votes(Path(args.gold_votes)))
    pairing, pictures = Pairing(args.input, args.candidates), Pictures(images_of(args))
    with Database(args.database) as database, track(len(pairing), "import") as advance:
        added = import_items(database, pictures, pairing, config, time.time, gold, advance)
    print(json.dumps({"items": added}) if args.json else f"{added} new items in {args.database}")


def _people(args: argparse.Namespace) -> None:
    from onereward.annotate.work import Work
    from onereward.people.database import Database
    from onereward.people.persons import Persons, Role

    with Database(args.database, create=False) as database:
        persons = Persons(database)
        if args.people_way == "list":
            show_people(args, persons.all())
        elif args.people_way == "add":
            show_link(args, *persons.make(args.name, Role(args.role)))
        elif args.people_way == "link":
            show_link(args, args.person, persons.new_link(args.person))
        elif args.people_way == "withdraw":
            Work(database).withdraw(args.person, drop=args.drop)
        else:
            Work(database).withdraw(args.person, drop=False)
            persons.erase(args.person)


def _verify(args: argparse.Namespace) -> None:
    from onereward.annotate.audit import audit
    from onereward.people.database import Database

    with Database(args.database, create=False) as database, database.reading() as connection:
        found = audit(connection, expected=args.expect)
    text = f"{found.events} events, nothing altered; keep this hash to check again later: {found.head}"
    print(json.dumps(vars(found)) if args.json else text)


def _backup(args: argparse.Namespace) -> None:
    from onereward.people.backup import back_up

    found = back_up(args.database, images_of(args), Path(args.output))
    text = f"{args.output} has a copy with {found.events} events, the last {found.head}"
    print(json.dumps({"output": args.output, **vars(found)}) if args.json else text)


def _export(args: argparse.Namespace) -> None:
    from onereward.annotate.consensus import Weighting
    from onereward.annotate.database import VoteDatabase
    from onereward.annotate.export import export_preferences, latest_answers
    from onereward.annotate.pairing import Pairing
    from onereward.annotate.voting import collect_votes, skip_shares
    from onereward.runtime.track import track
    from onereward.toy.oracle import ToyOracle

    pairing = Pairing(args.input, args.candidates)
    more = {} if args.way == "oracle" else {"all_pairs": args.all_pairs, "weighting": Weighting(args.weighting)}
    with VoteDatabase(args.database, create=args.way == "oracle") as database:
        if args.way == "oracle":
            with track(len(pairing), "vote") as advance:
                collect_votes(database, pairing, ToyOracle(), advance)
        with track(len(pairing), "export") as advance:
            manifest = export_preferences(database, pairing, args.output, advance, ties=args.ties, **more)
        answers = latest_answers(database.answers(pairing.fingerprints["candidates"]))
    if args.way == "export" and args.votes is not None:
        _write_votes(args.votes, answers)
    shares = skip_shares(answers)
    if args.json:
        cells = [{**asdict(cell), "share": cell.share} for cell in shares]
        print(json.dumps({"output": args.output, "preferences": manifest.rows, "skips": cells}))
    else:
        _print_skips(shares)
        print(f"{manifest.rows} preferences in {args.output}")


def _write_votes(file: str, answers: "Sequence[CastVote]") -> None:
    from onereward.annotate.votes_file import write_votes

    write_votes(Path(file), [answer.vote for answer in answers])


def _print_skips(shares: "Sequence[SkipShare]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("task", "dimension"):
        table.add_column(heading)
    for heading in ("votes", "skipped"):
        table.add_column(heading, justify="right")
    for cell in shares:
        table.add_row(cell.task, cell.dimension, str(cell.votes), f"{cell.share:.0%}")
    Console().print(table)
