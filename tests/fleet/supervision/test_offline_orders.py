from __future__ import annotations

from pathlib import Path

import pytest

from fleet.supervision import offline_orders
from fleet.supervision.offline_orders import FILE, FREEZE, KILL, RESUME, STOP, OfflineOrder


def order(id: str, what: str) -> OfflineOrder:
    return OfflineOrder(id=id, order=what, by="terminal:ana", at=5.0, now=True)


def taken(folder: Path, *, stays_down: bool = True) -> list[OfflineOrder]:
    """The orders that the orchestrator takes."""
    found = offline_orders.read(folder)
    assert found is not None
    offline_orders.mark(folder, found, stays_down=stays_down)
    return list(found.orders)


def test_an_agent_stays_down_until_it_is_launched(tmp_path: Path) -> None:
    assert (offline_orders.keeps_down(tmp_path), offline_orders.read(tmp_path)) == (False, None)
    offline_orders.give(tmp_path, order("1", STOP))
    offline_orders.give(tmp_path, order("2", KILL))
    offline_orders.launched(tmp_path)
    assert taken(tmp_path) == [order("1", STOP), order("2", KILL)], "a start loses no order"
    assert (offline_orders.keeps_down(tmp_path), taken(tmp_path)) == (True, [])
    offline_orders.launched(tmp_path)
    assert not offline_orders.keeps_down(tmp_path)


def test_the_empty_file_of_an_earlier_version_is_a_stop(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    assert offline_orders.keeps_down(tmp_path)
    first, again = offline_orders.read(tmp_path), offline_orders.read(tmp_path)
    assert first is not None
    assert (first, [each.order for each in first.orders]) == (again, [STOP])
    assert len(taken(tmp_path)) == 1
    assert (offline_orders.keeps_down(tmp_path), taken(tmp_path)) == (True, [])


def test_an_order_that_comes_while_others_are_taken_is_not_lost(tmp_path: Path) -> None:
    offline_orders.give(tmp_path, order("1", FREEZE))
    before = offline_orders.read(tmp_path)
    assert before is not None
    offline_orders.give(tmp_path, order("2", RESUME))
    offline_orders.mark(tmp_path, before, stays_down=True)
    assert not offline_orders.keeps_down(tmp_path)
    assert taken(tmp_path, stays_down=False) == [order("2", RESUME)]
    assert not (tmp_path / FILE).exists(), "nothing keeps it down"


@pytest.mark.parametrize("torn", [b'{"id": "1", "order": "fre', b"\xff\x00", b"7\n", b'{"order": "dance"}\n'])
def test_what_cannot_be_read_is_no_order_and_keeps_it_down(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / FILE).write_bytes(torn)
    assert (offline_orders.keeps_down(tmp_path), offline_orders.read(tmp_path)) == (
        True,
        offline_orders.OrderFile(orders=(), length=len(torn)),
    )
    offline_orders.give(tmp_path, order("2", FREEZE))
    assert taken(tmp_path) == [order("2", FREEZE)]


def test_what_a_person_may_expect_of_several_orders() -> None:
    def after(wanted: str, *orders: str) -> str:
        for each in orders:
            wanted = offline_orders.desired_after(order("1", each), wanted)
        return wanted

    assert after("running", FREEZE, RESUME) == "running"
    assert after("running", FREEZE, STOP) == "frozen"
    assert after("running", FREEZE, KILL) == "stopped"
    assert after("running", STOP, RESUME) == "stopped"
