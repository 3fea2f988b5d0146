"""`onereward` that writes its checkpoints slowly: what a test starts in order to kill it in the middle of one."""

import sys
import time
from collections.abc import Callable
from typing import Any

from onereward.cli.main import main
from onereward.runtime import checkpoint

SECONDS = 0.5
"""What each file takes longer."""


def slowed(write: Callable[..., Any]) -> Callable[..., Any]:
    """Write, then dawdle."""

    def slow(*arguments: Any) -> Any:
        done = write(*arguments)
        time.sleep(SECONDS)
        return done

    return slow


if __name__ == "__main__":
    checkpoint._write_part = slowed(checkpoint._write_part)
    checkpoint._ShardWriter.write_data = slowed(checkpoint._ShardWriter.write_data)  # type: ignore[method-assign]
    sys.exit(main())
