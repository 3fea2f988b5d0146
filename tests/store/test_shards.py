import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onereward.store import shards
from onereward.store.shards import (
    Folder,
    Manifest,
    fingerprint,
    read_manifest,
    read_records,
    run_stage,
    shard_ranges,
    write_atomically,
)
from onereward.terms import Candidate, Dimension, Preference, Task, Triplet, VoterKind


@dataclass(frozen=True, kw_only=True)
class Config:
    size: int = 4
    tasks: tuple[Task, ...] = (Task.FILL,)


def triplet(index: int) -> Triplet:
    return Triplet(id=f"t{index}", task=Task.FILL, prompt=f"a cat, no. {index}", image=b"\x89PNG", mask=bytes([index]))


def make_shard(index: int) -> list[Triplet]:
    return [triplet(3 * index + row) for row in range(3)]


def run(output: Folder, config: Config = Config(), **changes: object) -> Manifest:
    arguments: dict[str, object] = {
        "kind": Triplet,
        "stage": "select",
        "config": config,
        "inputs": {"pool": "abc"},
        "shard_count": 3,
        "make_shard": make_shard,
    }
    return run_stage(output, **{**arguments, **changes})  # type: ignore[arg-type]  # the test's own keyword table


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


texts = st.text(max_size=8)
indices = st.integers(0, 9)
triplets = st.builds(
    Triplet, id=texts, task=st.sampled_from(Task), prompt=texts, image=st.binary(max_size=9), mask=st.binary(max_size=9)
)
preferences = st.builds(
    Preference,
    triplet_id=texts,
    task=st.sampled_from(Task),
    dimension=st.sampled_from(Dimension),
    prompt=texts,
    winner=st.binary(max_size=9),
    loser=st.binary(max_size=9),
    winner_index=indices,
    loser_index=indices,
    voter=texts,
    kind=st.sampled_from(VoterKind),
    weight=st.floats(0, 10),
)


@given(records=st.lists(triplets, max_size=6) | st.lists(preferences, min_size=1, max_size=6), size=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_records_come_back_as_they_went(records: list[Triplet] | list[Preference], size: int) -> None:
    kind = type(records[0]) if records else Triplet
    ranges = shard_ranges(len(records), size)
    folder = f"memory://{hashlib.sha256(repr((records, size)).encode()).hexdigest()}"
    manifest = run(folder, kind=kind, shard_count=len(ranges), make_shard=lambda i: [records[row] for row in ranges[i]])
    assert list(read_records(folder, kind)) == records
    assert manifest.rows == len(records)
    assert read_manifest(folder) == manifest


@given(count=st.integers(0, 50), size=st.integers(1, 9))
def test_shard_ranges_cover_everything_once(count: int, size: int) -> None:
    ranges = shard_ranges(count, size)
    assert [index for part in ranges for index in part] == list(range(count))
    assert all(len(part) == size for part in ranges[:-1])


def test_a_missing_value_stays_missing(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Score:
        name: str
        value: float | None
        good: bool

    scores = [Score(name="a", value=None, good=True), Score(name="b", value=0.25, good=False)]
    run(tmp_path, kind=Score, shard_count=1, make_shard=lambda index: scores)
    assert list(read_records(tmp_path, Score)) == scores


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    run(tmp_path / "a")
    with ThreadPoolExecutor(2) as executor:
        run(tmp_path / "b", executor=executor)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_datasets_is_told_which_columns_are_images(tmp_path: Path) -> None:
    run(tmp_path)
    schema = pyarrow.parquet.read_schema(tmp_path / "shard-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == features["mask"] == {"_type": "Image"}
    assert features["prompt"] == {"_type": "Value", "dtype": "string"}
    assert schema.field("image").type == pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    def fail(index: int) -> list[Triplet]:
        raise AssertionError("made again")

    advanced: list[int] = []
    assert run(tmp_path, make_shard=fail, progress=advanced.append) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert sum(advanced) == 3


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_other_records_is_told_by_them_alone(tmp_path: Path, finished: bool) -> None:
    run(tmp_path)
    if not finished:
        (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError) as raised:
        run(tmp_path, kind=Candidate, config=Config(size=5))
    assert str(raised.value) == f"{tmp_path} holds triplets, not candidates: choose another --output"


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": Config(size=5)}, r"config\.size \(there 4, now 5\)"),
        ({"inputs": {"pool": "def"}}, r"inputs\.pool \(there 'abc', now 'def'\)"),
        ({"shard_count": 4}, r"shard_count \(there 3, now 4\)"),
        ({"stage": "generate", "config": Config(size=5)}, r"stage \(there 'select', now 'generate'\)"),
    ],
)
def test_other_settings_are_an_error_that_names_them(
    tmp_path: Path, changes: dict[str, object], named: str, finished: bool
) -> None:
    run(tmp_path)
    if not finished:
        (tmp_path / "manifest.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"other settings: {named}; choose another --output"):
        run(tmp_path, **changes)
    assert contents(tmp_path) == before


def test_a_stopped_stage_continues_and_redoes_partial_shards(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    stopped = tmp_path / "stopped"
    run(stopped)
    (stopped / "manifest.json").unlink()
    broken = stopped / "shard-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:200])
    (stopped / "shard-00002.parquet").unlink()
    (stopped / "shard-00002.parquet.part").write_bytes(b"half")
    made: list[int] = []

    def counting(index: int) -> list[Triplet]:
        made.append(index)
        return make_shard(index)

    run(stopped, make_shard=counting)
    assert made == [1, 2]
    assert contents(stopped) == contents(tmp_path / "whole")


def test_a_flipped_bit_in_an_unfinished_folder_is_redone(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "manifest.json").unlink()
    path = tmp_path / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    data[data.index(b"a cat")] ^= 1
    path.write_bytes(data)
    run(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_finished_shard_that_changed_is_an_error(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    path = tmp_path / "shard-00001.parquet"
    if damage == "change":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.unlink()
    for use in (lambda: list(read_records(tmp_path, Triplet)), lambda: run(tmp_path)):
        with pytest.raises(ValueError, match=r"shard-00001\.parquet .*copy it again.*or delete"):
            use()


def test_a_folder_that_is_no_input_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no manifest\.json: run the stage"):
        read_manifest(tmp_path)
    run(tmp_path)
    with pytest.raises(ValueError, match=r"holds Triplet records \(stage select\), expected Candidate"):
        list(read_records(tmp_path, Candidate))
    newer = json.dumps({**json.loads((tmp_path / "manifest.json").read_text()), "schema": 99})
    (tmp_path / "manifest.json").write_text(newer)
    with pytest.raises(ValueError, match=r"schema 99.*update onereward"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("broken_call", ["write", "fsync"])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_call: str
) -> None:
    """The second shard meets ENOSPC: the first stays, nothing else appears, and the next run finishes."""
    run(tmp_path / "whole")
    output = tmp_path / "full"
    real_open, full = Path.open, OSError(errno.ENOSPC, "No space left on device")

    def open_full(path: Path, mode: str) -> IO[Any]:
        file = real_open(path, mode)
        if "00001" in path.name:
            file.write(b"the part that still fitted")
            monkeypatch.setattr(os, "fsync", raise_full)
        return file

    def raise_full(descriptor: int) -> None:
        raise full

    def write_full(path: Path, data: bytes) -> None:
        if "00001" in path.name:
            monkeypatch.setattr(os, "fsync", raise_full)
        write_atomically(path, data)

    if broken_call == "write":
        monkeypatch.setattr(Path, "open", open_full)
    else:
        monkeypatch.setattr(shards, "write_atomically", write_full)
    with pytest.raises(OSError, match="No space left"):
        run(output)
    assert [path.name for path in output.iterdir()] == ["shard-00000.parquet"]
    monkeypatch.undo()
    run(output)
    assert contents(output) == contents(tmp_path / "whole")


SLOW_STAGE = """
import sys, time
from tests.store.test_shards import make_shard, run

def slowly(index):
    time.sleep(0.05)
    return make_shard(index)

run(sys.argv[1], shard_count=8, make_shard=slowly)
"""


def test_sigkill_anywhere_then_the_same_bytes(tmp_path: Path) -> None:
    """A stage killed as soon as it has 1, 3, 5 shards, and at last left to finish, equals one never stopped."""
    run(tmp_path / "whole", shard_count=8)
    output = tmp_path / "killed"
    root = Path(__file__).parents[2]
    for wanted in (1, 3, 5):
        process = subprocess.Popen([sys.executable, "-c", SLOW_STAGE, str(output)], cwd=root)
        deadline = time.monotonic() + 60
        while len(list(output.glob("*.parquet"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (output / "manifest.json").exists()
        assert len(list(output.glob("*.parquet"))) >= wanted
    run(output, shard_count=8)
    assert contents(output) == contents(tmp_path / "whole")


def test_the_manifest_says_what_was_made_from_what(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text()) == json.loads(json.dumps(asdict(manifest)))
    assert manifest.plan.config == {"size": 4, "tasks": ["fill"]}
    assert [shard.rows for shard in manifest.shards] == [3, 3, 3]
    assert manifest.shards[0].sha256 == contents(tmp_path)["shard-00000.parquet"]


def test_annotation_needs_no_torch() -> None:
    code = "import sys, onereward.store.shards, onereward.store.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
