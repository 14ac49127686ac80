"""Templates of the dashboard. Whatever a template prints is redacted, made visible and escaped, in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from importlib.resources import files
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from bot.interfaces.web import prose
from bot.text import markdown


@dataclass(slots=True)
class PageTemplates:
    """The templates, with the redaction and the time zone of an installation."""

    redact: Callable[[str], str]
    zone: Callable[[], tzinfo]
    asset: Callable[[str], str]
    """Returns the address of a static file."""
    _environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self._environment = Environment(
            loader=DictLoader(_sources()),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=self._visible,
            auto_reload=False,
        )
        self._environment.filters.update(
            prose=self._prose,
            clock=self._clock,
            ago=self._ago,
            span=markdown.span,
            gist=self._gist,
            amount=_amount,
            exactly=_exactly,
            in_path=_in_path,
        )
        self._environment.globals.update(asset=lambda name: Markup(self.asset(name)))  # noqa: S704

    def render(self, template: str, **values: object) -> str:
        """Return the HTML of a template."""
        found: Template = self._environment.get_template(template)
        return found.render(**values)

    def _visible(self, value: object) -> object:
        if value is None:
            return ""
        if isinstance(value, str) and not hasattr(value, "__html__"):
            return markdown.shown(self.redact(value))
        return value

    def _prose(self, text: str) -> Markup:
        return prose.prose(self.redact(text))

    def _gist(self, text: str, width: int = 120) -> str:
        return markdown.gist(text, self.redact, width)

    def _clock(self, at: float | None) -> str:
        """Return a time in the operator's time zone."""
        if at is None:
            return ""
        return _moment(at).astimezone(self.zone()).strftime("%Y-%m-%d %H:%M")

    def _ago(self, at: float | None) -> Markup:
        """Return a time as an element, which the browser keeps saying how long ago it is."""
        if at is None:
            return Markup("")
        return Markup('<time datetime="{}" data-ago>{}</time>').format(_moment(at).isoformat(), self._clock(at))


def _exactly(value: str) -> Markup:
    """Return a value that a form sends back, unchanged."""
    return escape(value)


def _in_path(value: str) -> str:
    """Return a value as one segment or one parameter of an address."""
    return quote(value, safe="", errors="replace")


def _moment(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _amount(value: float | None, unit: str) -> str:
    """Return an amount with its unit."""
    if value is None:
        return "unknown"
    if unit == "usd":
        return f"${value:,.2f}"
    if unit == "share":
        return f"{value:.0%}"
    return f"{value:,.0f} tokens" if value < 1e6 else f"{value / 1e6:,.1f}M tokens"


def _sources() -> dict[str, str]:
    folder = files("bot.interfaces.web").joinpath("templates")
    return {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir() if each.name.endswith(".html")}
