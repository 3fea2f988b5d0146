"""`onereward select`: pool -> representative triplets."""

import argparse
import json

HELP = "pick representative triplets from a pool"
EXAMPLE = "onereward select --input pool --output triplets --count 100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, and how the embeddings are clustered."""
    parser.add_argument("--input", required=True, metavar="POOL", help="folder or URL of triplets to choose from")
    parser.add_argument("--output", required=True, metavar="TRIPLETS", help="folder or URL to write")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="number of triplets to keep")
    parser.add_argument(
        "--clip", default="toy", metavar="NAME", help="CLIP: toy, folder or Hub repository (default: toy)"
    )
    parser.add_argument(
        "--per-cluster", type=int, default=1, metavar="N", help="triplets from each cluster (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the clustering (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Embed, cluster, write."""
    from onereward.models.clip import load_clip
    from onereward.models.device import default_device
    from onereward.models.fingerprint import fingerprint_of
    from onereward.runtime.track import track
    from onereward.select.stage import SelectConfig, select
    from onereward.store.shards import read_manifest

    config = SelectConfig(count=args.count, clip=args.clip, per_cluster=args.per_cluster, seed=args.seed)
    pool_size = read_manifest(args.input).rows
    clip = load_clip(args.clip, device=default_device())
    with track(pool_size, "embed") as advance:
        manifest = select(args.input, args.output, config, clip.embed, weights=fingerprint_of(clip), embedded=advance)
    if args.json:
        print(json.dumps({"output": args.output, "triplets": manifest.rows, "pool": pool_size}))
    else:
        print(f"{manifest.rows} of {pool_size} triplets in {args.output}")
