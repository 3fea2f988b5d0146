"""The one place outside an output folder that is written: what took long to make and depends on content alone.

ONEREWARD_CACHE/               default: ~/.cache/onereward; may be deleted at any time
  conditions/ab/ab12...        one entry a file: the SHA-256 of its bytes, then the bytes
  references/
  runs/                        an empty file a process that uses the cache, locked while it lives

Several processes, and machines that share the folder, may use it at once.
"""

import fcntl
import hashlib
import logging
import math
import os
import secrets
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from onereward.store.files import write_atomically

logger = logging.getLogger(__name__)

FOLDER, GIGABYTES = "ONEREWARD_CACHE", "ONEREWARD_CACHE_GB"
"""The environment variables that say where it lies and how large it may become."""

_DEFAULT_GIGABYTES = 100.0
_DIGEST = hashlib.sha256().digest_size


class Shelf(StrEnum):
    """The kinds of entries, a folder each."""

    CONDITIONS = "conditions"
    REFERENCES = "references"


class _File(NamedTuple):
    """A file on a shelf, ordered by when it was used last."""

    used_ns: int
    size: int
    path: Path


def key_of(*parts: str | bytes | memoryview) -> str:
    """SHA-256 of the parts, as hexadecimal digits: other parts, another key, also where their texts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = memoryview(part.encode() if isinstance(part, str) else part)
        digest.update(f"{type(part) is str} {data.nbytes} ".encode())
        digest.update(data)
    return digest.hexdigest()


class Cache:
    """Entries of bytes by key, at most `bound` bytes of them; folder and bound default to what the environment says.

    Beyond the bound the entries used least recently go, but none that was used since the oldest run in progress began
    to use the cache. Sizes are counted after every hundredth of the bound that a process writes. Raises ValueError for
    an ONEREWARD_CACHE_GB that is no positive number.
    """

    def __init__(self, folder: Path | None = None, bound: int | None = None) -> None:
        self.folder = folder or Path(os.environ.get(FOLDER) or "~/.cache/onereward").expanduser()
        self.bound = _bound_asked() if bound is None else bound
        self._mark: Path | None = None
        self._uncounted = self.bound  # what others wrote before is counted at the first write

    def has(self, shelf: Shelf, key: str) -> bool:
        """Whether there is an entry, whole or not; it counts as used."""
        self._join_runs()
        with suppress(FileNotFoundError):
            os.utime(self._path(shelf, key))
            return True
        return False

    def get(self, shelf: Shelf, key: str) -> bytes | None:
        """An entry's bytes, None if there is none; one that is cut off or changed is removed, with a warning."""
        if not self.has(shelf, key):
            return None
        path = self._path(shelf, key)
        try:
            written = path.read_bytes()
        except FileNotFoundError:  # deleted just now
            return None
        digest, data = written[:_DIGEST], written[_DIGEST:]
        if hashlib.sha256(data).digest() == digest:
            return data
        logger.warning("%s is corrupt: it is removed and counts as missing", path)
        path.unlink(missing_ok=True)
        return None

    def put(self, shelf: Shelf, key: str, data: bytes) -> None:
        """Write an entry; raises ValueError if the runs in progress need more than the bound."""
        path, written = self._path(shelf, key), hashlib.sha256(data).digest() + data
        with self._told():
            self._join_runs()
            try:
                _write(path, written)
            except FileNotFoundError:  # the folder was deleted just now
                _write(path, written)
        self._uncounted += len(written)
        if self._uncounted > self.bound // 100:
            self._drop_excess()
            self._uncounted = 0

    def _path(self, shelf: Shelf, key: str) -> Path:
        return self.folder / shelf / key[:2] / key

    def _drop_excess(self) -> None:
        files = sorted(self._files())
        excess = sum(file.size for file in files) - self.bound
        if excess <= 0:
            return
        begun_ns = self._oldest_run()
        for file in files:
            if excess <= 0:
                return
            if file.used_ns >= begun_ns:
                needed = (excess + self.bound) / 1e9
                raise ValueError(
                    f"the cache {self.folder} may have {self.bound / 1e9:g} GB, and what the runs in progress use has "
                    f"{needed:g} GB already: set {GIGABYTES} to more, as large as the disk allows"
                )
            file.path.unlink(missing_ok=True)
            excess -= file.size

    def _files(self) -> Iterator[_File]:
        for shelf in Shelf:
            for path in (self.folder / shelf).glob("*/*"):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield _File(found.st_mtime_ns, found.st_size, path)

    def check(self) -> None:
        """Raise OSError, before there is anything to lose, if nothing can be kept there."""
        with self._told():
            self._join_runs()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the disk refuses, as an error that names the cache."""
        try:
            yield
        except OSError as error:
            reason = error.strerror.lower() if error.strerror else error
            raise OSError(
                f"nothing can be kept in the cache {self.folder} ({reason}): make room there, or name another by "
                f"{FOLDER}"
            ) from None

    def _join_runs(self) -> None:
        """Let others know that a run uses the cache from now on; the mark is renewed if the folder was deleted."""
        if self._mark is not None and self._mark.exists():
            return
        self._mark = self.folder / "runs" / secrets.token_hex(8)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._mark, os.O_CREAT | os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        weakref.finalize(self, os.close, descriptor)
        self._oldest_run()  # removes what ended runs left

    def _oldest_run(self) -> int:
        """When the oldest run in progress began, in nanoseconds; the marks of ended ones are removed."""
        begun = []
        for mark in (self.folder / "runs").glob("*"):
            with suppress(FileNotFoundError), mark.open("rb") as file:
                try:
                    if mark != self._mark:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                        mark.unlink()
                        continue
                except BlockingIOError:
                    pass
                begun.append(mark.stat().st_mtime_ns)
        return min(begun, default=0)


def _bound_asked() -> int:
    asked = os.environ.get(GIGABYTES) or str(_DEFAULT_GIGABYTES)
    try:
        gigabytes = float(asked)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise ValueError(f"got {GIGABYTES}={asked}, expected the size in GB that the cache may have, such as 100")
    return int(gigabytes * 1e9)


def _write(path: Path, data: bytes) -> None:
    """Atomically, under a name of its own first: another process may be writing the same entry."""
    own = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    write_atomically(own, data)
    own.replace(path)
