"""The server process: uvicorn on a socket that is bound already, ended in order by Ctrl-C or SIGTERM."""

import gc
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

_MOST_CONNECTIONS = 256
"""Further ones are answered 503, so that open connections take a bounded part of memory."""
_GRACE = 5  # seconds that a running request gets at the end


class _Server(uvicorn.Server):
    """Ends what never ends by itself first, since it waits for that."""

    def __init__(self, config: uvicorn.Config, hang_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._hang_up = hang_up

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hang_up()
        await super().shutdown(sockets)


def serve(app: FastAPI, listener: socket.socket, *, hang_up: Callable[[], None] = lambda: None) -> None:
    """Answer until interrupted, which is raised again (KeyboardInterrupt) when the last request is answered.

    `hang_up` is called first, in the event loop: it ends the streams, or tells those who wait.
    """
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
    _Server(config, hang_up).run(sockets=[listener])


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, so that a taken one is said before a large model is loaded.

    Raises ValueError for a port that there is none of, OSError for an address that cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"got --port {port}, expected 0 (any free one) to {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; name another --host or --port") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family is socket.AF_INET6 else f"http://{host}:{port}"
