"""What all tests of clients run with."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _a_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a proxy that nobody listens at, as no client may use it unasked."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
