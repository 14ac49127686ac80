"""What never leaves."""

from __future__ import annotations

from pathlib import Path

from bot.config.loader import load
from bot.config.paths import Paths
from bot.config.secrets import redaction_of

SETTINGS = """\
connectors:
  matrix:
    homeserver: https://example.org
    user: "@muster:example.org"
    password: env:ROOM_WORD
accounts:
  anthropic:
    provider: anthropic
    credential: env:KEY_WORD
"""


def test_the_secrets_of_accounts_and_of_connectors_never_leave(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    paths.muster_yaml.write_text(SETTINGS)
    secrets = {"ROOM_WORD": "correct horse battery", "KEY_WORD": "tomorrow never knows"}
    redact = redaction_of(load(paths), secrets)
    assert redact("correct horse battery, tomorrow never knows") == "[redacted], [redacted]"
