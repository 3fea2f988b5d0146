"""`onereward study plan`: how large a study has to be."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onereward.cli.people import place

if TYPE_CHECKING:
    from onereward.study.plan import Components, StudySize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The wanted interval, what makes ratings differ, and what may grow."""
    parser.add_argument(
        "--half-width", type=float, required=True, metavar="X", help="of the interval: 0.05 for a rate, 0.2 for a score"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pilot", type=place, metavar="FILE", help="database of a closed study like it")
    source.add_argument(
        "--variances",
        type=float,
        nargs=3,
        metavar=("PEOPLE", "ITEMS", "RATINGS"),
        help="variance between participants, between items, and of what neither explains",
    )
    fixed = parser.add_mutually_exclusive_group(required=True)
    fixed.add_argument("--items", type=int, metavar="N", help="there are so many items: how many answers to each?")
    fixed.add_argument("--answers", type=int, metavar="N", help="each output gets so many answers: how many items?")
    parser.add_argument("--block", type=int, default=10, metavar="N", help="items a participant (default: 10)")


def run(args: argparse.Namespace) -> None:
    """Print the size for each cell of a pilot, or for the variances."""
    found = [(name, components, _size(args, components)) for name, components in _components(args)]
    if args.json:
        rows = [{"cell": name, **vars(parts), **vars(size), "ratings": size.ratings} for name, parts, size in found]
        print(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "participants", "items", "answers each", "ratings a system", "± about"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, _, size in found:
        numbers = size.participants, size.items, size.answers, size.ratings
        table.add_row(name, *map(str, numbers), f"{size.half_width:.3g}")
    Console().print(table)


def _size(args: argparse.Namespace, components: "Components") -> "StudySize":
    from onereward.study.plan import answers_needed, items_needed

    if args.items is None:
        return items_needed(components, args.half_width, answers=args.answers, items_a_participant=args.block)
    return answers_needed(components, args.half_width, items=args.items, items_a_participant=args.block)


def _components(args: argparse.Namespace) -> "Iterator[tuple[str, Components]]":
    from onereward.people.database import Database
    from onereward.study.closing import pilot_of
    from onereward.study.plan import Components

    if args.pilot is None:
        people, items, ratings = args.variances
        yield "as given", Components(participants=people, items=items, ratings=ratings)
        return
    with Database(args.pilot, create=False) as database:
        cells = pilot_of(database)
    if not cells:
        raise ValueError(
            f"{args.pilot} has not the answers of two people about two items of any kind: plan from --variances"
        )
    yield from cells
