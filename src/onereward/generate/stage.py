"""The stage `generate`: triplets -> N candidates each, shard i of one made from shard i of the other."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from onereward.generate.candidates import make_candidates
from onereward.generate.settings import GenerateConfig
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
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
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write candidates of every triplet to `output`; the same bytes with any number of workers on one machine.

    With an `executor` each of its processes gets its editor from `load_editor` (picklable); else `editor` works here,
    with this process's threads. `progress` is told how many more shards are done.
    Raises ValueError for triplets that are missing, changed or corrupt.
    """
    manifest, identity = read_manifest(triplets), fingerprint_of(editor)
    loaded = partial(_kept, identity, load_editor) if executor else lambda: editor
    return run_stage(
        output,
        kind=Candidate,
        stage="generate",
        config=config,
        inputs={"triplets": fingerprint(triplets), "editor": identity, "editor name": editor_name},
        shard_count=len(manifest.shards),
        make_shard=partial(_make_shard, triplets, manifest, editor_name, config, loaded),
        progress=progress,
        executor=executor,
    )


def _make_shard(
    triplets: Folder, manifest: Manifest, editor_name: str, config: GenerateConfig, editor: LoadEditor, index: int
) -> list[Candidate]:
    return make_candidates(editor(), editor_name, read_shard(triplets, Triplet, manifest, index), config)


_in_worker: dict[str, FluxFill] = {}


def _kept(identity: str, load_editor: LoadEditor) -> FluxFill:
    """A worker's editor, which it keeps over its shards and lets go when another one's come."""
    if identity not in _in_worker:
        _in_worker.clear()
        _in_worker[identity] = load_editor()
    return _in_worker[identity]
