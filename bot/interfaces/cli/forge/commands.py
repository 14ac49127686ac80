"""Commands about the forge, in a shell."""

from __future__ import annotations

import os

import click

from bot.config.paths import Paths


@click.command()
@click.option("--issue", "wanted", metavar="OWNER/REPO#N", help="Say whether this issue would be picked up, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print the results for programs.")
def forge_check(wanted: str | None, as_json: bool) -> int:
    """Check the forge of muster.yaml: token, members, repositories, webhooks, labels. It fails if something is missing.

    It changes nothing, and works while Muster is down. For instance: muster forge check --issue acme/app#17
    """
    import asyncio
    import json

    from bot.config.loader import load
    from bot.issue_runs.forge_check.result import exit_status, text
    from bot.issue_runs.forge_check.service import check
    from forge.model.references import IssueReference

    paths = Paths.of(os.environ)
    settings = load(paths)
    try:
        base = "" if settings.forge is None else settings.forge.address
        issue = None if wanted is None else IssueReference.of_issue(wanted, base)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found = asyncio.run(check(paths, settings, os.environ, issue=issue))
    click.echo(json.dumps([each.to_json() for each in found], indent=2) if as_json else text(found))
    return exit_status(found)
