"""Images a second of batch mode on the toy editor, against a plain loop over the stock FluxFillPipeline.

    OMP_NUM_THREADS=2 python -m benchmarks.batch_edit [--images 128 --rounds 5 --batch-size 16]

Both start from a jobs file and end with a PNG an image (ours with its recipe as well), at the editor's own size, steps
and guidance, by the same seeds. Inside the clock: reading pictures, encoding texts, sampling, writing. Outside: loading
weights, starting processes, one round to warm up. Both have the same two cores: stock in one process of one or of two
threads, whichever is faster; batch mode in one process of two threads or two of one. (And, for the gain of batches
alone, one thread each.) Contestants take turns; a ratio is the median over the rounds of the ratio within a round.
Images are compared value by value.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy
import torch
from diffusers import FluxFillPipeline
from PIL import Image

from onereward.edit.batch import edit_all
from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.job_files import read_rows
from onereward.edit.jobs import EditJob, Recipe
from onereward.models.contract import Contract
from onereward.models.load import load_contract
from onereward.models.names import resolve
from onereward.models.quiet import quietly
from onereward.runtime.threads import torch_threads
from onereward.runtime.workers import worker_processes
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene

Contestant = Callable[[Path], None]
"""Makes every image in a folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128, metavar="N", help="images a contestant and round")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), args.images, args.rounds, args.batch_size), indent=1))


def measure(folder: Path, images: int, rounds: int, batch_size: int) -> dict[str, float]:
    """Images a second of each contestant, the ratios, and by how much the images differ.

    Raises ValueError unless both of two processes can fill their batches.
    """
    if images % (2 * batch_size):
        raise ValueError(f"got {images} images in batches of {batch_size}, expected a multiple of {2 * batch_size}")
    halves = [_write_jobs(folder, f"half-{half}", range(half, images, 2)) for half in (0, 1)]
    whole = folder / "jobs.jsonl"
    whole.write_text("".join(half.read_text() for half in halves))
    contract = load_contract("toy")
    with quietly():
        stock = FluxFillPipeline.from_pretrained(resolve("toy", "editor"))
    stock.set_progress_bar_config(disable=True)
    with worker_processes(2, _load) as processes:
        contestants: dict[str, Contestant] = {
            "stock, 1 thread": partial(_stock, stock, contract, whole, 1),
            "stock, 2 threads": partial(_stock, stock, contract, whole, 2),
            "batch mode, 1 thread": partial(_ours, whole, batch_size, 1),
            "batch mode, 2 threads": partial(_ours, whole, batch_size, 2),
            "batch mode, 2 processes": partial(_ours_in_two, processes, halves, batch_size),
        }
        _load()
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, run in contestants.items():
                clock = _timed(run, _output(folder, name, number))
                if number:  # the first round warms up
                    seconds[name].append(clock)
                print(f"round {number} of {rounds}, {name}: {images / clock:.1f} images/s", file=sys.stderr)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    best = min(("stock, 1 thread", "stock, 2 threads"), key=lambda name: median[name])
    last = {name: _output(folder, name, rounds) for name in contestants}
    levels, share = _difference(last[best], last["batch mode, 1 thread"])
    return {
        **{f"images/s, {name}": round(images / clock, 2) for name, clock in median.items()},
        "ratio, one process": _ratio(seconds[best], seconds["batch mode, 2 threads"]),
        "ratio, two processes": _ratio(seconds[best], seconds["batch mode, 2 processes"]),
        "ratio, one process of one thread each": _ratio(seconds["stock, 1 thread"], seconds["batch mode, 1 thread"]),
        "largest difference to stock, grey levels": levels,
        "share of values that differ from stock": share,
        "two processes make the bytes of one": float(
            _files(last["batch mode, 2 processes"]) == _files(last["batch mode, 1 thread"])
        ),
    }


def _ratio(stock: Sequence[float], ours: Sequence[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(stock, ours, strict=True)), 2)


def _write_jobs(folder: Path, name: str, indices: Sequence[int]) -> Path:
    """Scenes as files with a jobs file; every task in turn, each scene's prompt its own."""
    rows = []
    for index in indices:
        triplet = make_scene(Split.VALIDATION, index).triplet()
        image, mask = folder / f"{index}.png", folder / f"{index}.mask.png"
        image.write_bytes(triplet.image)
        mask.write_bytes(triplet.mask)
        rows.append(
            {"image": image.name, "mask": mask.name, "task": TASK_CYCLE[index % len(TASK_CYCLE)], "seed": index}
        )
        rows[-1]["prompt"] = triplet.prompt
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _output(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name.replace(', ', '-').replace(' ', '-')}-{number}"


def _timed(run: Contestant, output: Path) -> float:
    output.mkdir()
    started = time.perf_counter()
    run(output)
    return time.perf_counter() - started


def _stock(pipeline: FluxFillPipeline, contract: Contract, jobs: Path, threads: int, output: Path) -> None:
    """A careful user's loop: the editor's own settings, what lies outside the mask pasted back, one PNG an image."""
    with torch_threads(threads):
        for line in jobs.read_text().splitlines():
            job = EditJob.of(json.loads(line))
            image, mask = (Image.open(jobs.parent / str(path)) for path in (job.image, job.mask))
            made = pipeline(
                prompt=contract.prompt_for(job.task, job.prompt),
                image=image,
                mask_image=mask,
                height=image.height,
                width=image.width,
                num_inference_steps=contract.steps,
                guidance_scale=contract.guidance,
                max_sequence_length=contract.max_sequence_length,
                generator=torch.Generator().manual_seed(job.seed),
            ).images[0]
            made = Image.composite(made, image.convert("RGB"), mask.convert("L"))
            made.save(output / f"{Path(job.image).stem}.png")


_editor: ImageEditor


def _load() -> None:
    global _editor
    with quietly():
        _editor = load_editor("toy")


def _ours(jobs: Path, batch_size: int, threads: int, output: Path) -> None:
    contract = load_contract("toy")
    edit_all(
        read_rows(jobs, {}, output / "sources"),
        output,
        _editor_with_its_text_encoders,
        partial(Recipe, editor="toy"),
        contract=contract,
        batch_size=batch_size,
        threads=threads,
    )


def _editor_with_its_text_encoders() -> ImageEditor:
    """The loaded weights in an editor that remembers no text: each round encodes its own."""
    model = _editor.model
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler")
    return ImageEditor(type(model)(**{part: getattr(model, part) for part in parts}, contract=model.contract))


def _ours_in_two(processes: Executor, halves: Sequence[Path], batch_size: int, output: Path) -> None:
    """What --workers 2 does once its processes have loaded the editor; each takes every second image."""
    runs = [processes.submit(_ours, half, batch_size, 1, output) for half in halves]
    for run in runs:
        run.result()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


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
