"""Renders a report's page: the style is shared, the content is a template of the package that found it out."""

from __future__ import annotations

import base64
import time
from typing import Any

import jinja2

from crlft_ray import __version__


def render(package: str, template: str, **values: Any) -> str:
    """The page as text.

    Args:
        package: where `template` lies; it extends `base.html.jinja`.
        template: its file name.
        values: what it shows.
    """
    folders = [jinja2.PackageLoader(package, "."), jinja2.PackageLoader("crlft_ray.report", ".")]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.ChoiceLoader(folders)
    )
    environment.filters["signed"] = lambda value: f"{value:+.4f}"
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return environment.get_template(template).render(version=__version__, date=date, **values)


def picture(png: bytes) -> str:
    """A PNG for an `img` tag's `src`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
