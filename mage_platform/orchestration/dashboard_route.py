"""The charts of a dashboard in Mage's UI get their data.

Mage asks for each chart at `/api/page_block_layouts/<dashboard>/block_layout_items/<chart>`. Its own server takes all
that follows `page_block_layouts/` for the name of a dashboard, answers with an empty one, and every dashboard says
that no data was retrieved. Here the longer address is known too, and looked at first.
"""

from __future__ import annotations

from typing import Any

from mage_platform.orchestration.refusals import MageVersionUnknown

ROUTE = r"/api/(?P<resource>page_block_layouts)/(?P<pk>[^/]+)/(?P<child>block_layout_items)/(?P<child_pk>[^/]+)"


def serve_dashboard_charts() -> None:
    """Add the address to Mage's web server. Call before it starts.

    Raises:
        MageVersionUnknown: The installed Mage makes its web server in another way.
    """
    from mage_ai.server import server
    from mage_ai.server.api import v1

    original, handler = getattr(server, "make_app", None), getattr(v1, "ApiChildDetailHandler", None)
    if original is None or handler is None:
        raise MageVersionUnknown(
            "Mage's server has no make_app or ApiChildDetailHandler, so dashboards would stay empty; use the Mage "
            "version of requirements.txt."
        )

    def make_app(*arguments: Any, **named: Any) -> Any:
        application = original(*arguments, **named)
        application.add_handlers(r".*", [(ROUTE, handler)])
        return application

    server.make_app = make_app
