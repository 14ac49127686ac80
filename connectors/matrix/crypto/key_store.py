"""Where keys are kept: one SQLite file, in which every secret is encrypted with the pickle key.

All of it is read and written by one thread. What belongs together is one transaction, so that a process that is killed
anywhere finds either the message opened with its key kept, or neither; nothing is held in memory that could disagree.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias

import vodozemac

from connectors.contract.connector_protocol import DeviceState
from connectors.matrix.crypto.primitives import PublicKeys
from core.crash_points import around, declare

Json: TypeAlias = dict[str, Any]

#: Messages from device to device that are remembered, so that one that comes again is known for that.
_HANDLED = 20_000
#: Sessions with devices, and keys of group sessions, that are kept at most.
OLM_SESSIONS = 50_000
ROOM_KEYS = 100_000
#: Messages that wait for their key; the oldest are given up first.
UNREAD = 1_000

COMMIT = declare("matrix.keys")

_TABLES = """
CREATE TABLE IF NOT EXISTS account (
    one INTEGER PRIMARY KEY CHECK (one = 1), user_id TEXT NOT NULL, device_id TEXT NOT NULL,
    pickle TEXT NOT NULL, published INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS olm_sessions (
    session_id TEXT PRIMARY KEY, sender_key TEXT NOT NULL, pickle TEXT NOT NULL,
    created_at REAL NOT NULL, used_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS olm_sessions_by_key ON olm_sessions (sender_key, used_at);
CREATE TABLE IF NOT EXISTS room_keys (
    room_id TEXT NOT NULL, session_id TEXT NOT NULL, sender_key TEXT NOT NULL, ed25519 TEXT NOT NULL,
    pickle TEXT NOT NULL, kept_at REAL NOT NULL, PRIMARY KEY (room_id, session_id, sender_key)
);
CREATE TABLE IF NOT EXISTS devices (
    user_id TEXT NOT NULL, device_id TEXT NOT NULL, ed25519 TEXT NOT NULL, curve25519 TEXT NOT NULL,
    name TEXT NOT NULL, gone INTEGER NOT NULL, standing TEXT NOT NULL, seen_at REAL NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
CREATE TABLE IF NOT EXISTS encrypted_rooms (room_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS handled (number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS message_places (
    room_id TEXT NOT NULL, session_id TEXT NOT NULL, sender_key TEXT NOT NULL, place INTEGER NOT NULL,
    event_id TEXT NOT NULL, PRIMARY KEY (room_id, session_id, sender_key, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (
    number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, room_id TEXT NOT NULL, session_id TEXT NOT NULL,
    event TEXT NOT NULL, kept_at REAL NOT NULL, told INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS asked (room_id TEXT NOT NULL, session_id TEXT NOT NULL, PRIMARY KEY (room_id, session_id));
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDevice:
    """A device as it is pinned."""

    user: str
    id: str
    keys: PublicKeys
    name: str
    gone: bool
    """Whether its owner logged it out."""
    standing: DeviceState


class Telling(IntEnum):
    """What someone has to be told of a device. As it is kept: what is less goes first."""

    BACK = -1
    """It was logged out, and is shown again."""
    NEWS = 0
    """It is new, or other keys came under its name."""
    NOTHING = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Untold:
    """A device of which someone has to be told."""

    device: KnownDevice
    back: bool
    since: float
    """When it came about: what is told again later is told for another reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomKey:
    """What opens the messages of one group session, and from whom it came."""

    session: vodozemac.InboundGroupSession
    sender_key: str
    ed25519: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UndecryptedMessage:
    """A message that waits for its key."""

    number: int
    room: str
    session_id: str
    event: Json
    kept_at: float
    told: bool


class KeyStore:
    """The file. For one thread: the one that made this."""

    def __init__(self, file: Path, pickle_key: bytes, *, busy_s: float = 5.0) -> None:
        """Open it, and make it if it is not there.

        Args:
            file: where it is.
            pickle_key: encrypts the secrets in it.
            busy_s: seconds for which it waits while another connection reads or writes.

        Raises:
            sqlite3.Error: it is broken.
            OSError: it cannot be read or made.
        """
        self._key = pickle_key
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(file, timeout=busy_s, isolation_level=None)
        try:
            self._db.execute("PRAGMA secure_delete = ON")
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
            self._db.executescript(_TABLES)
            self._take_over_places()
        except BaseException:
            self._db.close()
            raise

    def _take_over_places(self) -> None:
        """Those of earlier versions told neither rooms nor senders apart: each is one of all that its session has."""
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'places'").fetchone() is None:
            return
        with self.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO message_places SELECT room_id, session_id, sender_key, place, event_id "
                "FROM places JOIN room_keys USING (session_id)"
            )
            self._db.execute("DROP TABLE places")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with around(COMMIT):
                self._db.execute("COMMIT")
        except BaseException:
            # A full disk may have ended it already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- our own device ------------------------------------------------------------------------------------------

    def account(self) -> vodozemac.Account | None:
        """Our device's secrets. Raises ValueError when the pickle key is not theirs."""
        row = self._db.execute("SELECT pickle FROM account").fetchone()
        return None if row is None else vodozemac.Account.from_pickle(row[0], self._key)

    def owner(self) -> tuple[str, str] | None:
        """Return whose device it is: user and device id."""
        row = self._db.execute("SELECT user_id, device_id FROM account").fetchone()
        return None if row is None else (row[0], row[1])

    def published(self) -> bool:
        """Return whether the homeserver has our device's keys."""
        row = self._db.execute("SELECT published FROM account").fetchone()
        return row is not None and bool(row[0])

    def make_account(self, account: vodozemac.Account, user: str, device: str) -> None:
        """Keep a new device."""
        values = (user, device, account.pickle(self._key))
        self._db.execute("INSERT INTO account VALUES (1, ?, ?, ?, 0)", values)

    def put_account(self, account: vodozemac.Account, *, published: bool | None = None) -> None:
        """Keep the device as it is now."""
        self._db.execute(
            "UPDATE account SET pickle = ?, published = coalesce(?, published)", (account.pickle(self._key), published)
        )

    # --- sessions ------------------------------------------------------------------------------------------------

    def olm_sessions(self, sender_key: str) -> list[vodozemac.Session]:
        """Return the sessions with a device, the one used last first."""
        rows = self._db.execute(
            "SELECT pickle FROM olm_sessions WHERE sender_key = ? ORDER BY used_at DESC LIMIT 20", (sender_key,)
        )
        return [vodozemac.Session.from_pickle(pickle, self._key) for (pickle,) in rows]

    def session_made_at(self, sender_key: str) -> float | None:
        """Return when the newest session with a device was made."""
        row = self._db.execute(
            "SELECT max(created_at) FROM olm_sessions WHERE sender_key = ?", (sender_key,)
        ).fetchone()
        return None if row is None else row[0]

    def put_olm_session(self, sender_key: str, session: vodozemac.Session, now: float) -> None:
        """Keep a session as it is now."""
        self._db.execute(
            "INSERT INTO olm_sessions VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (session_id) DO UPDATE SET pickle = excluded.pickle, used_at = excluded.used_at",
            (session.session_id, sender_key, session.pickle(self._key), now, now),
        )

    def bound(self) -> None:
        """Keep the tables of what strangers' devices send within bounds: anybody can begin sessions with us under as
        many keys as they like. The oldest go first, and those of devices that no one lists before all others."""
        for table, order, most in (("olm_sessions", "used_at", OLM_SESSIONS), ("room_keys", "kept_at", ROOM_KEYS)):
            (rows,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            if rows > most:
                self._db.execute(
                    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY "  # noqa: S608
                    f"sender_key IN (SELECT curve25519 FROM devices), {order} LIMIT ?)",
                    (rows - most + most // 20,),
                )

    def room_keys(self, room: str, session_id: str) -> list[RoomKey]:
        """Return what may open the messages of a group session; only one sender's is the one that wrote it."""
        rows = self._db.execute(
            "SELECT pickle, sender_key, ed25519 FROM room_keys WHERE room_id = ? AND session_id = ?", (room, session_id)
        )
        return [
            RoomKey(
                session=vodozemac.InboundGroupSession.from_pickle(pickle, self._key), sender_key=key, ed25519=ed25519
            )
            for pickle, key, ed25519 in rows
        ]

    def put_room_key(self, room: str, key: RoomKey, now: float) -> bool:
        """Keep what opens a group session, unless what is kept opens more. Returns whether it is new."""
        session_id = key.session.session_id
        for known in self.room_keys(room, session_id):
            if known.sender_key == key.sender_key and known.session.first_known_index <= key.session.first_known_index:
                return False
        self._db.execute(
            "INSERT OR REPLACE INTO room_keys VALUES (?, ?, ?, ?, ?, ?)",
            (room, session_id, key.sender_key, key.ed25519, key.session.pickle(self._key), now),
        )
        return True

    def prune(self, before: float) -> None:
        """Let go of keys that came before, and of what was noted with them: without its key no message can be said
        twice."""
        with self.transaction():
            self._db.execute("DELETE FROM room_keys WHERE kept_at < ?", (before,))
            self._db.execute(
                "DELETE FROM message_places WHERE (room_id, session_id, sender_key) NOT IN "
                "(SELECT room_id, session_id, sender_key FROM room_keys)"
            )
            self._db.execute("DELETE FROM asked WHERE session_id NOT IN (SELECT session_id FROM unread)")

    # --- devices of others ---------------------------------------------------------------------------------------

    def devices(self, user: str | None = None) -> list[KnownDevice]:
        """Return the devices of a person, or of everybody."""
        columns = "SELECT user_id, device_id, ed25519, curve25519, name, gone, standing FROM devices "
        if user is None:
            rows = self._db.execute(columns + "ORDER BY user_id, seen_at, device_id")
        else:
            # By the index: in a large room everybody's are asked for with each message.
            rows = self._db.execute(columns + "WHERE user_id = ? ORDER BY seen_at, device_id", (user,))
        return [
            KnownDevice(
                user=user_id,
                id=device_id,
                keys=PublicKeys(ed25519=ed25519, curve25519=curve25519),
                name=name,
                gone=bool(gone),
                standing=DeviceState(standing),
            )
            for user_id, device_id, ed25519, curve25519, name, gone, standing in rows
        ]

    def put_device(self, device: KnownDevice, now: float, *, tell: Telling = Telling.NOTHING) -> None:
        """Keep a device as it is known now; `tell`: what someone has to be told of it."""
        self._db.execute(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, device_id) DO UPDATE SET "
            "ed25519 = excluded.ed25519, curve25519 = excluded.curve25519, name = excluded.name, gone = excluded.gone, "
            "standing = excluded.standing, told = min(told, excluded.told), "
            "seen_at = CASE WHEN excluded.told < 1 THEN excluded.seen_at ELSE seen_at END",
            (
                device.user,
                device.id,
                device.keys.ed25519,
                device.keys.curve25519,
                device.name,
                device.gone,
                str(device.standing),
                now,
                int(tell),
            ),
        )

    def untold(self) -> list[Untold]:
        """Return the devices of which someone has to be told."""
        rows = self._db.execute("SELECT user_id, device_id, told, seen_at FROM devices WHERE told < 1")
        untold = {(user, device): (told, since) for user, device, told, since in rows}
        return [
            Untold(device=device, back=told == Telling.BACK, since=since)
            for device in self.devices()
            for told, since in [untold.get((device.user, device.id), (Telling.NOTHING, 0.0))]
            if told != Telling.NOTHING
        ]

    def mark_devices_told(self, told: Iterable[Untold]) -> None:
        """Whoever had to be told of these was. What came about meanwhile is still to be told."""
        self._db.executemany(
            "UPDATE devices SET told = 1 WHERE user_id = ? AND device_id = ? AND seen_at = ?",
            [(each.device.user, each.device.id, each.since) for each in told],
        )

    def forget_device(self, user: str, device: str) -> None:
        """Let go of its keys."""
        self._db.execute("DELETE FROM devices WHERE user_id = ? AND device_id = ?", (user, device))

    # --- rooms and messages --------------------------------------------------------------------------------------

    def encrypted_rooms(self) -> frozenset[str]:
        """Return the rooms that were ever seen encrypted: whatever a homeserver says later, they stay so."""
        return frozenset(room for (room,) in self._db.execute("SELECT room_id FROM encrypted_rooms"))

    def put_encrypted_rooms(self, rooms: Iterable[str]) -> None:
        """Keep that rooms are encrypted."""
        self._db.executemany("INSERT OR IGNORE INTO encrypted_rooms VALUES (?)", [(room,) for room in rooms])

    def is_handled(self, digest: bytes) -> bool:
        """Return whether this message from device to device came before."""
        return self._db.execute("SELECT 1 FROM handled WHERE digest = ?", (digest,)).fetchone() is not None

    def put_handled(self, digest: bytes) -> None:
        """Remember a message from device to device."""
        number = self._db.execute("INSERT INTO handled (digest) VALUES (?)", (digest,)).lastrowid or 0
        self._db.execute("DELETE FROM handled WHERE number <= ?", (number - _HANDLED,))

    def is_at_its_place(self, room: str, key: RoomKey, place: int, event_id: str) -> bool:
        """Return whether an event is the one that a place in a sender's group session belongs to; the first to come
        takes it."""
        at = (room, key.session.session_id, key.sender_key, place)
        self._db.execute("INSERT OR IGNORE INTO message_places VALUES (?, ?, ?, ?, ?)", (*at, event_id))
        row = self._db.execute(
            "SELECT event_id FROM message_places WHERE room_id = ? AND session_id = ? AND sender_key = ? AND place = ?",
            at,
        ).fetchone()
        return row is not None and row[0] == event_id

    def put_unread(self, room: str, session_id: str, event: Json, now: float) -> None:
        """Keep a message until its key comes."""
        values = (event["event_id"], room, session_id, json.dumps(event), now)
        self._db.execute(
            "INSERT OR IGNORE INTO unread (event_id, room_id, session_id, event, kept_at, told) "
            "VALUES (?, ?, ?, ?, ?, 0)",
            values,
        )
        self._db.execute("DELETE FROM unread WHERE number <= (SELECT max(number) FROM unread) - ?", (UNREAD,))

    def unread(self) -> list[UndecryptedMessage]:
        """Return the messages that wait for their key, in the order in which they came."""
        rows = self._db.execute("SELECT number, room_id, session_id, event, kept_at, told FROM unread ORDER BY number")
        return [
            UndecryptedMessage(
                number=number,
                room=room,
                session_id=session_id,
                event=json.loads(event),
                kept_at=kept_at,
                told=bool(told),
            )
            for number, room, session_id, event, kept_at, told in rows
        ]

    def drop_unread(self, numbers: Iterable[int]) -> None:
        """Messages that were read, or never will be."""
        self._db.executemany("DELETE FROM unread WHERE number = ?", [(number,) for number in numbers])

    def mark_told(self, numbers: Iterable[int]) -> None:
        """It was said that these cannot be read."""
        self._db.executemany("UPDATE unread SET told = 1 WHERE number = ?", [(number,) for number in numbers])

    def ask_once(self, room: str, session_id: str) -> bool:
        """Return whether the key of a group session was not asked for before; it is now."""
        return self._db.execute("INSERT OR IGNORE INTO asked VALUES (?, ?)", (room, session_id)).rowcount == 1
