"""A real server in its own process, for tests that must not share one with it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that listens: its URL, token (if it asks for one), process and the file with what it said on stderr."""

    url: str
    token: str | None
    process: subprocess.Popen[str]
    log: Path

    def client(self) -> httpx.Client:
        """What sends requests that bear its token."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def memory(self) -> int:
        """Resident bytes of its process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def running(
    model: str, log: Path, *options: str, token: str | None = None, verb: Sequence[str] = ("serve", "--editor")
) -> Iterator[Running]:
    command = [sys.executable, "-m", "onereward", *verb, model, "--port", "0", "--json", *options]
    command += [] if token is None else ["--token", token]
    with (
        log.open("w") as errors,
        _answers_ctrl_c(),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said, log.read_text()
            yield Running(url=json.loads(said)["url"], token=token, process=process, log=log)
        finally:
            process.terminate()
            assert process.wait(20) == 130


@contextmanager
def _answers_ctrl_c() -> Iterator[None]:
    """What is started inside takes SIGINT, also where the tests themselves were told to ignore it (`nohup`, `&`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
