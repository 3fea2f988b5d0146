"""Many edits into a folder: an image and the recipe that makes it again for each, done once, whatever stops it.

The samples are cut into batches by their order in the list, so their bytes depend on neither a stop nor the workers.
An image's recipe is written after it and says that it is done; a batch of which one is missing is made again whole.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from PIL import Image, ImageDraw

from onereward.edit.editor import ImageEditor
from onereward.edit.job_files import Row, stems_of
from onereward.edit.jobs import EditJob, EditRequest, Recipe, digest_of
from onereward.edit.pictures import encode_picture, to_rgb
from onereward.runtime.workers import workers as started_workers
from onereward.store.files import write_atomically

_CELL = 512  # pixels of a grid's longer sides
_LABEL = 14

LoadEditor = Callable[[], ImageEditor]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image to make; `stem` is its file's name without the suffix, and the job has every setting written out."""

    stem: str
    job: EditJob


def samples_of(rows: Sequence[Row], editor: ImageEditor) -> list[Sample]:
    """Every image of every row, by seed: the job's own, the next one, and so on."""
    return [
        Sample(stem=stem, job=replace(row.job, seed=row.job.seed + index).with_settings_of(editor.model.contract))
        for row in rows
        for index, stem in enumerate(stems_of(row))
    ]


def edit_all(
    rows: Sequence[Row],
    output: Path,
    load_editor: LoadEditor,
    recipe: Callable[..., Recipe],
    *,
    batch_size: int = 8,
    workers: int = 1,
    grid: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Make what is missing of the rows' images in `output` and return how many that were.

    `recipe` makes the Recipe of a job and its `pixels`, such as `partial(Recipe, editor="toy")`. With 2 or more
    `workers` each is a process with one thread, which gets its editor from `load_editor` (picklable). With `grid` each
    row gets NAME-grid.png: source, mask and its images. `progress` is told how many more images are done.
    Raises ValueError, before any work, if the folder holds an image of another job under a name that is needed.
    """
    if batch_size < 1:
        raise ValueError(f"got a batch size of {batch_size}, expected 1 or more")
    editor = load_editor()
    samples = samples_of(rows, editor)
    done = {sample.stem for sample in samples if _is_done(sample, output, recipe)}
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    missing = [batch for batch in batches if not done.issuperset(sample.stem for sample in batch)]
    made = sum(map(len, missing))
    progress(len(samples) - made)
    words = tuple(dict.fromkeys(word for sample in samples for word in (sample.job.prompt, *_negative(sample.job))))
    with started_workers(workers if missing else 1, _keep_loader, load_editor, words) as executor:
        if executor is None and missing:
            _prepare(editor, words)
        make = partial(_make_in_worker if executor else partial(_make, editor), output=output, recipe=recipe)
        for batch in _done(missing, make, executor):
            progress(len(batch))
    if grid:
        for row in rows:
            _write_grid(row, output)
    return made


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


def _is_done(sample: Sample, output: Path, recipe: Callable[..., Recipe]) -> bool:
    """Whether the image and its recipe are there; raises ValueError for the recipe of another job."""
    image = output / f"{sample.stem}.png"
    file = image.with_suffix(".json")
    if not file.exists():
        return False
    found = Recipe.read(file)
    job = sample.job.relative_to(output).from_folder(output)
    wanted = recipe(job=job, pixels=found.pixels, onereward=found.onereward)
    if found != wanted:
        differing = [name for name, value in vars(found.job).items() if value != getattr(job, name)]
        what = ", ".join(differing) or "the editor"
        raise ValueError(f"{file} is the recipe of another edit ({what} differ): name another --output, or remove it")
    return image.exists()


def _negative(job: EditJob) -> tuple[str, ...]:
    return (job.negative_prompt or "",) if job.true_cfg is not None and job.true_cfg > 1 else ()


def _prepare(editor: ImageEditor, words: Sequence[str]) -> None:
    """Encode each text once; nobody needs the encoders then."""
    editor.model.keep_texts(words)
    editor.model.free_text_encoders()


def _make(editor: ImageEditor, batch: list[Sample], *, output: Path, recipe: Callable[..., Recipe]) -> None:
    read: dict[EditJob, EditRequest] = {}
    requests = []
    for sample in batch:
        source = replace(sample.job, seed=0)
        if source not in read:
            read[source] = source.request()
        requests.append(replace(read[source], seed=sample.job.seed))
    for sample, edited in zip(batch, editor.edit_batch(requests), strict=True):
        image = output / f"{sample.stem}.png"
        write_atomically(image, encode_picture(edited, ".png", edited.mode))
        recipe(job=sample.job, pixels=digest_of(edited)).write_beside(image)


_load_in_worker: LoadEditor
_worker_words: Sequence[str]


def _keep_loader(load_editor: LoadEditor, words: Sequence[str]) -> None:
    """Loading waits for the first batch: there an error comes back to the parent as itself."""
    global _load_in_worker, _worker_words
    _load_in_worker, _worker_words = load_editor, words


@cache
def _worker_editor() -> ImageEditor:
    editor = _load_in_worker()
    _prepare(editor, _worker_words)
    return editor


def _make_in_worker(batch: list[Sample], *, output: Path, recipe: Callable[..., Recipe]) -> None:
    _make(_worker_editor(), batch, output=output, recipe=recipe)


def _write_grid(row: Row, output: Path) -> None:
    """Source, source with the mask in red, and each image with its seed, side by side."""
    request = row.job.request()
    source = to_rgb(request.image)
    masked = Image.composite(Image.blend(source, Image.new("RGB", source.size, "red"), 0.6), source, request.mask)
    cells = [("source", source), ("mask", masked)]
    for index, stem in enumerate(stems_of(row)):
        with Image.open(output / f"{stem}.png") as image:
            cells.append((f"seed {row.job.seed + index}", to_rgb(image)))
    scale = min(1.0, _CELL / max(source.size))
    width, height = (max(1, round(length * scale)) for length in source.size)
    sheet = Image.new("RGB", (width * len(cells), height + _LABEL), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (label, cell) in enumerate(cells):
        sheet.paste(cell.resize((width, height), Image.Resampling.LANCZOS), (index * width, _LABEL))
        draw.text((index * width + 2, 1), label, fill="black")
    write_atomically(output / f"{row.name}-grid.png", encode_picture(sheet, ".png", "RGB"))
