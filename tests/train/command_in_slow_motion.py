"""`onereward` with time to be killed: it dawdles over checkpoints; restarted, its second process comes late."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from onereward.cli.main import main
from onereward.runtime import checkpoint

A_FILE, LATE = 0.4, 2.0
"""Seconds more that each file of a checkpoint takes, and by which the second process is late."""


def slowed(write: Callable[..., Any]) -> Callable[..., Any]:
    """Write, then dawdle."""

    def slow(*arguments: Any) -> Any:
        done = write(*arguments)
        time.sleep(A_FILE)
        return done

    return slow


if __name__ == "__main__":
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        checkpoint._write_part = slowed(checkpoint._write_part)
        checkpoint._ShardWriter.write_data = slowed(checkpoint._ShardWriter.write_data)  # type: ignore[method-assign]
    elif os.environ["RANK"] == "1":
        time.sleep(LATE)
    sys.exit(main())
