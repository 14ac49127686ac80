"""Wait for what no event tells."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(look: Callable[[], Awaitable[T | None]], *, limit: float = ...) -> T: ...
@overload
async def until(look: Callable[[], T | None], *, limit: float = ...) -> T: ...
@overload
async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], object], *, limit: float = ...) -> T: ...
@overload
async def until(look: Callable[[], T], holds: Callable[[T], object], *, limit: float = ...) -> T: ...
async def until(look: Callable[[], Any], holds: Callable[[Any], object] = bool, *, limit: float = 30.0) -> Any:
    """Look again and again until what is seen holds, and return it.

    Args:
        look: sees something; what it returns may have to be awaited.
        holds: whether that is it; without it, what is true.
        limit: seconds.

    Raises:
        TimeoutError: it never held; the message has what was seen last.
    """
    seen: Any = None
    try:
        async with asyncio.timeout(limit) as time:
            while True:
                found = look()
                seen = await found if inspect.isawaitable(found) else found
                if holds(seen):
                    return seen
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        if not time.expired():
            raise
        raise TimeoutError(f"It did not come to that within {limit:g} s. Seen last: {seen!r}") from error
