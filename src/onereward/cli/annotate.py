"""`onereward annotate`: votes on candidates, and the preferences in them."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onereward.annotate.voting import SkipShare

HELP = "collect votes on candidates and export them as preferences"
EXAMPLE = """
onereward annotate oracle --input triplets --candidates candidates \\
    --database votes.sqlite --output preferences
onereward annotate export --input triplets --candidates candidates \\
    --database votes.sqlite --output preferences
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-verb a way to votes; all read triplets and candidates and end in preferences."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="oracle|export")
    for way, description in {
        "oracle": "Let the toy world's oracle vote, then export the preferences.",
        "export": "Write one preference for each vote in the database that is no skip.",
    }.items():
        sub = ways.add_parser(way, description=description)
        sub.add_argument("--input", required=True, metavar="TRIPLETS", help="folder or URL of triplets")
        sub.add_argument("--candidates", required=True, metavar="FOLDER", help="their candidates, folder or URL")
        sub.add_argument("--database", required=True, metavar="FILE", help="SQLite file of votes")
        sub.add_argument("--output", required=True, metavar="PREFERENCES", help="folder or URL to write preferences to")
        sub.add_argument(
            "--ties", action="store_true", help="a skip becomes a tie between two candidates (train-reward: tie_weight)"
        )


def run(args: argparse.Namespace) -> None:
    """Vote (oracle only), export, and print the share of skips."""
    from onereward.annotate.database import VoteDatabase
    from onereward.annotate.export import export_preferences, latest_answers
    from onereward.annotate.pairing import Pairing
    from onereward.annotate.voting import collect_votes, skip_shares
    from onereward.runtime.track import track
    from onereward.toy.oracle import ToyOracle

    pairing = Pairing(args.input, args.candidates)
    with VoteDatabase(args.database, create=args.way == "oracle") as database:
        if args.way == "oracle":
            with track(len(pairing), "vote") as advance:
                collect_votes(database, pairing, ToyOracle(), advance)
        with track(len(pairing), "export") as advance:
            manifest = export_preferences(database, pairing, args.output, advance, ties=args.ties)
        shares = skip_shares(latest_answers(database.answers(pairing.fingerprints["candidates"])))
    if args.json:
        cells = [{**asdict(cell), "share": cell.share} for cell in shares]
        print(json.dumps({"output": args.output, "preferences": manifest.rows, "skips": cells}))
    else:
        _print_skips(shares)
        print(f"{manifest.rows} preferences in {args.output}")


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
