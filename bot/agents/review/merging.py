"""Merging and discarding what agents did, in threads of their own, because a project's tests take their time."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from bot.agents.services import AgentServices
from database.queries.agents.agents import AgentRow
from fleet.errors import FleetError
from fleet.sandbox.profiles import BUILT_IN, DEFAULT, SandboxProfile
from fleet.workspace import branch_merge, merge_trial
from fleet.workspace.branch_merge import Merged
from fleet.workspace.merge_trial import MergeRequest, TriedMerge

T = TypeVar("T", covariant=True)

#: How many merges are tried at a time.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="merging")


class _Act(Protocol[T]):
    def __call__(self, request: MergeRequest, *, say: Callable[[str], None], given_up: Callable[[], bool]) -> T: ...


async def request_of(
    services: AgentServices,
    row: AgentRow,
    *,
    title: str = "",
    into: str | None = None,
    squash: bool = False,
    commit: str | None = None,
) -> MergeRequest:
    """Return what is merged of an agent. What it committed last is fetched first.

    Raises:
        FleetError: it has no clone, and nothing is left of one; or its clone cannot be fetched from.
    """
    workspaces = services.planner.workspaces
    await asyncio.to_thread(workspaces.collect, row.name)
    return await asyncio.to_thread(
        functools.partial(
            workspaces.merge_request,
            row.name,
            Path(row.workspace),
            profile=_profile(services, row),
            title=title,
            into=into,
            squash=squash,
            commit=commit,
        )
    )


async def attempt(request: MergeRequest, *, say: Callable[[str], None]) -> TriedMerge | None:
    """Merge on trial (`fleet.workspace.merge_trial.attempt`)."""
    return await _in_thread(merge_trial.attempt, request, say)


async def merge(request: MergeRequest) -> Merged | None:
    """Merge on trial, and then in truth (`fleet.workspace.branch_merge.merge`)."""
    return await _in_thread(branch_merge.merge, request, lambda _: None)


async def _in_thread(act: _Act[T], request: MergeRequest, say: Callable[[str], None]) -> T:
    """Act in a thread; if the caller is cancelled, the tests are ended."""
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_THREADS, functools.partial(act, request, say=say, given_up=stop.is_set))
    except asyncio.CancelledError:
        stop.set()
        raise


def _profile(services: AgentServices, row: AgentRow) -> SandboxProfile:
    """Return the profile of an agent's sandbox; the default one if it was removed since."""
    try:
        return services.planner.profile(row.sandbox)
    except FleetError:
        return BUILT_IN[DEFAULT]
