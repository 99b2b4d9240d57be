"""Refuses requests under a foreign name, before any handler sees them.

A page of another site can make its own host name resolve to 127.0.0.1 (DNS rebinding) and then talk to servers here as
if they were its own. Such requests carry that name in their Host header. Origin lists do not help: Tornado (since 6.6)
does not ask for the origin where it equals the Host.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler


class Refused(RequestHandler):  # type: ignore[misc]
    """Answers 403."""

    def prepare(self) -> None:
        """Answer without looking at the request."""
        self.set_status(403)
        self.finish("This server answers to its own name and address only.")

    def check_xsrf_cookie(self) -> None:
        """Nothing here changes anything."""


def guard_hosts(application: Application, allowed: Collection[str]) -> None:
    """Let only requests through whose Host header is in ``allowed`` (``name:port``): pages, files, WebSockets."""
    names = {name.lower() for name in allowed}
    find_handler = application.find_handler

    def find_guarded(request: HTTPServerRequest, **options: Any) -> Any:
        if str(request.host or "").lower() in names:
            return find_handler(request, **options)
        return application.get_handler_delegate(request, Refused)

    application.find_handler = find_guarded
