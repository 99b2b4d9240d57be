"""What the browser knows better than the server: light or dark, wide or narrow."""

from __future__ import annotations

import param

from .element import Element


class ThemeElement(Element):
    """A button. Begins with what the system prefers; a choice is remembered in the browser.

    Attributes:
        dark: The theme in use.
        wide: Whether the screen was wide enough for the sidebar when the page was opened.
    """

    dark = param.Boolean(default=True)
    wide = param.Boolean(default=True)

    _module = "theme"
    _stylesheets = [":host { display: block; flex: none; width: 34px; margin: 0 0 0 12px; }"]
