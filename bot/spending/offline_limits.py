"""What can be known of limits without the orchestrator: from the egress, or from its ledger if it does not answer.

The egress holds the limits by itself, so they are what it counts. Pace, precedence of limits that govern nobody, and
today's use are only known to the orchestrator: they are None or empty. Nothing is changed, and no register is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from bot.config.paths import Paths
from bot.egress_client import emergency_stop
from bot.read_models.fleet import GateClosure
from bot.read_models.limits import AccountModel, AccountWindow, Enforcement, LimitLine, LimitsModel
from bot.read_models.provenance import Provenance
from bot.spending import enforcement_log
from bot.spending.enforcement_log import AuditedAction
from bot.spending.limit_lines import CountedUse, line_of, lines_of
from budget.scope_names import scope_of
from budget.windows import window_boundaries
from core.redaction import SecretMasker
from egress.daemon import sync_control_client
from egress.errors import EgressRefused, EgressUnreachable
from egress.ledger.model import Action, Observation
from egress.ledger.reader_on_disk import LedgerOnDisk
from egress.ledger.schema import LedgerUnusable
from egress.limits.agent_counter_index import SettingsRefused
from egress.limits.standing_on_disk import limits_on_disk
from egress.paths import EgressPaths
from egress.settings import EgressSettings

#: Seconds for the egress to answer.
ANSWER_S: Final = 2.0
#: Seconds back to which the log goes, and the maximum number of actions to read for it.
_LOG_S: Final = 7 * 86_400.0
_LOG_ROWS: Final = 1_000
#: Masks what looks like a secret; only the orchestrator has the known ones.
_redact: Final = SecretMasker()


def load(paths: Paths, now: float | None = None) -> LimitsModel | None:
    """Return the limits, or None if no egress ever ran here, or nothing can be read.

    Args:
        paths: the installation.
        now: seconds since the epoch; None: the clock's time.
    """
    now = time.time() if now is None else now
    places = EgressPaths(state=paths.state, sockets=paths.sockets)
    settings = _settings(places)
    if settings is None:
        return None
    standing = _asked(places)
    known = Provenance(source="none" if standing is None else "egress", at=None if standing is None else now)
    observations: Sequence[Observation] = ()
    log: tuple[Enforcement, ...] = ()
    try:
        with LedgerOnDisk.open(places.ledger) as ledger:
            if standing is None:
                standing, known = _from_ledger(ledger, settings, now), Provenance(source="ledger", at=ledger.last_at())
            observations = ledger.observations()
            log = enforcement_log.enforcements(map(_audited, ledger.actions_since(now - _LOG_S, limit=_LOG_ROWS)))
    except LedgerUnusable as error:
        if standing is None:
            return LimitsModel(at=now, pace_known=False, problem=str(error), estop=_estop(paths))
    return LimitsModel(
        at=now,
        lines=(*_lines(settings, standing, known, now), *quotas_of(observations, now)),
        enforcements=log,
        accounts=_accounts(settings, observations),
        counted=known,
        pace_known=False,
        estop=_estop(paths),
    )


def _settings(places: EgressPaths) -> EgressSettings | None:
    try:
        found = EgressSettings.model_validate_json(places.settings.read_bytes())
    except (OSError, ValidationError):
        return None
    return found.without_lifts(lambda until: until <= time.time())


def _asked(places: EgressPaths) -> Mapping[str, Any] | None:
    """Return the state of admission control, or None if the egress does not answer."""
    try:
        return sync_control_client.request(places.control, "GET", "/standing", timeout_s=ANSWER_S)
    except (EgressUnreachable, EgressRefused):
        return None


def _from_ledger(ledger: LedgerOnDisk, settings: EgressSettings, now: float) -> Mapping[str, Any] | None:
    try:
        return {"limits": limits_on_disk(settings, ledger.agents(), ledger.used_since, now)}
    except SettingsRefused:
        return None


def _lines(
    settings: EgressSettings, standing: Mapping[str, Any] | None, known: Provenance, now: float
) -> list[LimitLine]:
    written = [each.model_dump() for each in settings.limits]
    found = [_dated(each) for each in lines_of(written, standing, {}, {}, now, known=known)]
    # The egress counts a share of an account's window in tokens.
    for each in () if standing is None else standing["limits"]:
        if (account := each.get("account")) is not None:
            count = CountedUse(used=each["used"], reserved=each["reserved"])
            line = line_of({**each, "amount": each["limit"] - each.get("lift", 0)}, count, {}, now, known)
            length = window_boundaries.in_words(each["window"]) if each["window"] else "all"
            found.append(_dated(replace(line, window=f"{account}/{length}", reset_source="estimated")))
    return found


def _dated(line: LimitLine) -> LimitLine:
    """Add to a limit that only the ledger knows the time of its last entry."""
    return replace(line, seen_at=line.known.at) if line.known.source == "ledger" else line


def quotas_of(observations: Iterable[Observation], now: float) -> list[LimitLine]:
    """Return the windows of subscriptions as their providers reported them. What was used since is unknown."""
    found = []
    for each in observations:
        if each.used is None or each.window_s is None:
            # A request limit per minute, or a provider's status of all windows together.
            continue
        over = each.reset_at is not None and each.reset_at <= now
        found.append(
            LimitLine(
                scope=f"account:{each.account}",
                agent=None,
                kind="quota",
                limit=1.0,
                unit="share",
                window=each.window,
                # A report about a past window says nothing about the current one.
                resets_at=None if over else each.reset_at,
                reset_source="unknown" if over or each.reset_at is None else "provider",
                policy="provider",
                state="used up" if each.used >= 1 and not over else None,
                at_least=None if over else max(0.0, each.used),
                seen_at=each.seen_at,
                known=Provenance(source="provider", at=each.seen_at),
            )
        )
    return found


def _accounts(settings: EgressSettings, observations: Sequence[Observation]) -> tuple[AccountModel, ...]:
    providers = {each.name: str(each.provider) for each in settings.accounts}
    seen: dict[str, list[Observation]] = {name: [] for name in providers}
    for each in observations:
        seen.setdefault(each.account, []).append(each)
    return tuple(
        AccountModel(
            name=name,
            provider=providers.get(name) or rows[0].provider,
            windows=tuple(
                AccountWindow(
                    name=each.window,
                    used=each.used,
                    limit=each.limit,
                    remaining=each.remaining,
                    resets_at=each.reset_at,
                    length_s=each.window_s,
                    status=each.status,
                    seen_at=each.seen_at,
                    host=settings.host,
                )
                for each in rows
            ),
        )
        for name, rows in sorted(seen.items())
    )


def _audited(action: Action) -> AuditedAction:
    scope, why = action.detail.get("scope"), action.detail.get("why")
    about = {"scope": scope_of(str(action.detail.get("kind")), scope), "why": why} if isinstance(scope, str) else {}
    return AuditedAction(
        at=action.at,
        identity=action.by,
        door="egress",
        action=action.action,
        arguments={"agent": action.agent, **about},
        why=_redact(action.cause) or None,
    )


def _estop(paths: Paths) -> GateClosure | None:
    if not emergency_stop.is_pulled(paths.state):
        return None
    return GateClosure(kind="estop", by=emergency_stop.pulled_by(paths.state), at=emergency_stop.pulled_at(paths.state))
