"""`onereward annotate`: votes on candidates, of people or of the toy world's oracle, and the preferences in them."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli import annotate_serve
from onereward.cli.people import (
    add_backup,
    add_database,
    add_people,
    add_verify,
    example,
    images_of,
    run_backup,
    run_people,
    run_verify,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onereward.annotate.export import Uncounted
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
_HOST = "votes.example.org"
_FOLDERS = "--input triplets --candidates candidates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-verb a thing to do with a database of votes."""
    names = "oracle|import|people|serve|export|verify|backup"
    ways = parser.add_subparsers(dest="way", required=True, metavar=names)
    described = {
        "oracle": ("Let the toy world's oracle vote, then export the preferences.", f"{_FOLDERS} --output preferences"),
        "import": ("Put triplets and candidates before people.", f"{_FOLDERS} --annotators 3"),
        "serve": ("Answer people's browsers.", f"--url https://{_HOST}"),
        "export": ("Write the preferences in the votes.", f"{_FOLDERS} --output preferences --weighting majority"),
        "verify": ("Check that nothing in the log of events, the votes or the pictures was altered.", ""),
        "backup": ("Copy a database in use, with its pictures.", "--output backup"),
    }
    sub = {}
    for way, (description, words) in described.items():
        command = " ".join(filter(None, (f"onereward annotate {way} --database votes.sqlite", words)))
        sub[way] = ways.add_parser(way, description=description, epilog=example(command))
    add_people(ways, "annotate", _ROLES, _HOST, "votes.sqlite")
    _add_oracle(sub["oracle"])
    _add_import(sub["import"])
    annotate_serve.add_arguments(sub["serve"])
    _add_export(sub["export"])
    add_verify(sub["verify"])
    add_backup(sub["backup"])


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
        "extra": "further people for an item on which those do not agree; 0 where there are no more than --annotators",
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
    print(json.dumps({"items": added}) if args.json else f"{added} new items to vote on")


def _people(args: argparse.Namespace) -> None:
    from onereward.annotate.project import project_of
    from onereward.annotate.work import Work
    from onereward.people.database import Database

    with Database(args.database, create=False) as database:
        with database.reading() as connection:
            project_of(connection)  # a study has people of other roles
        run_people(args, database, Work(database).withdraw)


def _verify(args: argparse.Namespace) -> None:
    from onereward.annotate.audit import audit

    run_verify(args, audit)


def _backup(args: argparse.Namespace) -> None:
    from onereward.annotate.audit import audit

    run_backup(args, audit)


def _export(args: argparse.Namespace) -> None:
    from onereward.annotate.consensus import Weighting
    from onereward.annotate.database import VoteDatabase
    from onereward.annotate.export import export_preferences, latest_answers, uncounted
    from onereward.annotate.pairing import Pairing
    from onereward.annotate.project import refuse_study
    from onereward.annotate.votes_file import write_votes
    from onereward.annotate.voting import collect_votes, skip_shares
    from onereward.runtime.track import track
    from onereward.toy.oracle import ToyOracle

    pairing = Pairing(args.input, args.candidates)
    candidates = pairing.fingerprints["candidates"]
    more = {} if args.way == "oracle" else {"all_pairs": args.all_pairs, "weighting": Weighting(args.weighting)}
    with VoteDatabase(args.database, create=args.way == "oracle") as database:
        with database.reading() as connection:
            refuse_study(connection)
        if args.way == "oracle":
            with track(len(pairing), "vote") as advance:
                collect_votes(database, pairing, ToyOracle(), advance)
        with track(len(pairing), "export") as advance:
            exported = export_preferences(database, pairing, args.output, advance, ties=args.ties, **more)
        answers, others = latest_answers(database.answers(candidates)), uncounted(database, candidates)
    if args.way == "export" and args.votes is not None:
        write_votes(Path(args.votes), [answer.vote for answer in answers])
    shares, preferences = skip_shares(answers), exported.manifest.rows
    if args.json:
        cells = [{**asdict(cell), "share": cell.share} for cell in shares]
        left_out = {"undecided": exported.undecided, **asdict(others)}
        print(json.dumps({"output": args.output, "preferences": preferences, "skips": cells, **left_out}))
        return
    _print_skips(shares)
    print(f"{preferences} preferences in {args.output}")
    if args.way == "export":
        _print_left_out(args, exported.undecided, others)


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


def _print_left_out(args: argparse.Namespace, undecided: int, others: "Uncounted") -> None:
    if args.weighting != "each":
        print(f"left out: {undecided} choices on which the votes settle nothing")
    print(
        f"left out: {others.gold} votes on items whose answers are known, {others.repeats} second ones of the same "
        f"person, {others.late} that came too late, {others.dropped} of people whose answers are not counted"
    )
    counted = "; the votes on them so far are counted" if others.unfinished else ""
    print(f"{others.unfinished} items are not finished{counted}")
