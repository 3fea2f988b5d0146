"""`onereward study new`: what is shown to whom, and what is frozen."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
    "lapse_hours": ("--lapse-hours", "after which who has not come back loses the place to the next; 0 for never"),
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
        "--compare",
        action="append",
        nargs=2,
        default=[],
        metavar=("A", "B"),
        help="put two side by side, before participants of their own; repeatable",
    )
    parser.add_argument(
        "--only-compare", action="store_true", help="no ratings of single outputs, and no participants for them"
    )
    add_database(parser, images=True)
    parser.add_argument(
        "--title",
        metavar="TEXT",
        help=f"what participants read above every page; name no system (default: {_of('title')})",
    )
    parser.add_argument(
        "--consent",
        metavar="FILE",
        help="text that participants agree to, with empty lines between (default: one that ships)",
    )
    parser.add_argument(
        "--rule", action="append", default=[], metavar="FIELD=VALUE", help=f"another value of {rule_fields()}"
    )
    for field, (flag, text) in _NUMBERS.items():
        parser.add_argument(flag, dest=field, type=int, metavar="N", help=f"{text} (default: {_of(field)})")


def rule_fields() -> str:
    """The exclusion rules with their defaults, as a help names them."""
    from onereward.study.exclusion import ExclusionRules

    return "an exclusion rule; defaults: " + ", ".join(
        f"{name}={rule}" for name, rule in asdict(ExclusionRules()).items()
    )


def _of(field: str) -> object:
    """A setting's default."""
    from onereward.study.project import StudyConfig

    return StudyConfig.__dataclass_fields__[field].default


def run(args: argparse.Namespace) -> None:
    """Set the study up."""
    import time

    from onereward.people.database import Database
    from onereward.people.pictures import Pictures
    from onereward.recipes.settings import with_settings
    from onereward.runtime.track import track
    from onereward.store.shards import read_manifest
    from onereward.study.analysis import AnalysisPlan
    from onereward.study.design import count_blocks
    from onereward.study.exclusion import ExclusionRules
    from onereward.study.project import new_study

    if args.only_compare and not args.compare:
        raise ValueError("--only-compare needs --compare A B")
    systems = named(args.system, "--system", "NAME=FOLDER of candidates")
    config = _config(args, tuple(systems))
    rules = with_settings(ExclusionRules(), args.rule, option="--rule")
    plan = AnalysisPlan(main=args.main or config.systems[0], rules=rules, seed=config.seed)
    pictures, manifest = Pictures(images_of(args)), read_manifest(args.input)
    items = manifest.rows - config.practice
    if items >= config.items_a_block:  # too few are refused by name; too many answers before any picture is written
        count_blocks(items, config.answers, config.items_a_block)
    with (
        _nothing_left(args.database),
        Database(args.database) as database,
        track(len(manifest.shards), "import") as advance,
    ):
        blocks = new_study(
            database, pictures, args.input, systems, config, plan, time.time, index=args.index, progress=advance
        )
    text = f"the study wants {blocks} participants, each for one block of pages"
    print(json.dumps({"blocks": blocks}) if args.json else text)


@contextmanager
def _nothing_left(place: str) -> Iterator[None]:
    """Remove the SQLite file that was made in the block, if the block ends in an error and the file holds no study."""
    from onereward.people.database import Database
    from onereward.study.project import study_of

    file = Path(place)
    there = file.exists()
    try:
        yield
    except BaseException:
        if not there and file.exists():
            try:
                with Database(place) as database, database.reading() as connection:
                    study_of(connection)  # another command's, made since
            except ValueError:
                file.unlink()
        raise


def _config(args: argparse.Namespace, systems: tuple[str, ...]) -> "StudyConfig":
    from onereward.study.project import StudyConfig

    given = {field: getattr(args, field) for field in (*_NUMBERS, "title")}
    if args.consent is not None:
        given["consent"] = _text_of(Path(args.consent))
    return StudyConfig(
        systems=systems,
        comparisons=tuple((first, second) for first, second in args.compare),
        rates=not args.only_compare,
        **{field: value for field, value in given.items() if value is not None},
    )


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"got --consent {file}, which is no text in UTF-8 ({error.reason}): save it as UTF-8"
        ) from error
