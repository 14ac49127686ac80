"""Rules about tools of MCP servers, and about addresses that a runtime fetches."""

from __future__ import annotations

from urllib.parse import urlsplit

from fleet.approval_rules.matching import RuleMatch
from fleet.approval_rules.rules import ApprovalRule


def mcp_matches(rule: ApprovalRule, tool: str | None, *, strict: bool) -> RuleMatch:
    """Return whether a rule is about a tool. A `strict` rule ignores the case of letters."""
    if rule.tool is None:
        return RuleMatch.YES
    if tool is None:
        return RuleMatch.MAYBE
    wanted, given = (rule.tool.casefold(), tool.casefold()) if strict else (rule.tool, tool)
    server, _, name = wanted.partition("/")
    given_server, slash, given_name = given.partition("/")
    if not slash or not given_name or not given_server:
        return RuleMatch.MAYBE
    return RuleMatch.YES if given_server == server and name in ("*", given_name) else RuleMatch.NO


def fetch_matches(rule: ApprovalRule, url: str | None, *, strict: bool) -> RuleMatch:
    """Return whether a rule is about an address. A rule that allows a host allows its usual ports alone."""
    if rule.host is None:
        return RuleMatch.YES
    host = _host(url, strict=strict)
    if host is None:
        return RuleMatch.MAYBE
    wanted = rule.host.casefold()
    if wanted.startswith("*."):
        return RuleMatch.YES if host.endswith(wanted[1:]) or (strict and host == wanted[2:]) else RuleMatch.NO
    return RuleMatch.YES if host == wanted else RuleMatch.NO


def _host(url: str | None, *, strict: bool) -> str | None:
    """Return the host of an address, or None where programs could read different ones out of it."""
    if url is None or not url.isascii() or not url.isprintable() or any(char in url for char in " \\"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if not strict and ("@" in parts.netloc or port not in (None, 80, 443)):
        return None
    return parts.hostname.rstrip(".")
