"""Makes HTML of the templates."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from danube_admin_service.console.live import charts, figures


class Rendering:
    """The templates, with what all of them use."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("danube_admin_service.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters = (figures.count, figures.rate, figures.size, figures.age, figures.moment, figures.clock)
        self._templates.filters.update({each.__name__: each for each in filters})
        self._templates.filters["query"] = urlencode
        self._templates.globals["chart_width"] = charts.WIDTH
        self._templates.globals["chart_height"] = charts.HEIGHT
        self._templates.globals["ui"] = self._templates.get_template("parts.html").module

    def page(self, template: str, built: Mapping[str, object]) -> str:
        """Return a page."""
        return self._templates.get_template(template).render(built)

    def live(self, template: str, built: Mapping[str, object]) -> str:
        """Return the part of a page that changes by itself."""
        found = self._templates.get_template(template)
        return "".join(found.blocks["live"](found.new_context(dict(built))))
