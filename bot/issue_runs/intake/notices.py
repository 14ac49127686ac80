"""Comments of Muster itself on an issue or pull request, as orders: each is posted once."""

from __future__ import annotations

import hashlib
from typing import Final

import structlog

from bot.issue_runs.forge_link import ForgeLink
from database.queries.forge.forge_orders import ForgeOrder
from forge.cleaning.markdown import clean_markdown
from forge.model.errors import ForgeAway, ForgeError
from forge.model.references import IssueReference
from forge.provenance import markers
from forge.runs.order_book import ActAgain, Acted

#: The kind of these orders. Registers contain the name, so it never changes.
NOTICE: Final = "notice"
#: After so many tries in vain, ten minutes apart, a notice is given up.
_MOST_TRIES: Final = 36

_log = structlog.get_logger("forge.notices")


def notice(link: ForgeLink, at: IssueReference, reason: str, text: str, *, now: float, run: str = "") -> ForgeOrder:
    """Return the order of a comment. It is posted once per reason and issue, or once per reason and run.

    Args:
        link: the forge.
        at: the issue or pull request.
        reason: a stable word.
        text: Markdown.
        now: seconds since the epoch.
        run: the run that it belongs to, if there is one.
    """
    name = f"{link.host}\0{run or str(at).lower()}\0{reason}"
    key = f"notice-{hashlib.blake2s(name.encode(), digest_size=16).hexdigest()}"
    given = {"at": str(at), "text": text}
    return ForgeOrder(key=key, run=run, kind=NOTICE, input=given, try_at=now, created_at=now)


async def post(link: ForgeLink, order: ForgeOrder) -> Acted:
    """Post the comment of an order, unless it is there.

    Raises:
        ForgeError: it cannot be posted now.
    """
    at = IssueReference.parse(order.input["at"])
    us = (await link.whoami()).account
    comments = await link.client.read_comments(at)
    if markers.find(comments, order.key, link.marker_secret, us.id) is None:
        text = clean_markdown(order.input["text"])
        await link.client.post_comment(at, markers.mark(text, order.key, link.marker_secret))
    return Acted("posted")


async def act(link: ForgeLink, order: ForgeOrder) -> Acted | ActAgain:
    """Act on an order if it is a notice. One that the forge refuses for long is given up: nothing depends on it.

    Raises:
        ForgeAway: the forge does not respond.
    """
    if order.kind != NOTICE:
        return ActAgain("Nothing here acts on orders of this kind.")
    try:
        return await post(link, order)
    except ForgeAway:
        raise
    except ForgeError as error:
        _log.warning("forge.notice_refused", order=order.key, reason=str(error))
        return Acted("refused") if order.tries >= _MOST_TRIES else ActAgain(str(error))
