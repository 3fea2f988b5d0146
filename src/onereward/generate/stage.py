"""The stage `generate`: triplets -> N candidates each, shard i of one made from shard i of the other."""

from collections.abc import Callable
from functools import cache, partial

from onereward.generate.candidates import make_candidates
from onereward.generate.settings import GenerateConfig
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
from onereward.runtime.workers import workers as started_workers
from onereward.store.shards import Folder, Manifest, fingerprint, read_manifest, read_shard, run_stage
from onereward.terms import Candidate, Triplet

LoadEditor = Callable[[], FluxFill]


def generate(
    triplets: Folder,
    output: Folder,
    config: GenerateConfig,
    load_editor: LoadEditor,
    *,
    editor: FluxFill,
    editor_name: str,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write candidates of every triplet to `output`; the same bytes with any number of workers on one machine.

    With 2 or more `workers` each is a process with one thread, which gets its editor from `load_editor` (picklable);
    else `editor` works here, with this process's threads. `progress` is told how many more shards are done.
    Raises ValueError for triplets that are missing, changed or corrupt.
    """
    manifest = read_manifest(triplets)
    stage = partial(
        run_stage,
        output,
        kind=Candidate,
        stage="generate",
        config=config,
        inputs={"triplets": fingerprint(triplets), "editor": fingerprint_of(editor), "editor name": editor_name},
        shard_count=len(manifest.shards),
        progress=progress,
    )
    with started_workers(workers, _keep_loader, load_editor) as executor:
        if executor is None:
            return stage(make_shard=partial(_make_shard, triplets, manifest, editor_name, config, editor))
        return stage(
            make_shard=partial(_make_shard_in_worker, triplets, manifest, editor_name, config), executor=executor
        )


def _make_shard(
    triplets: Folder, manifest: Manifest, editor_name: str, config: GenerateConfig, editor: FluxFill, index: int
) -> list[Candidate]:
    return make_candidates(editor, editor_name, read_shard(triplets, Triplet, manifest, index), config)


def _make_shard_in_worker(
    triplets: Folder, manifest: Manifest, editor_name: str, config: GenerateConfig, index: int
) -> list[Candidate]:
    return _make_shard(triplets, manifest, editor_name, config, _worker_editor(), index)


_load_in_worker: LoadEditor


def _keep_loader(load_editor: LoadEditor) -> None:
    """Loading waits for the first shard: there an error comes back to the parent as itself."""
    global _load_in_worker
    _load_in_worker = load_editor


@cache
def _worker_editor() -> FluxFill:
    return _load_in_worker()
