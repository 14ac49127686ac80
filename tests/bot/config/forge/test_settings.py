"""`forge` in muster.yaml: what is not safe or says nothing is refused with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bot.config.forge.settings import ForgeBlock
from bot.config.loader import load
from bot.config.paths import Paths
from bot.config.secrets import redaction_of
from bot.text.errors import ConfigError

GITEA: dict[str, object] = {
    "kind": "gitea",
    "url": "https://git.example.org/",
    "token": "env:FORGE_WORD",
    "organization": "acme",
    "repositories": ["acme/app"],
}
WEBHOOKS = {"secret": "env:HOOK_WORD"}


def test_without_webhooks_muster_looks_itself() -> None:
    forge = ForgeBlock.model_validate(GITEA)
    assert (forge.address, forge.listens, forge.every) == ("https://git.example.org", False, 60.0)


def test_with_webhooks_it_looks_for_what_was_lost() -> None:
    forge = ForgeBlock.model_validate(GITEA | {"webhooks": WEBHOOKS})
    assert (forge.listens, forge.every) == (True, 600.0)
    assert not ForgeBlock.model_validate(GITEA | {"webhooks": WEBHOOKS, "mode": "poll"}).listens


def test_github_is_found_by_itself() -> None:
    without = {key: value for key, value in GITEA.items() if key != "url"}
    assert ForgeBlock.model_validate(without | {"kind": "github"}).address == "https://github.com"


def test_a_forge_on_this_machine_needs_no_tls() -> None:
    assert ForgeBlock.model_validate(GITEA | {"url": "http://127.0.0.1:3000"}).address == "http://127.0.0.1:3000"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"url": None}, "found no url"),
        ({"url": "http://git.example.org"}, "https:// first"),
        ({"url": "https://ana:word@git.example.org"}, "not a plain URL"),
        ({"token": "abcdef"}, "env:NAME"),
        ({"organization": "acme/app"}, "is no repository"),
        ({"organization": ""}, "is no repository"),
        ({"repositories": []}, "at least 1"),
        ({"repositories": ["app"]}, "Write it as owner/repo"),
        ({"repositories": ["acme/app", "Acme/App"]}, "twice"),
        ({"mode": "webhook"}, "without a block `webhooks`"),
        ({"webhooks": WEBHOOKS | {"listen": "0.0.0.0:80"}}, "an address of this machine"),
        ({"webhooks": {}}, "secret"),
        ({"poll": "1s"}, "greater than or equal to 5"),
        ({"repositories": ["acme/app", "other/App"], "pushes": {"fork": True}}, "two repositories of one name"),
        ({"ca_file": "ca.pem"}, "absolute path"),
        ({"pushes": {"author": "nobody"}}, "match pattern"),
        ({"pushes": {"authors": {"coder": "nobody"}}}, "match pattern"),
        ({"tokens": "env:X"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(block: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ForgeBlock.model_validate(GITEA | block)


def _paths(folder: Path, sandbox: str) -> Paths:
    paths = Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})
    paths.prepare()
    paths.muster_yaml.write_text(
        "forge:\n  kind: github\n  token: env:FORGE_WORD\n  organization: acme\n  repositories: [acme/app]\n"
        f"  sandbox: {sandbox}\n  webhooks:\n    secret: env:HOOK_WORD\n"
    )
    return paths


def test_its_secrets_never_leave(tmp_path: Path) -> None:
    secrets = {"FORGE_WORD": "correct horse battery", "HOOK_WORD": "tomorrow never knows"}
    redact = redaction_of(load(_paths(tmp_path, "bubblewrap")), secrets)
    assert redact("correct horse battery, tomorrow never knows") == "[redacted], [redacted]"


def test_an_unknown_sandbox_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bubblewarp"):
        load(_paths(tmp_path, "bubblewarp"))
