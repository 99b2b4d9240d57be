"""The Panel side of a component that JavaScript draws."""

from __future__ import annotations

from typing import Any, ClassVar

from panel.custom import JSComponent

#: Where the server offers the files of this directory, relative to the page.
ASSETS = "agentwrap-assets"

#: Bokeh keeps components from growing beyond their parent. Ours fill the place that the layout gives them.
_HOST = """
:host { display: block; width: 100%; height: 100%; margin: 0; max-width: none; max-height: none; min-width: 0; }
:host > div { width: 100%; height: 100%; min-width: 0; }
"""


class Element(JSComponent):  # type: ignore[misc]
    """A component drawn by ``<module>.js`` of this directory, an ordinary module that the browser fetches from here.

    Its ``render({model, view, el})`` may be asynchronous and returns the element to show.
    """

    _module: ClassVar[str] = ""  #: Name of the JavaScript file
    _stylesheets: ClassVar[list[str]] = [_HOST]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls._module:
            cls._esm = (
                "export async function render(context) {\n"
                f"  const address = new URL('{ASSETS}/{cls._module}.js', document.baseURI)\n"
                "  return (await import(address.href)).render(context)\n"
                "}"
            )
