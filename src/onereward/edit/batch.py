"""Many edits into a folder: an image and the recipe that makes it again for each, done once, whatever stops it.

Which images share a batch follows from the list of jobs alone, and each process computes with equally many threads, so
their bytes depend on neither a stop nor the number of processes.
An image's recipe is written after it and says that it is done; a batch of which one is missing is made again whole.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from onereward.edit.editor import ImageEditor
from onereward.edit.job_files import Row, sources_of, stems_of
from onereward.edit.jobs import EditJob, EditRequest, Recipe, digest_of
from onereward.edit.pictures import encode_picture, to_rgb
from onereward.edit.regions import Region
from onereward.models.contract import Contract
from onereward.runtime.batches import batches_of
from onereward.runtime.threads import torch_threads
from onereward.runtime.workers import workers as started_workers
from onereward.store.files import write_atomically

_WRITERS = 8
"""Threads that write a batch's files: nearly all of that is waiting until they are on the disk."""

_MOST_KEPT_TEXTS = 1000
"""FLUX's text is 4 MB a prompt; of more prompts each batch encodes its own."""

_CELL = 512  # pixels of a grid's longer sides
_COLUMNS = 6
_LABEL = 14

LoadEditor = Callable[[], ImageEditor]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image to make; `stem` is its file's name without the suffix, and the job has every setting written out.

    Samples of one batch have `alike` in common: the size at which the editor sees them, steps, with or without CFG.
    """

    stem: str
    job: EditJob
    alike: tuple[tuple[int, int], int, bool]


def samples_of(rows: Sequence[Row], contract: Contract) -> list[Sample]:
    """Every image of every row, by seed: the job's own, the next one, and so on."""
    samples = []
    for row in rows:
        job = row.job.with_settings_of(contract)
        assert job.steps is not None and job.true_cfg is not None
        alike = Region.around(row.hole, row.size, contract, job.fit).size, job.steps, job.true_cfg > 1
        for index, stem in enumerate(stems_of(row)):
            samples.append(Sample(stem=stem, job=replace(job, seed=job.seed + index), alike=alike))
    return samples


def edit_all(
    rows: Sequence[Row],
    output: Path,
    load_editor: LoadEditor,
    recipe: Callable[..., Recipe],
    *,
    contract: Contract,
    batch_size: int = 8,
    workers: int = 1,
    threads: int = 1,
    grid: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Make what is missing of the rows' images in `output` and return how many that were.

    `recipe` makes the Recipe of a job and its `pixels`, such as `partial(Recipe, editor="toy")`; `contract` is the
    editor's. It is loaded by `load_editor`, here or, with 2 or more `workers`, in each process (then it must be
    picklable), only if an image is missing, and not to be used by others: its text encoders are let go. A process
    computes with `threads` (where it does so on a CPU: other threads, other last bits).
    With `grid` each row gets NAME-grid.png: source, mask and its images. `progress` is told how many more are done.
    Raises ValueError, before any work, if an image would replace a source or one of another job.
    """
    if min(batch_size, workers, threads) < 1:
        got = f"a batch size of {batch_size}, {workers} workers and {threads} threads"
        raise ValueError(f"got {got}: expected 1 or more of each")
    samples = samples_of(rows, contract)
    _check_sources_stay(rows, samples, output)
    done = {sample.stem for sample in samples if _is_done(sample, output, recipe)}
    batches = list(batches_of(samples, batch_size, lambda sample: sample.alike))
    missing = [batch for batch in batches if not done.issuperset(sample.stem for sample in batch)]
    made = {sample.stem for batch in missing for sample in batch}
    progress(len(samples) - len(made))
    words = _words(samples)
    processes = max(1, min(workers, len(missing)))
    with torch_threads(threads), started_workers(processes, _start_worker, load_editor, words, threads) as executor:
        editor = cache(partial(_prepared, load_editor, words))
        make = partial(_make, editor) if executor is None else _make_in_worker
        for batch in _done(missing, partial(make, output=output, recipe=recipe), executor):
            progress(len(batch))
    for row in rows if grid else ():
        if not made.isdisjoint(stems_of(row)) or not _grid_of(row, output).exists():
            _write_grid(row, output)
    return len(made)


def _check_sources_stay(rows: Sequence[Row], samples: Sequence[Sample], output: Path) -> None:
    sources = {path.resolve() for row in rows for path in sources_of(row)}
    written = [*(_image_of(sample, output) for sample in samples), *(_grid_of(row, output) for row in rows)]
    replaced = sources.intersection(file.resolve() for file in written)
    if replaced:
        raise ValueError(f"{min(replaced)} is to be edited and would be replaced: name another --output")


def _is_done(sample: Sample, output: Path, recipe: Callable[..., Recipe]) -> bool:
    """Whether the image and its recipe are there; raises ValueError for the recipe of another job."""
    image = _image_of(sample, output)
    file = image.with_suffix(".json")
    if not file.exists():
        return False
    found = Recipe.read(file)
    job = sample.job.relative_to(output).from_folder(output)
    if found != recipe(job=job, pixels=found.pixels, onereward=found.onereward):
        differing = [name for name, value in vars(found.job).items() if value != getattr(job, name)]
        what = ", ".join(differing) or "the editor"
        raise ValueError(f"{file} is the recipe of another edit ({what} differ): name another --output, or remove it")
    return image.exists()


def _words(samples: Sequence[Sample]) -> Sequence[str]:
    """All texts that the editor is told."""
    told = [(sample.job.prompt, *_negative(sample.job)) for sample in samples]
    return tuple(dict.fromkeys(word for words in told for word in words))


def _negative(job: EditJob) -> tuple[str, ...]:
    return (job.negative_prompt or "",) if job.true_cfg is not None and job.true_cfg > 1 else ()


def _prepared(load_editor: LoadEditor, words: Sequence[str]) -> ImageEditor:
    """The editor with each text encoded once, after which nobody needs the encoders."""
    editor = load_editor()
    if len(words) <= _MOST_KEPT_TEXTS:
        editor.model.keep_texts(words)
        editor.model.free_text_encoders()
    return editor


def _done(
    batches: Sequence[list[Sample]], make: Callable[[list[Sample]], None], executor: Executor | None
) -> Iterator[list[Sample]]:
    if executor is None:
        for batch in batches:
            make(batch)
            yield batch
        return
    futures = {executor.submit(make, batch): batch for batch in batches}
    for future in as_completed(futures):
        future.result()
        yield futures[future]


def _make(editor: LoadEditor, batch: list[Sample], *, output: Path, recipe: Callable[..., Recipe]) -> None:
    read: dict[EditJob, EditRequest] = {}
    requests = []
    for sample in batch:
        source = replace(sample.job, seed=0)
        if source not in read:
            read[source] = source.request()
        requests.append(replace(read[source], seed=sample.job.seed))
    edited = editor().edit_batch(requests)
    with ThreadPoolExecutor(_WRITERS) as writers:
        recipes = list(writers.map(partial(_write_image, output, recipe), batch, edited))
        list(writers.map(lambda sample, made: made.write_beside(_image_of(sample, output)), batch, recipes))


def _write_image(output: Path, recipe: Callable[..., Recipe], sample: Sample, edited: Image.Image) -> Recipe:
    write_atomically(_image_of(sample, output), encode_picture(edited, ".png", edited.mode))
    return recipe(job=sample.job, pixels=digest_of(edited))


def _image_of(sample: Sample, output: Path) -> Path:
    return output / f"{sample.stem}.png"


_worker_editor: LoadEditor


def _start_worker(load_editor: LoadEditor, words: Sequence[str], threads: int) -> None:
    """Loading waits for the first batch: there an error comes back to the parent as itself."""
    global _worker_editor
    torch.set_num_threads(threads)
    _worker_editor = cache(partial(_prepared, load_editor, words))


def _make_in_worker(batch: list[Sample], *, output: Path, recipe: Callable[..., Recipe]) -> None:
    _make(_worker_editor, batch, output=output, recipe=recipe)


def _grid_of(row: Row, output: Path) -> Path:
    return output / f"{row.name}-grid.png"


def _write_grid(row: Row, output: Path) -> None:
    """Source, source with the mask in red, and each image with its seed, in rows of a few."""
    request = row.job.request()
    source = to_rgb(request.image)
    masked = Image.composite(Image.blend(source, Image.new("RGB", source.size, "red"), 0.6), source, request.mask)
    cells = [("source", source), ("mask", masked)]
    for index, stem in enumerate(stems_of(row)):
        with Image.open(output / f"{stem}.png") as image:
            cells.append((f"seed {row.job.seed + index}", to_rgb(image)))
    scale = min(1.0, _CELL / max(source.size))
    width, height = (max(1, round(length * scale)) for length in source.size)
    columns = min(len(cells), _COLUMNS)
    sheet = Image.new("RGB", (width * columns, (height + _LABEL) * ceil(len(cells) / columns)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (label, cell) in enumerate(cells):
        left, top = index % columns * width, index // columns * (height + _LABEL)
        sheet.paste(cell.resize((width, height), Image.Resampling.LANCZOS), (left, top + _LABEL))
        draw.text((left + 2, top + 1), label, fill="black")
    write_atomically(_grid_of(row, output), encode_picture(sheet, ".png", "RGB"))
