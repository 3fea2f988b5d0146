"""`onereward evaluate judge`: held-out preferences -> accuracy by task and dimension (mounted by `evaluate`)."""

import argparse
import json
from typing import TYPE_CHECKING

from onereward.query import Variant

if TYPE_CHECKING:
    from onereward.metrics.accuracy import AccuracyRow

HELP = "ask a judge about held-out preferences, both orders, and count the right answers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The preferences, the judge, and how it is asked."""
    parser.add_argument("--input", required=True, metavar="PREFERENCES", help="folder of held-out preferences")
    parser.add_argument("--output", required=True, metavar="ANSWERS", help="folder to write")
    parser.add_argument("--judge", required=True, metavar="NAME", help="toy, a folder or a Hub repository")
    parser.add_argument(
        "--variant",
        choices=list(Variant),
        default=Variant.TASK_DIMENSION,
        help="what the query tells (default: task_dimension)",
    )
    parser.add_argument("--label", help="name of the rows, such as untuned (default: the variant)")
    parser.add_argument("--workers", type=int, default=1, metavar="K", help="processes of one thread each (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Ask, write, print the table."""
    from dataclasses import asdict

    from onereward.evaluate.judge import evaluate_judge
    from onereward.metrics.accuracy import accuracy_rows
    from onereward.metrics.records import Answer
    from onereward.runtime.track import track
    from onereward.runtime.workers import workers
    from onereward.store.shards import read_manifest, read_records

    preferences, output = args.input, args.output
    with (
        workers(args.workers) as executor,
        track(len(read_manifest(preferences).shards), "evaluate judge") as advance,
    ):
        evaluate_judge(
            preferences,
            output,
            args.judge,
            Variant(args.variant),
            args.label or args.variant,
            executor=executor,
            progress=advance,
        )
    rows = accuracy_rows(read_records(output, Answer))
    print(json.dumps([asdict(row) for row in rows]) if args.json else _table(rows))


def _table(rows: "list[AccuracyRow]") -> str:
    head = f"{'task':<8}{'dimension':<18}{'variant':<16}{'n':>6}  accuracy  95 % interval  answer flips"
    lines = [
        f"{row.task:<8}{row.dimension:<18}{row.variant:<16}{row.n:>6}{row.accuracy:>10.3f}"
        f"    {row.low:.3f}-{row.high:.3f}{row.flips:>14.3f}"
        for row in rows
    ]
    return "\n".join([head, *lines])
