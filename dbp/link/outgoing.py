"""Messages of a stream to the service, and the exception that ended them.

gRPC cancels a call whose messages raise an exception, and drops the exception.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Generic, Self, TypeVar, final

T = TypeVar("T")


@final
class Outgoing(Generic[T]):
    """Iterates messages; remembers the exception that they raise."""

    def __init__(self, messages: AsyncIterator[T]) -> None:
        self._messages = messages
        self._failure: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await anext(self._messages)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._failure = error
            raise

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the messages' own exception in place of that of the call which they ended."""
        try:
            yield
        except BaseException:
            if self._failure is not None:
                raise self._failure from None
            raise
