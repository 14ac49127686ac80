"""An address says where the register is, and nothing that is secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RegisterError
from database.engine.dsn import FileAddress, ServerAddress, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sqlite:////var/lib/muster/register.db", FileAddress(file=Path("/var/lib/muster/register.db"))),
        ("sqlite:////srv/with spaces/ü.db", FileAddress(file=Path("/srv/with spaces/ü.db"))),
        ("postgresql:///fleet", ServerAddress(database="fleet")),
        ("postgresql:///fleet?host=/run/pg", ServerAddress(database="fleet", host="/run/pg")),
        ("postgresql://ana@/fleet?host=/run/pg", ServerAddress(database="fleet", host="/run/pg", user="ana")),
        ("postgresql://ana@localhost:99/fleet", ServerAddress(database="fleet", host="localhost", port=99, user="ana")),
        ("postgresql://a%40b@[::1]/fl%20eet", ServerAddress(database="fl eet", host="::1", user="a@b")),
        (
            "postgresql://ana@db.example.org/fleet",
            ServerAddress(database="fleet", host="db.example.org", user="ana", sslmode="verify-full"),
        ),
        (
            "postgresql://127.0.0.1/fleet?sslrootcert=/etc/ours.pem",
            ServerAddress(database="fleet", host="127.0.0.1", sslmode="verify-full", sslrootcert="/etc/ours.pem"),
        ),
        (
            "postgresql://10.0.0.9/fleet?sslmode=disable",
            ServerAddress(database="fleet", host="10.0.0.9", sslmode="disable"),
        ),
    ],
)
def test_what_is_an_address(url: str, address: FileAddress | ServerAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no address"),
        ("register.db", "no address of a register"),
        ("/var/lib/register.db", "sqlite:////var/lib"),
        ("sqlite:///register.db", "no absolute path"),
        ("sqlite:///:memory:", "no absolute path"),
        ("sqlite:////a?mode=ro", "no absolute path"),
        ("mysql://db/fleet", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://db", "the name of the database"),
        ("postgresql://db/a/b", "the name of the database"),
        ("postgresql://db:port/fleet", "no address of a PostgreSQL database"),
        ("postgresql://[::1/fleet", "no address of a PostgreSQL database"),
        ("postgresql://db/fleet?x", "no address of a PostgreSQL database"),
        ("postgresql://db/fleet?options=-csearch_path%3Dpublic", "'options'; allowed are host, sslmode, sslrootcert"),
        ("postgresql://db/fleet?host=/run", "given twice"),
        ("postgresql://db/fleet?sslmode=prefer", "sslmode=prefer; allowed are disable, require, verify-full"),
        ("postgresql://db/fleet?sslrootcert=ours.pem", "the absolute path"),
        ("postgresql://db/fleet?sslmode=require&sslrootcert=/ours.pem", "goes with sslmode=verify-full"),
        ("postgresql://db/fl%00eet", "characters that none has"),
        ("postgresql://db/fleet#x", "characters that none has"),
    ],
)
def test_what_is_none_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(RegisterError) as caught:
        parse(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:hunter2@db/fleet",
        "postgresql://ana:@db/fleet",
        "postgresql://ana%3Ahunter2@db/fleet",
        "postgresql://ana@db/fleet?password=hunter2",
        "postgresql://ana:hunter2@db:port/fleet",
        "postgresql://ana:hun@ter2@db/fleet",
        "mysql://ana:hunter2@db/fleet",
    ],
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RegisterError) as caught:
        parse(url)
    assert "hun" not in str(caught.value)


def test_a_password_that_is_refused_is_referred_to_beside_the_address() -> None:
    with pytest.raises(RegisterError, match="password: env:NAME"):
        parse("postgresql://ana:hunter2@db/fleet")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///fleet",
        "postgresql:///fleet?host=/run/pg",
        "postgresql://a%40b@[::1]:99/fl%20eet",
        "postgresql://ana@db.example.org/fleet",
    ],
)
def test_an_address_is_shown_as_it_is_written(url: str) -> None:
    assert str(parse(url)) == url
