"""The installation's key is made once, kept to its owner, and signs what only it can sign."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.signing.signing_key import SigningKey, SigningKeyUnusable, is_public_key, is_signed


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "signing-key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: SigningKey.at(file).public, range(8)))
    assert keys == {SigningKey.read(file).public}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert is_public_key(keys.pop())


def test_only_what_was_signed_is_signed() -> None:
    key, other = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
    signature = key.sign(b"words")
    assert is_signed(b"words", signature, key.public)
    assert not is_signed(b"word", signature, key.public)
    assert not is_signed(b"words", signature, other.public)
    assert not is_signed(b"words", other.sign(b"words"), key.public)


@pytest.mark.parametrize(
    "text", ["", "x", "ed25519:", "ed25519:AAAA", "ed25519:" + "A" * 44, "rsa:" + "A" * 43 + "=", "é"]
)
def test_anything_else_is_no_key_and_no_signature(text: str) -> None:
    key = SigningKey(b"k" * 32)
    assert not is_public_key(text)
    assert not is_signed(b"words", key.sign(b"words"), text)
    assert not is_signed(b"words", text, key.public)


def test_secrets_for_other_purposes_differ() -> None:
    key = SigningKey(b"k" * 32)
    assert len({key.derived("markers"), key.derived("others"), SigningKey(b"o" * 32).derived("markers")}) == 3
    assert len(key.derived("markers")) == 32


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "signing-key"
    SigningKey.at(file)
    file.chmod(0o640)
    with pytest.raises(SigningKeyUnusable, match=r"open to others \(mode 0640\).*chmod 600"):
        SigningKey.at(file)


@pytest.mark.parametrize("content", [b"", b"AAAA\n", b"\xff\xfe", b"A" * 43])
def test_a_file_with_something_else_is_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "signing-key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SigningKeyUnusable, match="holds no signing key"):
        SigningKey.at(file)
    assert file.read_bytes() == content


def test_a_missing_key_is_made_only_where_it_is_ours(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyUnusable, match="cannot be read"):
        SigningKey.read(tmp_path / "signing-key")
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningKeyUnusable, match="cannot be read or made"):
        SigningKey.at(tmp_path / "file" / "signing-key")
