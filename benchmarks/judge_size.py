"""Time and memory of four dimensions of a pair at the size of Qwen2.5-VL-7B: one packed pass, four stock forwards.

    python -m benchmarks.judge_size [--image-sizes 448 1008 --pairs 1 --rounds 5]

The comparison is that of `benchmarks.judge_scoring`, forward and backward to both images' pixels, with the 7B's
shapes and random weights in bfloat16, made on the GPU, so that nothing is fetched: speed and memory do not depend on
what the weights are. In bfloat16 log odds and gradients of any two orders of summation differ; by how much is
printed, not judged. A peak of null did not fit. The first line of stderr says on what this ran; without a GPU a tiny
model takes the big one's place at the smallest size, and its figures mean nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.judge_scoring import SEVEN_B, SMALLEST, Sizes, describe, measure, random_judge
from onereward.runtime.threads import torch_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[448, 1008], metavar="PX")
    parser.add_argument("--pairs", type=int, default=1, metavar="N", help="pairs in a batch")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    args = parser.parse_args()
    if torch.cuda.is_available():
        print(f"on {torch.cuda.get_device_name()}: Qwen2.5-VL-7B's size, random weights, bfloat16", file=sys.stderr)
        found = measure_sizes(
            SEVEN_B, args.image_sizes, args.pairs, args.rounds, device=torch.device("cuda"), dtype=torch.bfloat16
        )
    else:
        print("NO GPU: A TINY MODEL ON THE CPU, A SMOKE TEST. THESE FIGURES SAY NOTHING ABOUT THE 7B.", file=sys.stderr)
        with torch_threads(1):
            found = measure_sizes(SMALLEST, [112], 1, 1, device=torch.device("cpu"), dtype=torch.float32)
    print(json.dumps(found, indent=1))


def measure_sizes(
    sizes: Sizes, image_sizes: Sequence[int], pairs: int, rounds: int, *, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """What `judge_scoring` measures, at each size of image (pixels a side)."""
    judge = random_judge(sizes, device, dtype).freeze()
    found = {f"{size}x{size}": {**describe(judge, size), **measure(judge, size, pairs, rounds)} for size in image_sizes}
    return {"is_7b": sizes == SEVEN_B, "pairs": pairs, **found}


if __name__ == "__main__":
    main()
