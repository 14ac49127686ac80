"""The text of a run's pull request."""

from __future__ import annotations

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.run_record import current_record
from bot.issue_runs.services import IssueServices
from database.queries.forge.issue_runs import IssueRun
from forge.provenance.posts import compose


async def pull_request_text(services: IssueServices, forge: ForgeLink, run: IssueRun, words: str, *, key: str) -> str:
    """Return the text of a run's pull request, with the record and a marker.

    Args:
        services: the services.
        forge: the forge.
        run: the run.
        words: what the agent wrote for it (`write_order.kept_description`); untrusted.
        key: of the marker.
    """
    record = await current_record(services, run)
    # An agent's own closing keywords are disarmed: it closes no other issue.
    return compose(words, record, key=key, secret=forge.marker_secret, ours=f"Closes #{run.number}")
