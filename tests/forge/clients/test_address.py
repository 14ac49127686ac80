"""Addresses of forges that a token may be sent to."""

from __future__ import annotations

import pytest

from forge.clients.address import ForgeAddress
from forge.model.references import RepositoryName

SHOP = RepositoryName("acme", "shop")


@pytest.mark.parametrize(
    ("url", "clone_url"),
    [
        ("https://forge.example", "https://forge.example/acme/shop.git"),
        ("https://forge.example/", "https://forge.example/acme/shop.git"),
        ("https://forge.example:3000/gitea/", "https://forge.example:3000/gitea/acme/shop.git"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/acme/shop.git"),
        ("http://[::1]:3000", "http://[::1]:3000/acme/shop.git"),
        ("http://localhost:3000", "http://localhost:3000/acme/shop.git"),
    ],
)
def test_an_address_says_where_git_is(url: str, clone_url: str) -> None:
    assert ForgeAddress.parse(url).clone_url(SHOP) == clone_url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://forge.example", "others could read the token"),
        ("http://127.0.0.1.evil.example", "others could read the token"),
        ("http://10.0.0.1", "others could read the token"),
        ("forge.example", "is not a URL"),
        ("ftp://forge.example", "is not a URL"),
        ("https://", "is not a URL"),
        ("https://forge.example:port", "is not a URL"),
        ("https://[forge", "is not a URL"),
        ("https://forge.example/\nX: 1", "is not a URL"),
        ("", "is not a URL"),
        ("https://forge.example/?a=1", "has a '\\?' or '#'"),
        ("https://forge.example/a/../b", "has '.' or '..' in its path"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ForgeAddress.parse(url)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="has a user or a password in it") as error:
        ForgeAddress.parse("https://muster:hunter2@forge.example")
    assert "hunter2" not in str(error.value)
