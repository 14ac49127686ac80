"""The text of a run's pull request."""

from __future__ import annotations

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.record import record_of
from bot.issue_runs.services import IssueServices
from database.queries.forge.issue_runs import IssueRun
from forge.provenance.posts import compose


async def pull_request_text(
    services: IssueServices, forge: ForgeLink, run: IssueRun, words: str | None, *, key: str
) -> str:
    """Return the text of a run's pull request, with the record and a marker.

    Args:
        services: the services.
        forge: the forge.
        run: the run.
        words: what the agent wrote for it (`agent_tools.write_order.kept_description`); None: nothing.
        key: of the marker.
    """
    begin = f"For #{run.number}."
    text = begin if words is None else f"{begin}\n\n{words}"
    return compose(text, await record_of(services, run), key=key, secret=forge.marker_secret)
