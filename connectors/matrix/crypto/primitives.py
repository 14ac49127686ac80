"""Signed JSON, and messages between two devices (Olm; Client-Server API, "End-to-End Encryption").

Everything that comes in was written by someone else's device or by the homeserver, and any field may be of any type.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import vodozemac

Json: TypeAlias = dict[str, Any]

OLM = "m.olm.v1.curve25519-aes-sha2"
MEGOLM = "m.megolm.v1.aes-sha2"

#: What the library raises at something that cannot be read; all of it is a ValueError, and so is JSON that is none.
Unreadable: TypeAlias = ValueError


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKeys:
    """A device's keys, in unpadded base64."""

    ed25519: str
    """What it signs with: its fingerprint."""
    curve25519: str
    """What it is written to with."""


def public_keys(account: vodozemac.Account) -> PublicKeys:
    """Return the keys of our own device."""
    return PublicKeys(ed25519=account.ed25519_key.to_base64(), curve25519=account.curve25519_key.to_base64())


def canonical(value: Json) -> bytes:
    """Return the one spelling of an object that is signed (appendices, "Canonical JSON")."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def signed(account: vodozemac.Account, value: Json, user: str, device: str) -> Json:
    """Return the object with our device's signature."""
    signature = account.sign(canonical(value)).to_base64()
    return value | {"signatures": {user: {f"ed25519:{device}": signature}}}


def is_signed_by(value: Json, ed25519: str, user: str, device: str) -> bool:
    """Return whether that key of that device has signed the object."""
    try:
        signature = value["signatures"][user][f"ed25519:{device}"]
        unsigned = {key: item for key, item in value.items() if key not in ("signatures", "unsigned")}
        key = vodozemac.Ed25519PublicKey.from_base64(ed25519)
        key.verify_signature(canonical(unsigned), vodozemac.Ed25519Signature.from_base64(signature))
    except (Unreadable, KeyError, TypeError, RecursionError):
        return False
    return True


def device_keys(payload: object, user: str, device: str) -> PublicKeys | None:
    """Return the keys that a homeserver shows of a device, if they are its own and signed by it."""
    if not isinstance(payload, dict) or (payload.get("user_id"), payload.get("device_id")) != (user, device):
        return None
    keys = payload.get("keys")
    if not isinstance(keys, dict):
        return None
    ed25519, curve25519 = keys.get(f"ed25519:{device}"), keys.get(f"curve25519:{device}")
    if not isinstance(ed25519, str) or not isinstance(curve25519, str):
        return None
    if not is_signed_by(payload, ed25519, user, device):
        return None
    return PublicKeys(ed25519=ed25519, curve25519=curve25519)


# --- one-time keys -----------------------------------------------------------------------------------------------


def one_time_keys(account: vodozemac.Account, user: str, device: str) -> Json:
    """Our unpublished one-time keys, signed, as they are uploaded."""
    return {
        f"signed_curve25519:{key_id}": signed(account, {"key": key.to_base64()}, user, device)
        for key_id, key in account.one_time_keys.items()
    }


def fallback_keys(account: Any, user: str, device: str) -> Json:
    """Our unpublished fallback key, which serves when no one-time key is left, signed."""
    # The library's type stubs do not know of it.
    return {
        f"signed_curve25519:{key_id}": signed(account, {"key": key.to_base64(), "fallback": True}, user, device)
        for key_id, key in account.fallback_key.items()
    }


def session_to(
    account: vodozemac.Account, offered: object, keys: PublicKeys, user: str, device: str
) -> vodozemac.Session | None:
    """Return a session to a device, from the one-time key that the homeserver handed out; None if that is not
    its own."""
    key_object = next(iter(offered.values()), None) if isinstance(offered, dict) else None
    if not isinstance(key_object, dict) or not isinstance(key_object.get("key"), str):
        return None
    if not is_signed_by(key_object, keys.ed25519, user, device):
        return None
    try:
        return account.create_outbound_session(
            vodozemac.Curve25519PublicKey.from_base64(keys.curve25519),
            vodozemac.Curve25519PublicKey.from_base64(key_object["key"]),
        )
    except Unreadable:
        return None


# --- messages from device to device ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EncryptedEnvelope:
    """An encrypted message to our device, unopened."""

    sender: str
    sender_key: str
    kind: int
    """0: it begins a session, or belongs to one that the sender began; 1: it belongs to one."""
    body: str


def envelope(event: Json, ours: PublicKeys) -> EncryptedEnvelope | None:
    """Return the part of an encrypted to-device event that is for our device."""
    content, sender = event.get("content"), event.get("sender")
    if not isinstance(content, dict) or content.get("algorithm") != OLM or not isinstance(sender, str):
        return None
    sender_key, ciphertext = content.get("sender_key"), content.get("ciphertext")
    part = ciphertext.get(ours.curve25519) if isinstance(ciphertext, dict) else None
    if not isinstance(part, dict) or not isinstance(sender_key, str) or not isinstance(part.get("body"), str):
        return None
    if part.get("type") not in (0, 1):
        return None
    return EncryptedEnvelope(sender=sender, sender_key=sender_key, kind=int(part["type"]), body=part["body"])


@dataclass(frozen=True, kw_only=True, slots=True)
class OlmMessage:
    """An encrypted message to our device, opened: whoever holds `sender_key` wrote it."""

    sender: str
    sender_key: str
    ed25519: str
    """What the writer says is their fingerprint. Only their device list, which it signs, proves it."""
    kind: str
    content: Json


def letter(plaintext: bytes, cover: EncryptedEnvelope, user: str, ours: PublicKeys) -> OlmMessage | None:
    """Return what is in an opened message; None when it was written to, or by, someone else."""
    payload = json.loads(plaintext)
    if not isinstance(payload, dict):
        return None
    keys, recipients = payload.get("keys"), payload.get("recipient_keys")
    ed25519 = keys.get("ed25519") if isinstance(keys, dict) else None
    meant = recipients.get("ed25519") if isinstance(recipients, dict) else None
    if payload.get("sender") != cover.sender or payload.get("recipient") != user or meant != ours.ed25519:
        return None
    content, kind = payload.get("content"), payload.get("type")
    if not isinstance(content, dict) or not isinstance(kind, str) or not isinstance(ed25519, str):
        return None
    return OlmMessage(sender=cover.sender, sender_key=cover.sender_key, ed25519=ed25519, kind=kind, content=content)


def to_device(
    session: vodozemac.Session,
    account: vodozemac.Account,
    *,
    sender: str,
    device: str,
    recipient: str,
    recipient_keys: PublicKeys,
    kind: str,
    content: Json,
) -> Json:
    """Return the content of an encrypted to-device event. The session has moved on: it has to be kept before this is
    sent."""
    ours = public_keys(account)
    payload = {
        "sender": sender,
        "sender_device": device,
        "keys": {"ed25519": ours.ed25519},
        "recipient": recipient,
        "recipient_keys": {"ed25519": recipient_keys.ed25519},
        "type": kind,
        "content": content,
    }
    number, ciphertext = session.encrypt(canonical(payload)).to_parts()
    body = base64.b64encode(ciphertext).rstrip(b"=").decode()
    return {
        "algorithm": OLM,
        "sender_key": ours.curve25519,
        "ciphertext": {recipient_keys.curve25519: {"type": number, "body": body}},
    }


def clean(text: str) -> str:
    """Text that the store takes: JSON can bring halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def is_clean(*texts: str) -> bool:
    """Return whether the store takes all of them as they are."""
    return all(clean(text) == text for text in texts)


def unpadded(text: str) -> bytes:
    """Return the bytes of unpadded base64.

    Raises:
        ValueError: it is none.
    """
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
