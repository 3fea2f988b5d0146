"""How many images a second batch mode makes, against a plain loop over the stock FluxFillPipeline.

    python -m benchmarks.batch_edit [--images 64] [--rounds 5] [--editor toy]

Both make the same images (checked), at the editor's own size, steps and guidance, and write them as PNG files; loading
the weights is outside the clock, encoding texts, reading and writing pictures is inside. Stock runs one image a call,
and so does batch mode in one process, with one and with two threads, of which each one's better counts. The rounds of
all contestants alternate; medians count.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy
import torch
from diffusers import FluxFillPipeline
from PIL import Image

from onereward.edit.batch import edit_all
from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.job_files import Row, read_rows
from onereward.edit.jobs import Recipe
from onereward.models.names import resolve
from onereward.runtime.threads import torch_threads
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import Split

_RECIPE = partial(Recipe, editor="toy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), args.images, args.rounds, args.batch_size), indent=1))


def measure(folder: Path, images: int, rounds: int, batch_size: int) -> dict[str, float]:
    """Images a second of each contestant, the ratios, and by how much the images differ."""
    write_toy_pool(folder / "pool", ToyPoolConfig(split=Split.VALIDATION, count=images))
    rows = read_rows(folder / "pool", {})
    editor = load_editor("toy")
    stock = FluxFillPipeline.from_pretrained(resolve("toy", "editor"))
    stock.set_progress_bar_config(disable=True)
    contestants: dict[str, Callable[[Path], None]] = {
        "stock, one thread": partial(_stock, stock, editor, rows, 1),
        "stock, two threads": partial(_stock, stock, editor, rows, 2),
        "batch mode, one thread": partial(_ours, rows, batch_size, 1),
        "batch mode, two threads": partial(_ours, rows, batch_size, 2),
        "batch mode, two processes": partial(_ours_in_two, rows, batch_size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(rounds + 1):  # the first one warms up and is not counted
        for name, run in contestants.items():
            output = folder / f"{name}-{round_number}".replace(" ", "-")
            output.mkdir()
            clock = run(output)
            if round_number:
                seconds[name].append(clock)
    speed = {name: images / statistics.median(times) for name, times in seconds.items()}
    stock_best, ours_best = (
        max(speed[f"{name}, {n} thread{s}"] for n, s in (("one", ""), ("two", "s"))) for name in ("stock", "batch mode")
    )
    last = {name: folder / f"{name}-{rounds}".replace(" ", "-") for name in contestants}
    levels, share = _difference(last["stock, one thread"], last["batch mode, one thread"])
    return {
        **{f"images a second: {name}": round(value, 2) for name, value in speed.items()},
        "ratio, one process": round(ours_best / stock_best, 2),
        "ratio, two processes": round(speed["batch mode, two processes"] / stock_best, 2),
        "largest difference in grey levels": levels,
        "share of values that differ": share,
    }


def _stock(pipeline: FluxFillPipeline, editor: ImageEditor, rows: list[Row], threads: int, output: Path) -> float:
    """A careful user's loop: contract settings, the scene's prompt, the mask pasted back, one PNG an image."""
    contract = editor.model.contract
    started = time.perf_counter()
    with torch_threads(threads):
        for row in rows:
            request = row.job.request()
            image = pipeline(
                prompt=contract.prompt_for(request.task, request.prompt),
                image=request.image,
                mask_image=request.mask,
                height=request.image.height,
                width=request.image.width,
                num_inference_steps=contract.steps,
                guidance_scale=contract.guidance,
                max_sequence_length=contract.max_sequence_length,
                generator=torch.Generator().manual_seed(request.seed),
            ).images[0]
            Image.composite(image, request.image, request.mask).save(output / f"{row.name}.png", compress_level=1)
    return time.perf_counter() - started


def _ours(rows: list[Row], batch_size: int, threads: int, output: Path) -> float:
    editor = load_editor("toy")
    started = time.perf_counter()
    with torch_threads(threads):
        edit_all(rows, output, lambda: editor, _RECIPE, batch_size=batch_size)
    return time.perf_counter() - started


def _ours_in_two(rows: list[Row], batch_size: int, output: Path) -> float:
    """From the first images on: workers import torch and load the editor once, however many images follow."""
    clocks: list[float] = []
    edit_all(
        rows,
        output,
        partial(load_editor, "toy"),
        _RECIPE,
        batch_size=batch_size,
        workers=2,
        progress=lambda count: clocks.append(time.perf_counter()),
    )
    # The first call tells what was done before; each of the two workers' first batches is not counted.
    counted = len(rows) - 2 * batch_size
    return (clocks[-1] - clocks[2]) * len(rows) / counted


def _difference(one: Path, other: Path) -> tuple[int, float]:
    """The largest difference of a value and the share of values that differ, over all images of two folders."""
    differences = [
        abs(numpy.asarray(Image.open(file)).astype(int) - numpy.asarray(Image.open(other / file.name)))
        for file in sorted(one.glob("*.png"))
    ]
    every = numpy.concatenate([difference.ravel() for difference in differences])
    return int(every.max()), float((every > 0).mean())


if __name__ == "__main__":
    main()
