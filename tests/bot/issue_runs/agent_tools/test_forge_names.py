from __future__ import annotations

import pytest

from bot.issue_runs.agent_tools.forge_names import ForgeNames
from forge.model.references import RepositoryName

GITEA = ForgeNames.of(("https://git.example.org/gitea", "git.example.org"), RepositoryName("acme", "shop"))
GITHUB = ForgeNames.of(("https://api.github.com", "api.github.com"), RepositoryName("acme", "shop"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://git.example.org/gitea/acme/shop/issues/17", "#17"),
        ("(https://git.example.org/gitea/acme/shop/pulls/17#issuecomment-3).", "(#17)."),
        ("HTTPS://GIT.EXAMPLE.ORG/gitea/Acme/Shop/issues/17?x=y", "#17"),
        ("https://git.example.org/api/v1/repos/acme/shop/issues/17", "#17"),
        ("ssh://git@git.example.org:22/acme/shop.git", "(a page of the forge)"),
        ("https://user:token@git.example.org/acme/shop", "(a page of the forge)"),
        ("https://git.example.org/gitea/other/one/issues/17", "(a page of the forge)"),
        ("acme/shop#17 and acme/shop, acme/shop.git", "#17 and this repository, this repository"),
        ("git@git.example.org:acme/shop.git", "git@the forge:this repository"),
        ("https://git.example.org.evil.example/acme/x", "https://git.example.org.evil.example/acme/x"),
        ("my.git.example.org, acme/shopping, https://example.org/", "my.git.example.org, acme/shopping, https://example.org/"),
        ("https://git.example.org", "(a page of the forge)"),
    ],
)  # fmt: skip
def test_addresses_of_the_forge_become_numbers(text: str, shown: str) -> None:
    assert GITEA.hidden(text) == shown
    assert GITEA.hidden(shown) == shown


def test_pages_of_github_are_known_by_the_address_of_its_interface() -> None:
    assert GITHUB.hidden("https://github.com/acme/shop/pull/3 www.github.com") == "#3 the forge"
    assert GITHUB.hidden("https://api.github.com/repos/acme/shop/issues/3") == "#3"


def test_code_stays_as_it_is_but_for_addresses_of_the_repository() -> None:
    code = '+import "github.com/acme/shop/x"\n+// https://github.com/other/thing\n'
    assert GITHUB.hidden(code, is_code=True) == code
    assert GITHUB.hidden("+ https://github.com/acme/shop/issues/3", is_code=True) == "+ #3"


def test_a_long_hostile_text_takes_no_long_time() -> None:
    for piece in ("//", "https://git.example.org/", "//a@", "acme/shop#", "git.example.org"):
        GITEA.hidden(piece * 20_000)
