"""Checks on this machine: what is installed, the sandbox, and whether a signed event arrives at our listener."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp

from bot.config.approvals import DEFAULT_PRESET, Approvals
from bot.config.forge import extra
from bot.config.forge.settings import ForgeBlock
from bot.config.surfaces.web import parse_listen
from bot.issue_runs.forge_check.result import ForgeCheckResult
from core.errors import MusterError
from forge.model.references import RepositoryName
from forge.webhooks.event import ForgeEvent
from forge.webhooks.listener import PATH, WebhookError, WebhookListener

_BODY: Final = b"{}"
_PATIENCE_S: Final = 5.0


def installed(lacking: Sequence[str]) -> ForgeCheckResult:
    """Return whether what only the forge needs is installed, from the modules that are not."""
    return ForgeCheckResult(
        tried="extra `forge`",
        state="missing" if lacking else "ok",
        found=f"not installed: {', '.join(lacking)}" if lacking else "installed",
        todo=f"{extra.INSTALL}." if lacking else "",
    )


def room(rooms: Sequence[str]) -> ForgeCheckResult:
    """Return whether runs have a room for their threads, from the connectors with a main room, the fleet's first."""
    tried = "room for threads"
    if not rooms:
        todo = "Set `fleet_room` of a connector in muster.yaml. Without it nothing is picked up."
        return ForgeCheckResult(tried=tried, state="missing", found="no chat system has a main room", todo=todo)
    return ForgeCheckResult(tried=tried, state="ok", found=f"the main room of {rooms[0]}")


def default_sandbox(block: ForgeBlock, kinds: Mapping[str, str]) -> ForgeCheckResult:
    """Check the sandbox of issues that name none.

    Args:
        block: of muster.yaml.
        kinds: the kind of each profile that there is, by name.
    """
    tried = "default sandbox"
    if block.sandbox is None:
        found = "none: issues without a label muster-sandbox:NAME are refused"
        todo = "Set `forge: sandbox` in muster.yaml, unless that is what you want."
        return ForgeCheckResult(tried=tried, state="note", found=found, todo=todo)
    kind = kinds[block.sandbox]
    if kind == "none":
        found = f"{block.sandbox} isolates nothing: an agent there acts as you, on words of strangers"
        todo = "Set `forge: sandbox` to a profile that isolates."
        return ForgeCheckResult(tried=tried, state="missing", found=found, todo=todo)
    return ForgeCheckResult(tried=tried, state="ok", found=f"{block.sandbox} ({kind})")


def approvals(block: Approvals) -> ForgeCheckResult:
    """Say whether agents wait for people before each command."""
    preset = block.preset or DEFAULT_PRESET
    if preset == "sandboxed":
        return ForgeCheckResult(tried="approvals", state="ok", found=f"preset {preset}")
    todo = "Agents in a sandbox work alone with `approvals: {preset: sandboxed}` in muster.yaml."
    found = f"preset {preset}: agents wait for people, for example before they commit"
    return ForgeCheckResult(tried="approvals", state="note", found=found, todo=todo)


async def webhook(block: ForgeBlock, environ: Mapping[str, str]) -> ForgeCheckResult:
    """Send a signed event to our own address. If nobody listens there, listen for as long as it takes."""
    assert block.webhooks is not None
    tried = f"signed event to {block.webhooks.listen}"
    try:
        secret = block.webhooks.secret.resolve(environ)
        host, port = parse_listen(block.webhooks.listen)
        listener = WebhookListener(block.kind, secret, [RepositoryName("check", "check")], _nowhere, host, port)
    except MusterError as error:
        todo = "Set `forge: webhooks: secret` in muster.yaml."
        return ForgeCheckResult(tried=tried, state="missing", found=str(error), todo=todo)
    host = f"[{host}]" if ":" in host else host
    try:
        try:
            status = await _send(block, f"http://{host}:{port}{PATH}", secret)
            who = "Muster"
        except aiohttp.ClientConnectorError:
            await listener.start()
            status = await _send(block, f"http://{host}:{port}{PATH}", secret)
            who = "a listener of this check, as Muster is down,"
    except (aiohttp.ClientError, TimeoutError, OSError, WebhookError) as error:
        todo = "Look what listens there, or change `forge: webhooks: listen`."
        return ForgeCheckResult(tried=tried, state="missing", found=str(error) or "it takes too long", todo=todo)
    finally:
        await listener.stop()
    if status == 401:
        todo = "Restart Muster, so that it has the secret that muster.yaml refers to."
        return ForgeCheckResult(tried=tried, state="missing", found=f"{who} has another secret ({status})", todo=todo)
    if status != 200:
        todo = "Look what listens there, or change `forge: webhooks: listen`."
        return ForgeCheckResult(tried=tried, state="missing", found=f"status {status}", todo=todo)
    return ForgeCheckResult(tried=tried, state="ok", found=f"{who} took it")


async def _nowhere(events: Sequence[ForgeEvent]) -> None:
    del events


async def _send(block: ForgeBlock, url: str, secret: str) -> int:
    signed = hmac.new(secret.encode(), _BODY, hashlib.sha256).hexdigest()
    # An event that Muster has no use for: its signature is looked at, and nothing comes of it.
    headers = {"X-Gitea-Event": "repository", "X-Gitea-Delivery": "check", "X-Gitea-Signature": signed}
    if block.kind == "github":
        headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "check", "X-Hub-Signature-256": f"sha256={signed}"}
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
        session.post(url, data=_BODY, headers=headers, allow_redirects=False) as response,
    ):
        return response.status
