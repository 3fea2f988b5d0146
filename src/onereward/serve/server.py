"""The server process: uvicorn on a socket that is bound already, ended in order by Ctrl-C or SIGTERM."""

import gc
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from onereward.serve.queue import EditQueue

_MOST_CONNECTIONS = 256
"""Further ones are answered 503, so that open connections take a bounded part of memory."""
_GRACE = 5  # seconds that a running request gets at the end


class _Server(uvicorn.Server):
    """Ends the streams of progress first, since it waits for them."""

    def __init__(self, config: uvicorn.Config, queue: EditQueue) -> None:
        super().__init__(config)
        self._queue = queue

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._queue.hang_up()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, queue: EditQueue, listener: socket.socket) -> None:
    """Answer until interrupted, which is raised again (KeyboardInterrupt) when the last request is answered."""
    gc.collect()
    gc.freeze()  # what is there stays: collections need not look at it, and are quick
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    _Server(config, queue).run(sockets=[listener])
