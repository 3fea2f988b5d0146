"""`onereward data`: pools to start from, preferences from other people's tables, and splits of preferences."""

import argparse
import json

from onereward.cli import data_import, data_split
from onereward.terms import Task

HELP = "write toy triplets, read public preferences, split preferences"
EXAMPLE = """
onereward data toy --output pool --split train --count 400
onereward data import editreward --input EditReward-Data/data --output preferences
onereward data split --input preferences --output splits --share train=.9 --share validation=.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Three sub-verbs: `toy`, `import` and `split`."""
    whats = parser.add_subparsers(dest="what", required=True, metavar="toy|import|split")
    toy = whats.add_parser("toy", description="Write scenes of the toy world as a pool of triplets.")
    toy.add_argument("--output", required=True, metavar="POOL", help="folder to write")
    toy.add_argument("--split", default="train", help="train, validation, test, test_2 or test_3 (default: train)")
    toy.add_argument("--count", type=int, required=True, metavar="N", help="number of triplets")
    toy.add_argument(
        "--tasks",
        nargs="+",
        choices=[task.value for task in Task],
        default=[task.value for task in Task],
        help="default: all",
    )
    toy.add_argument("--first", type=int, default=0, metavar="INDEX", help="first scene of the split (default: 0)")
    data_import.add_arguments(whats.add_parser("import", description=data_import.HELP))
    data_split.add_arguments(whats.add_parser("split", description=data_split.HELP))


def run(args: argparse.Namespace) -> None:
    """Run the sub-verb."""
    {"toy": _write_toy, "import": data_import.run, "split": data_split.run}[args.what](args)


def _write_toy(args: argparse.Namespace) -> None:
    from onereward.runtime.track import track
    from onereward.store.shards import shard_ranges
    from onereward.toy.pool import ToyPoolConfig, write_toy_pool
    from onereward.toy.scenes import Split

    if args.split not in list(Split):
        raise ValueError(f"unknown split {args.split!r}; the splits are {', '.join(Split)}")
    config = ToyPoolConfig(
        split=Split(args.split), count=args.count, tasks=tuple(Task(task) for task in args.tasks), first=args.first
    )
    with track(len(shard_ranges(config.count, config.shard_size)), "data") as advance:
        manifest = write_toy_pool(args.output, config, advance)
    if args.json:
        print(json.dumps({"output": args.output, "triplets": manifest.rows}))
    else:
        print(f"{manifest.rows} triplets in {args.output}")
