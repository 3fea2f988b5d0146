"""Worker processes end with the block that started them."""

import time

import pytest

from onereward.runtime.workers import worker_processes


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_work_is_done_elsewhere() -> None:
    with worker_processes(2) as executor:
        assert list(executor.map(_sleep, [0.0, 0.1])) == [0.0, 0.1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_does_not_wait_for_the_workers(error: type[BaseException]) -> None:
    def fail() -> None:
        with worker_processes(1) as executor:
            executor.submit(_sleep, 0).result()
            executor.submit(_sleep, 600)
            raise error

    started = time.monotonic()
    with pytest.raises(error):
        fail()
    assert time.monotonic() - started < 60
