"""The masking of patterns and of configured secrets in all output."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from bot.config.loader import Settings
from core.errors import MusterError
from core.redaction import SecretMasker
from core.secret_references import Reference


def redaction_of(settings: Settings, environ: Mapping[str, str]) -> SecretMasker:
    """Build the masker of the configured patterns and of the secrets that the settings refer to."""
    return SecretMasker(known=secrets_of(settings, environ), extra=tuple(settings.redaction.patterns))


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> frozenset[str]:
    """Return the secrets that the settings refer to, without those that cannot be resolved."""
    known = set()
    references = [account.credential for account in settings.accounts.values()]
    references += [settings.register_password, settings.metrics.token]
    if (forge := settings.forge) is not None:
        references += [forge.token, None if forge.webhooks is None else forge.webhooks.secret]
    references += settings.traces.headers.values() if settings.traces is not None else ()
    for connector in settings.connectors:
        references += [getattr(connector.settings, name) for name in type(connector.settings).model_fields]
    for reference in references:
        if isinstance(reference, Reference):
            with contextlib.suppress(MusterError):
                known.add(reference.resolve(environ))
    return frozenset(known)
