"""A browser says where pushes go, so only push services that are on the list are contacted."""

from __future__ import annotations

import pytest

from bot.config.surfaces.web_push import SERVICES
from bot.interfaces.web.push import subscriptions
from bot.interfaces.web.push.subscriptions import PushRefused, PushSubscription, SubscribedBrowser, due, is_allowed

POINT = "B" + "A" * 86
AUTH = "A" * 22


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc:APA91_-x",
        "https://fcm.googleapis.com:443/wp/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAA",
        "https://web.push.apple.com/QABC",
        "https://wns2-par02p.notify.windows.com/w/?token=BQYAA%2b",
    ],
)
def test_the_services_of_the_known_browsers_are_allowed(endpoint: str) -> None:
    assert is_allowed(endpoint, SERVICES)


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "https://", "/push", "https://example.org/push", "http://fcm.googleapis.com/x", "https://fcm.googleapis.com",
        "https://fcm.googleapis.com:8443/x", "https://fcm.googleapis.com.evil.example/x", "https://evilfcm.googleapis.com/",
        "https://evil@fcm.googleapis.com/x", "https://fcm.googleapis.com@evil.example/x",
        "https://evil.example\\@fcm.googleapis.com/x", "https://fcm.googleapis.com\\.evil.example/x",
        "https://evil.example/fcm.googleapis.com", "https://notify.windows.com/x", "https://evilnotify.windows.com/x",
        "https://fcm.googleapis.com/x#y", "https://fcm.googleapis.com/x y", "https://fcm.googleapis.com/x\r\nHost: y",
        "https://FCM.googleapis.com/x", "https://127.0.0.1/x", "http://127.0.0.1:8475/x", "https://[::1]/x",
        "file:///etc/passwd", "https://fcm.googleapis.com/" + "x" * 1_500,
    ],
)  # fmt: skip
def test_other_addresses_are_not(endpoint: str) -> None:
    assert not is_allowed(endpoint, SERVICES)
    with pytest.raises(PushRefused, match=r"is not in web\.push\.services"):
        subscriptions.subscription_of({"endpoint": endpoint, "p256dh": POINT, "auth": AUTH}, SERVICES)


def test_a_service_of_ones_own_is_allowed_with_its_port_alone() -> None:
    own = ["https://push.example.org:8443"]
    assert is_allowed("https://push.example.org:8443/x", own)
    assert not is_allowed("https://push.example.org/x", own)
    assert not is_allowed("http://push.example.org:8443/x", own)


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [("", AUTH), (POINT, ""), ("A" * 87, AUTH), (POINT, "A" * 23), ("é" * 87, AUTH), (POINT, "*" * 22)],
)
def test_keys_that_are_none_are_refused(p256dh: str, auth: str) -> None:
    with pytest.raises(PushRefused, match="cannot be read"):
        subscriptions.subscription_of(
            {"endpoint": f"https://{SERVICES[0]}/x", "p256dh": p256dh, "auth": auth}, SERVICES
        )


def test_a_service_is_named_without_its_usual_port() -> None:
    """A signature for another name is refused (RFC 6454, section 6.2)."""
    made = PushSubscription(endpoint="https://fcm.googleapis.com:443/wp/abc", p256dh=POINT, auth=AUTH)
    assert made.origin == "https://fcm.googleapis.com"


def browser(session: str, identity: str = "ana", at: float = 1_000.0) -> SubscribedBrowser:
    subscription = PushSubscription(endpoint=f"https://{SERVICES[0]}/{session}", p256dh=POINT, auth=AUTH)
    return SubscribedBrowser(session=session, identity=identity, subscription=subscription, at=at)


def test_a_person_is_pushed_once_a_minute_in_all_their_browsers() -> None:
    phone, laptop, other = browser("phone"), browser("laptop"), browser("otto's", "otto")
    first = due([phone, laptop, other], {"a": 1_100.0}, {}, {}, 1_100.0)
    assert first.browsers == (phone, laptop, other)
    told = {each.session: {"a"} for each in first.browsers}
    pushed = {"ana": 1_100.0}
    again = due([phone, laptop], {"a": 1_100.0, "b": 1_110.0, "c": 1_120.0}, told, pushed, 1_130.0)
    assert again == subscriptions.DuePushes((), 1_160.0)
    later = due([phone, laptop], {"a": 1_100.0, "b": 1_110.0, "c": 1_120.0}, told, pushed, 1_160.0)
    assert later.browsers == (phone, laptop)


def test_what_was_answered_within_the_minute_or_asked_before_is_not_pushed() -> None:
    phone = browser("phone")
    assert due([phone], {"a": 1_100.0}, {"phone": {"a"}}, {"ana": 1_100.0}, 1_160.0) == subscriptions.DuePushes(
        (), None
    )
    assert due([phone], {"old": 900.0}, {}, {}, 1_160.0).browsers == ()
    # It was asked just before the last push, and came to be known after it.
    assert due([phone], {"late": 999.0}, {"phone": {"a"}}, {}, 1_160.0).browsers == (phone,)
