"""Whatever agents write is shown and not obeyed: no element, script or hidden character of theirs is in a page."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from html.parser import HTMLParser
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from bot.auth.permission import ADMIN
from bot.interfaces.web.assets import Assets
from bot.interfaces.web.prose import LONGEST, prose
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.stream import part
from bot.interfaces.web.views import view_of
from bot.interfaces.web.visitor import Visitor
from bot.read_models.agent import AgentModel
from bot.read_models.documents import TYPES, Document
from bot.web_access.model import WebSession

CORPUS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</textarea></title></style><iframe src=javascript:alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/a)",
    "[x](/logout)",
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    "<javascript:alert(1)>",
    '[x](https://a.example "onclick=alert(1)")',
    "[a]: javascript:alert(1)\n[a]",
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    "`<script>alert(1)</script>`",
    "<!-- --><base href=https://evil.example>",
    "<form action=https://evil.example><button>Allow</button></form>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "| <script> | b |\n| --- | --- |\n| <img src=x onerror=1> | [x](javascript:1) |",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m\x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "safe\u202etxt.exe\u2066\u200b\ufeff\u00ad",
    "&#8238;hidden &#x202e; [x](https://a.example/%E2%80%AE)",
    "\x00\ud800\x85\u2028",
    "<" * 3000,
    "[" * 3000,
)
_ELEMENTS = frozenset(
    ("a", "article", "blockquote", "br", "button", "code", "del", "details", "div", "em", "form", "h1", "h2", "h3",
     "hr", "input", "ins", "label", "li", "nav", "ol", "p", "pre", "s", "section", "small", "span", "strong", "summary",
     "table", "tbody", "td", "th", "thead", "time", "tr", "ul", "svg", "title", "text", "path", "line",
     "rect", "g", "circle", "polyline")
)  # fmt: skip
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class Found(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.forms: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _ELEMENTS:
            self.faults.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "src", "srcset", "formaction", "srcdoc"):
                self.faults.append(f"{tag} {name}={value}")
            if name == "href" and not re.match(r"(https?://|/(?!/))", value or ""):
                self.faults.append(f"{tag} {name}={value}")
            if (
                name == "href"
                and (value or "").startswith("http")
                and ("rel", "noopener noreferrer nofollow") not in attrs
            ):
                self.faults.append(f"{tag} without rel")
            if name == "action":
                self.forms.append(value or "")

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data}")


def looked_at(html: str) -> Found:
    found = Found()
    found.feed(html)
    if hidden := _HIDDEN.search(html):
        found.faults.append(repr(hidden[0]))
    return found


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_prose_is_shown_and_not_obeyed(text: str) -> None:
    found = looked_at(prose(text))
    assert found.faults == []
    assert found.forms == []


def test_links_of_agents_lead_nowhere_inside_the_dashboard() -> None:
    assert "<a" not in prose("[Allow](/commands/approve?a.id=1) <a href=/logout>x</a>")
    assert prose("[x](https://a.example/b)") == (
        '<p><a href="https://a.example/b" rel="noopener noreferrer nofollow">x</a></p>'
    )


def test_a_text_without_an_end_is_cut_and_says_so() -> None:
    assert "5 more characters are not shown" in prose("x" * (LONGEST + 5))


def filled(kind: Any, text: str) -> Iterator[Any]:
    """Values of a type whose every text is `text`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for each in inner:
            if each is not NoneType:
                yield from filled(each, text)
    elif origin is Literal:
        yield inner[0]
    elif origin is tuple:
        yield (
            tuple(filled(inner[0], text))
            if inner[-1] is Ellipsis
            else tuple(next(filled(each, text)) for each in inner)
        )
    elif origin is not None and issubclass(origin, Mapping):
        yield {text: next(filled(inner[1], text))}
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        yield kind(**{each.name: next(filled(hints[each.name], text)) for each in dataclasses.fields(kind)})
    elif kind is str:
        yield text
    else:
        yield {bool: True, int: 3, float: 1_800_000_000.5}[kind]


def templates() -> PageTemplates:
    return PageTemplates(lambda text: text, lambda: UTC, Assets().address)


def visitor(text: str) -> Visitor:
    session = WebSession(
        id="1", identity=text, control=True, address=text, browser=text, opened_at=1.0, seen_at=1.0, expires_at=2.0
    )
    return Visitor(session=session, permission=ADMIN, token="t")


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
@pytest.mark.parametrize("name", [*TYPES, "agent", "request", "nav"])
def test_no_field_of_a_document_gets_out_of_its_place(name: str, text: str) -> None:
    document = {"nav": "waiting", "request": "waiting"}.get(name, name)
    names = {document: next(filled(TYPES[document], text))} if document in TYPES else {}
    parameters = {"name": "coder0"} if name in ("agent", "request") else {}
    if name == "agent":
        model = next(filled(AgentModel, text))
        assert len(model.turns[0].items) == 5, "one of each kind"
        names = {"agents/coder0": model, "waiting": next(filled(TYPES["waiting"], "coder0"))}
    found_in = {
        each: Document(name=each, revision=1, epoch="e", made_at=1.0, value=value) for each, value in names.items()
    }
    view = view_of(name, parameters)
    found = looked_at(part(templates(), view, found_in, visitor(text)))
    assert found.faults == []
    assert all(re.fullmatch(r"/commands/[A-Za-z0-9%._~/-]+", each) for each in found.forms)
