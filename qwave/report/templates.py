"""Pages are made from the Jinja2 templates in ``assets``.

A page needs nothing but itself, no web font and no library beside Plotly: it has to open, look
and sort the same from an attachment, years later, without a network. The style knows dark mode,
narrow screens and print.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qwave.text import for_html


def render(template: str, **values: object) -> Markup:
    """A template of ``qwave/report/assets``, filled in; every text is escaped for HTML.

    Raises:
        UndefinedError: The template uses a value that is not given.
    """
    return Markup(_ENVIRONMENT.get_template(template).render(**values))


def asset(name: str) -> Markup:
    """The text of a file in ``qwave/report/assets``, to be used as it is."""
    return Markup(files("qwave.report").joinpath("assets", name).read_text(encoding="utf-8"))


def _shown(value: Any) -> Any:
    """A value of a template with control characters made visible, which escaping leaves."""
    return value if isinstance(value, Markup) else Markup(for_html(value))


_ENVIRONMENT = Environment(
    loader=PackageLoader("qwave.report", "assets"),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["base64"] = lambda content: base64.b64encode(content).decode()
_ENVIRONMENT.globals["asset"] = asset
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
