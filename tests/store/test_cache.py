"""The cache: bounded, least recently used first, never a running one's; corrupt or deleted files are just missing."""

import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onereward.store.cache import Cache, Shelf, key_of

A, B, C, D = (key_of(letter) for letter in "abcd")
ENTRY = 100  # bytes of data; 32 more are the checksum


def age(cache: Cache, key: str, seconds: int) -> None:
    os.utime(next(cache.folder.glob(f"*/*/{key}")), (seconds, seconds))


def kept(cache: Cache) -> set[str]:
    return {path.name for path in (cache.folder / "conditions").glob("*/*")}


def filled(folder: Path, bound: int) -> Cache:
    """A and B of an earlier run, A used last."""
    cache = Cache(folder, bound)
    for key, used in ((A, 2_000), (B, 1_000)):
        cache.put(Shelf.CONDITIONS, key, bytes(ENTRY))
        age(cache, key, used)
    return cache


def test_what_is_put_is_found_under_its_key_and_shelf_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.get(Shelf.CONDITIONS, A) is None and not cache.has(Shelf.CONDITIONS, A)
    cache.put(Shelf.CONDITIONS, A, b"")
    cache.put(Shelf.CONDITIONS, B, b"old")
    cache.put(Shelf.CONDITIONS, B, b"new")
    again = Cache(tmp_path / "cache")
    assert again.get(Shelf.CONDITIONS, A) == b"" and again.get(Shelf.CONDITIONS, B) == b"new"
    assert again.has(Shelf.CONDITIONS, A) and not again.has(Shelf.REFERENCES, A)


def test_keys_tell_parts_and_types_apart() -> None:
    same = key_of("ab", b"c"), key_of("ab", memoryview(b"c"))
    others = key_of("a", "bc"), key_of("abc"), key_of("ab", "c"), key_of(b"ab", b"c"), key_of("ab", b"c", "")
    assert same[0] == same[1] and len({same[0], *others}) == 6 and len(same[0]) == 64


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:10], lambda data: data[:-1] + b"!"])
def test_a_corrupt_entry_is_removed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: "type[bytes]"
) -> None:
    cache = Cache(tmp_path)
    cache.put(Shelf.CONDITIONS, A, b"a whole entry")
    path = next(tmp_path.glob(f"*/*/{A}"))
    path.write_bytes(spoil(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.get(Shelf.CONDITIONS, A) is None
    assert f"{path} is corrupt" in caplog.text and not path.exists()
    cache.put(Shelf.CONDITIONS, A, b"made again")
    assert cache.get(Shelf.CONDITIONS, A) == b"made again"


def test_it_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put(Shelf.CONDITIONS, A, b"1")
    shutil.rmtree(cache.folder)
    assert cache.get(Shelf.CONDITIONS, A) is None
    shutil.rmtree(cache.folder)
    cache.put(Shelf.CONDITIONS, A, b"2")
    assert cache.get(Shelf.CONDITIONS, A) == b"2"


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    filled(tmp_path, 3 * 132)
    later = Cache(tmp_path, 3 * 132)
    later.put(Shelf.CONDITIONS, C, bytes(ENTRY))
    assert kept(later) == {A, B, C}
    later.put(Shelf.CONDITIONS, D, bytes(ENTRY))
    assert kept(later) == {A, C, D}


def test_reading_counts_as_use(tmp_path: Path) -> None:
    cache = filled(tmp_path, 3 * 132)
    cache.put(Shelf.CONDITIONS, C, bytes(ENTRY))
    assert cache.has(Shelf.CONDITIONS, B)
    cache.put(Shelf.CONDITIONS, D, bytes(ENTRY))
    assert kept(cache) == {B, C, D}


def test_a_run_that_needs_more_than_the_bound_is_told_what_to_raise(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2 * 132)
    cache.put(Shelf.CONDITIONS, A, bytes(ENTRY))
    cache.put(Shelf.REFERENCES, B, bytes(ENTRY))
    with pytest.raises(ValueError, match=r"may have 2.64e-07 GB.* has 3.96e-07 GB.*ONEREWARD_CACHE_GB to more"):
        cache.put(Shelf.CONDITIONS, C, bytes(ENTRY))


_RUN = """
import sys
from pathlib import Path
from onereward.store.cache import Cache, Shelf
cache = Cache(Path(sys.argv[1]))
assert cache.has(Shelf.CONDITIONS, sys.argv[2])
print(flush=True)
sys.stdin.read()
"""


def test_another_run_s_entries_are_kept_until_it_ends_even_if_it_is_killed(tmp_path: Path) -> None:
    filled(tmp_path, 2 * 132)
    command = [sys.executable, "-c", _RUN, str(tmp_path), A]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None and other.stdout is not None
    other.stdout.readline()
    time.sleep(0.02)  # a file's time goes in ticks
    cache = Cache(tmp_path, 2 * 132)
    cache.put(Shelf.CONDITIONS, C, bytes(ENTRY))
    assert kept(cache) == {A, C}
    with pytest.raises(ValueError, match="what the runs in progress use"):
        cache.put(Shelf.CONDITIONS, D, bytes(ENTRY))
    other.kill()
    other.communicate()
    cache.put(Shelf.CONDITIONS, D, bytes(ENTRY))
    assert kept(cache) == {C, D}
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_many_may_write_one_entry_at_once(tmp_path: Path) -> None:
    data = os.urandom(200_000)

    def write_and_read(_: int) -> bool:
        cache = Cache(tmp_path)
        cache.put(Shelf.REFERENCES, A, data)
        return cache.get(Shelf.REFERENCES, A) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write_and_read, range(64)))
    assert [path.name for path in (tmp_path / "references").glob("*/*")] == [A]


def test_the_environment_says_where_and_how_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEREWARD_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("ONEREWARD_CACHE_GB", "1.5")
    assert (Cache().folder, Cache().bound) == (tmp_path / "here", 1_500_000_000)
    monkeypatch.delenv("ONEREWARD_CACHE")
    monkeypatch.delenv("ONEREWARD_CACHE_GB")
    assert (Cache().folder, Cache().bound) == (Path.home() / ".cache" / "onereward", 100_000_000_000)
    for wrong in ("much", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("ONEREWARD_CACHE_GB", wrong)
        with pytest.raises(ValueError, match=f"ONEREWARD_CACHE_GB={wrong}, expected"):
            Cache()
