"""`onereward study new`: what is shown to whom, and what is frozen."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli.named import named
from onereward.cli.people import add_database, images_of

if TYPE_CHECKING:
    from onereward.study.project import StudyConfig

_NUMBERS = {
    "answers": ("--ratings-per-output", "people who answer about each output, and about each pair"),
    "items_a_block": ("--block", "items of one participant, each with the outputs of all systems"),
    "practice": ("--practice", "items that everybody sees first and that are not counted"),
    "check_every": ("--check-every", "pages with one attention check among them, 0 for none"),
    "break_every": ("--break-every", "pages between breaks, 0 for none"),
    "seed": ("--seed", "of blocks, orders, sides and checks"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Triplets, systems, the design, the plan of analysis."""
    parser.add_argument("--input", required=True, metavar="TRIPLETS", help="folder or URL of triplets")
    parser.add_argument(
        "--system", action="append", required=True, metavar="NAME=CANDIDATES", help="a system's candidates; repeatable"
    )
    parser.add_argument("--index", type=int, default=0, metavar="N", help="which candidate is shown (default: 0)")
    parser.add_argument("--main", metavar="NAME", help="system that others are held against (default: the first)")
    parser.add_argument(
        "--compare", action="append", nargs=2, default=[], metavar=("A", "B"), help="put two side by side; repeatable"
    )
    parser.add_argument("--only-compare", action="store_true", help="no ratings of single outputs")
    add_database(parser, images=True)
    parser.add_argument("--title", metavar="TEXT", help="what participants read above every page; name no system")
    parser.add_argument("--consent", metavar="FILE", help="text that participants agree to, with empty lines between")
    parser.add_argument(
        "--rule", action="append", default=[], metavar="FIELD=VALUE", help="another value of an exclusion rule"
    )
    for field, (flag, text) in _NUMBERS.items():
        parser.add_argument(flag, dest=field, type=int, metavar="N", help=text)


def run(args: argparse.Namespace) -> None:
    """Set the study up."""
    import time

    from onereward.people.database import Database
    from onereward.people.pictures import Pictures
    from onereward.recipes.settings import with_settings
    from onereward.runtime.track import track
    from onereward.store.shards import read_manifest
    from onereward.study.analysis import AnalysisPlan
    from onereward.study.exclusion import ExclusionRules
    from onereward.study.project import new_study

    systems = named(args.system, "--system", "NAME=FOLDER of candidates")
    config = _config(args, tuple(systems))
    rules = with_settings(ExclusionRules(), args.rule)
    plan = AnalysisPlan(main=args.main or config.systems[0], rules=rules, seed=config.seed)
    pictures, shards = Pictures(images_of(args)), len(read_manifest(args.input).shards)
    with Database(args.database) as database, track(shards, "import") as advance:
        blocks = new_study(
            database, pictures, args.input, systems, config, plan, time.time, index=args.index, progress=advance
        )
    text = f"{blocks} blocks in {args.database}: so many participants are needed"
    print(json.dumps({"blocks": blocks}) if args.json else text)


def _config(args: argparse.Namespace, systems: tuple[str, ...]) -> "StudyConfig":
    from onereward.study.project import StudyConfig

    given = {field: getattr(args, field) for field in (*_NUMBERS, "title")}
    if args.consent is not None:
        given["consent"] = Path(args.consent).read_text(encoding="utf-8").strip()
    return StudyConfig(
        systems=systems,
        comparisons=tuple((first, second) for first, second in args.compare),
        rates=not args.only_compare,
        **{field: value for field, value in given.items() if value is not None},
    )
