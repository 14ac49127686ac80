"""`web` in muster.yaml: what is not safe is refused with a way out."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bot.config.surfaces.web import WebBlock
from bot.interfaces.web.settings import addresses


def test_by_default_it_is_this_machine_by_both_of_its_names() -> None:
    where = addresses(WebBlock())
    assert where.url == "http://127.0.0.1:8475"
    assert where.hosts == {"127.0.0.1:8475", "localhost:8475"}
    assert where.origins == {"http://127.0.0.1:8475", "http://localhost:8475"}
    assert (where.secure, where.session_cookie) == (False, "muster-session")
    assert addresses(WebBlock(listen="[::1]:90")).hosts == {"[::1]:90", "localhost:90"}


def test_behind_a_proxy_it_has_one_name_and_safe_cookies() -> None:
    where = addresses(WebBlock(url="https://Muster.example.org/", behind_proxy=True))
    assert where.url == "https://muster.example.org"
    assert where.hosts == {"muster.example.org"}
    assert where.origins == {"https://muster.example.org"}
    assert (where.session_cookie, where.login_cookie) == ("__Host-muster-session", "__Host-muster-login")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"listen": "0.0.0.0:8475"}, "this machine only"),
        ({"listen": "192.0.2.7:80"}, "this machine only"),
        ({"listen": "[::]:80"}, "this machine only"),
        ({"listen": "8475"}, "an address and a port"),
        ({"listen": "127.0.0.1:99999"}, "an address and a port"),
        ({"listen": "127.0.0.1:80/x"}, "an address and a port"),
        ({"url": "https://muster.example.org"}, "behind_proxy: true"),
        ({"url": "http://muster.example.org"}, "without TLS"),
        ({"url": "https://muster.example.org/path"}, "without a path"),
        ({"url": "https://ana@muster.example.org"}, "without a path"),
        ({"url": "javascript:alert(1)"}, "without a path"),
        ({"port": 1}, "Extra inputs"),
    ],
)
def test_what_is_not_safe_is_refused(block: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        WebBlock.model_validate(block)
