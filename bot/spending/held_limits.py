"""The limits in force: of muster.yaml, of the roster and by command."""

from __future__ import annotations

from collections.abc import Mapping

from bot.egress_client.settings_push import HeldLimit, held, limits_of, replaced_by_command
from bot.pacing.services import PacingServices
from bot.text.errors import UserError
from database.queries.spending import limits_by_command
from egress.settings import LimitSettings


async def holding(services: PacingServices) -> tuple[LimitSettings, ...]:
    """Return every limit that does not belong to one launch.

    Raises:
        UserError: the roster is unreadable, and has been since Muster started.
    """
    async with services.store.read() as tx:
        given = await limits_by_command.every(tx)
    limits = limits_of(services.settings, await _roster_budgets(services), given)
    return await services.pace.enforced(limits)


async def held_now(services: PacingServices) -> tuple[HeldLimit, ...]:
    """Return the same limits as they were written, including shares of accounts' windows."""
    async with services.store.read() as tx:
        given = await limits_by_command.every(tx)
    return held(services.settings, await _roster_budgets(services), given)


async def replaced_now(services: PacingServices) -> tuple[HeldLimit, ...]:
    """Return the limits of files that do not hold, because a command set another for the same scope.

    Raises:
        UserError: the roster is unreadable, and has been since Muster started.
    """
    async with services.store.read() as tx:
        given = await limits_by_command.every(tx)
    return replaced_by_command(services.settings, await _roster_budgets(services), given)


async def _roster_budgets(services: PacingServices) -> Mapping[str, int]:
    latest = services.roster
    await latest.refresh()
    budgeted: Mapping[str, int] | None = latest.budgets
    if budgeted is None:
        # No limit is to be lifted because someone is in the middle of writing the file.
        raise UserError(f"The budgets of the roster are unknown: {latest.problem}", code="roster.invalid")
    return budgeted
