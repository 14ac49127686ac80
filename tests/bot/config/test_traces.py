"""`traces` in muster.yaml: what is not safe is refused with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bot.config.loader import load
from bot.config.paths import Paths
from bot.config.secrets import secrets_of
from bot.config.telemetry import TracesBlock


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
        ("https://collector.example.org/otlp/v1/traces", "https://collector.example.org/otlp/v1/traces"),
    ],
)
def test_an_address_without_a_path_gets_one(given: str, used: str) -> None:
    assert TracesBlock(endpoint=given).endpoint == used


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({}, "Field required"),
        ({"endpoint": "http://collector.example.org:4318"}, "write https://"),
        ({"endpoint": "http://192.0.2.7:4318"}, "write https://"),
        ({"endpoint": "http://localhost:4318"}, "http://127.0.0.1:4318"),
        ({"endpoint": "https://key@collector.example.org"}, "holds a user"),
        ({"endpoint": "https://x", "headers": {"Authorization": "Bearer abc"}}, "must not contain secrets"),
        ({"endpoint": "https://x", "headers": {"a b": "env:A"}}, "the name of a header"),
        ({"endpoint": "https://x", "headers": {"Content-Type": "env:A"}}, "Muster itself sets"),
        ({"endpoint": "https://x", "sample": 1.5}, "less than or equal to 1"),
        ({"endpoint": "https://x", "sample": float("nan")}, "less than or equal to 1"),
        ({"endpoint": "https://x", "rate": 1}, "Extra inputs"),
    ],
)
def test_what_is_not_safe_is_refused(block: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TracesBlock.model_validate(block)


def test_secrets_of_headers_are_masked(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    paths.muster_yaml.write_text("traces:\n  endpoint: https://collector.example.org\n  headers: {X-Key: env:KEY}\n")
    settings = load(paths)
    assert "a-secret-key-of-a-collector" in secrets_of(settings, {"KEY": "a-secret-key-of-a-collector"})
