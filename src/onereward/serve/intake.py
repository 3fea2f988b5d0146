"""How bodies are taken in: few at a time, in few threads, and not for ever, so that memory is bounded."""

import asyncio
import gc
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.exceptions import HTTPException

from onereward.serve.forms import media_type
from onereward.web.shell import plain

BODY_SECONDS = 60.0

_BODIES_AT_ONCE = 8
"""Bodies read at a time; others wait in their sockets."""
_THREADS = 2
"""Threads that read bodies and pictures: the allocator keeps some memory for each that ever held a large one."""

_Asked = TypeVar("_Asked")
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Intake:
    """Reads the bodies of one app: what is asked is made of them, and something of that, both in a thread."""

    def __init__(self) -> None:
        self._bodies = asyncio.Semaphore(_BODIES_AT_ONCE)
        self._threads = CapacityLimiter(_THREADS)

    async def take(
        self,
        request: Request,
        *,
        of_json: Callable[[bytes], _Asked],
        of_form: Callable[[bytes, bytes], _Asked],
        then: Callable[[_Asked], _Made],
    ) -> _Made:
        """What `then` makes of the request's body of JSON, or form (body and boundary).

        Raises HTTPException: 408 for a body that does not come, 415 for another type, 422 for a ValueError.
        """
        async with self._bodies:
            gc.collect()  # a refused body hangs on its error, in a cycle, until somebody looks
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    asked = await self._asked(request, of_json, of_form)
                return await self._in_thread(then, asked)
            except TimeoutError:
                raise HTTPException(
                    408, f"the body took over {BODY_SECONDS:.0f} seconds: send a smaller picture"
                ) from None
            except ValueError as error:
                raise HTTPException(422, plain(error)) from None

    async def _asked(
        self, request: Request, of_json: Callable[[bytes], _Asked], of_form: Callable[[bytes, bytes], _Asked]
    ) -> _Asked:
        kind, boundary = media_type(request.headers.get("content-type"))
        if kind == "application/json":
            return await self._in_thread(of_json, await request.body())
        if kind == "multipart/form-data":
            return await self._in_thread(lambda body: of_form(body, boundary), await request.body())
        raise HTTPException(415, "send the body as application/json or as multipart/form-data")

    async def _in_thread(self, work: Callable[[_Given], _Made], given: _Given) -> _Made:
        made: _Made = await to_thread.run_sync(work, given, limiter=self._threads)
        return made
