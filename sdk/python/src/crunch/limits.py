"""Limits and groups of queues, of a blocking and of an asyncio client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crunch.api.limits import LimitCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from typing_extensions import Unpack

    from crunch.aio import AsyncClient
    from crunch.api.limits import (
        GroupInfo,
        LimitInfo,
        LimitOptions,
        QueueLimitOptions,
        RuleInfo,
        RuleOptions,
    )
    from crunch.client import Client


class Limits:
    """The limits and groups of queues, as a blocking client sees them.

    What is set replaces what was set before, and applies at once. Changes need the scope `admin`.
    """

    def __init__(self, client: Client) -> None:
        self._client: Final = client
        self._limits: Final = LimitCalls(client._calls)

    def all(self) -> Iterator[LimitInfo]:
        """List the limits that queues share, by name."""
        return self._client._stream(self._limits.all())

    def get(self, name: str) -> LimitInfo:
        """Return a limit that queues share."""
        return self._client._run(self._limits.get(name))

    def put(self, name: str, **options: Unpack[LimitOptions]) -> LimitInfo:
        """Set a limit that queues may share."""
        return self._client._run(self._limits.put(name, options))

    def delete(self, name: str) -> list[str]:
        """Remove a limit that queues share; return these queues."""
        return self._client._run(self._limits.delete(name))

    def of_queue(self, queue: str) -> LimitInfo:
        """Return the limit of a queue; raise `NotFound` if it has none."""
        return self._client._run(self._limits.of_queue(queue))

    def put_of_queue(self, queue: str, **options: Unpack[QueueLimitOptions]) -> LimitInfo:
        """Set the limit of a queue, and which limits it shares."""
        return self._client._run(self._limits.put_of_queue(queue, options))

    def delete_of_queue(self, queue: str) -> None:
        """Remove the limit of a queue."""
        self._client._run(self._limits.delete_of_queue(queue))

    def groups(self, queue: str) -> Iterator[GroupInfo]:
        """List the groups of a queue, the one whose turn is next first."""
        return self._client._stream(self._limits.groups(queue))

    def rule_of_each(self, queue: str) -> RuleInfo | None:
        """Return the rule of each group without one of its own."""
        return self._client._run(self._limits.rule_of_each(queue))

    def put_rule(
        self, queue: str, group: str | None = None, **options: Unpack[RuleOptions]
    ) -> RuleInfo:
        """Set the rule of a group; without `group`, that of each without one of its own."""
        return self._client._run(self._limits.put_rule(queue, group, options))

    def delete_rule(self, queue: str, group: str | None = None) -> None:
        """Remove the rule of a group; without `group`, that of each."""
        self._client._run(self._limits.delete_rule(queue, group))


class AsyncLimits:
    """The limits and groups of queues, as an asyncio client sees them.

    What is set replaces what was set before, and applies at once. Changes need the scope `admin`.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client: Final = client
        self._limits: Final = LimitCalls(client._calls)

    def all(self) -> AsyncIterator[LimitInfo]:
        """List the limits that queues share, by name."""
        return self._client._stream(self._limits.all())

    async def get(self, name: str) -> LimitInfo:
        """Return a limit that queues share."""
        return await self._client._run(self._limits.get(name))

    async def put(self, name: str, **options: Unpack[LimitOptions]) -> LimitInfo:
        """Set a limit that queues may share."""
        return await self._client._run(self._limits.put(name, options))

    async def delete(self, name: str) -> list[str]:
        """Remove a limit that queues share; return these queues."""
        return await self._client._run(self._limits.delete(name))

    async def of_queue(self, queue: str) -> LimitInfo:
        """Return the limit of a queue; raise `NotFound` if it has none."""
        return await self._client._run(self._limits.of_queue(queue))

    async def put_of_queue(self, queue: str, **options: Unpack[QueueLimitOptions]) -> LimitInfo:
        """Set the limit of a queue, and which limits it shares."""
        return await self._client._run(self._limits.put_of_queue(queue, options))

    async def delete_of_queue(self, queue: str) -> None:
        """Remove the limit of a queue."""
        await self._client._run(self._limits.delete_of_queue(queue))

    def groups(self, queue: str) -> AsyncIterator[GroupInfo]:
        """List the groups of a queue, the one whose turn is next first."""
        return self._client._stream(self._limits.groups(queue))

    async def rule_of_each(self, queue: str) -> RuleInfo | None:
        """Return the rule of each group without one of its own."""
        return await self._client._run(self._limits.rule_of_each(queue))

    async def put_rule(
        self, queue: str, group: str | None = None, **options: Unpack[RuleOptions]
    ) -> RuleInfo:
        """Set the rule of a group; without `group`, that of each without one of its own."""
        return await self._client._run(self._limits.put_rule(queue, group, options))

    async def delete_rule(self, queue: str, group: str | None = None) -> None:
        """Remove the rule of a group; without `group`, that of each."""
        await self._client._run(self._limits.delete_rule(queue, group))
