"""What the page's WebSockets have in common: whom they answer to, and messages that a tab no longer takes."""

from __future__ import annotations

import asyncio
from urllib.parse import urlparse

from bokeh.server.util import check_allowlist
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from tornado.websocket import WebSocketHandler


class PageSocket(AuthRequestHandler, WebSocketHandler):  # type: ignore[misc]
    """Answers to the page's own Origin only; a login, where the server asks for one, holds here as well."""

    def check_origin(self, origin: str) -> bool:
        """Accept the origins that the server accepts for Bokeh's WebSocket."""
        return bool(check_allowlist(urlparse(origin).netloc.lower(), self.application.websocket_origins))

    async def prepare(self) -> None:
        """Refuse whoever is not logged in, and whoever sends another page's Origin.

        Tornado does not ask ``check_origin`` where Origin equals Host; the guard of hosts covers that case.
        """
        await super().prepare()
        if self.application.auth_provider.get_user and not self.current_user:
            self.set_status(403)
            self.finish()


def retrieve(sending: asyncio.Future[None]) -> None:
    """Take what became of a message, so that nothing is logged where the tab was closed while nobody waited for it."""
    if not sending.cancelled():
        sending.exception()
