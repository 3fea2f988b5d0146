"""`onereward data split`: preferences -> training and held-out ones without a common source (mounted by `data`)."""

import argparse
import json

HELP = "Split preferences by shares so that no source image, and no image, is in two splits."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The preferences, the shares, the seed."""
    parser.add_argument("--input", required=True, metavar="PREFERENCES", help="folder or URL of preferences")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="folder or URL to write one folder a split to"
    )
    parser.add_argument(
        "--share",
        required=True,
        action="append",
        metavar="SPLIT=SHARE",
        help="a split's name and its share of the preferences, such as train=.9; again for each",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws which sources go where (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Find what belongs together, write each split."""
    from onereward.cli.named import named
    from onereward.readers.split import SplitConfig, choose_splits, group_preferences, write_split
    from onereward.runtime.track import track
    from onereward.store.shards import read_manifest, shard_ranges

    expected = "SPLIT=SHARE, such as train=.9"
    shares = {name: _share(text, expected) for name, text in named(args.share, "--share", expected).items()}
    config = SplitConfig(shares=shares, seed=args.seed)
    with track(len(read_manifest(args.input).shards), "group") as advance:
        groups = group_preferences(args.input, advance)
    counts = {}
    for name, numbers in choose_splits(groups, config).items():
        with track(len(shard_ranges(len(numbers), config.shard_size)), f"split {name}") as advance:
            manifest = write_split(args.input, args.output, name, numbers, config, advance)
        counts[name] = {"preferences": manifest.rows, "groups": len({groups[number] for number in numbers})}
    if args.json:
        print(json.dumps({"output": args.output, "splits": counts}))
    else:
        for name, count in counts.items():
            share = count["preferences"] / len(groups)
            print(
                f"{count['preferences']} preferences ({share:.1%}) of {count['groups']} groups in {args.output}/{name}"
            )


def _share(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"got --share with {text!r}, expected {expected}") from None
