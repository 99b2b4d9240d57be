"""One tab's page: shell, controls and parts put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.util import edit_readonly
from panel_material_ui.base import BASE_TEMPLATE

from .components.charts import ChartElement
from .components.deck import DeckElement
from .components.element import Element
from .components.episodes import EpisodesElement
from .components.explanation import ExplanationElement
from .components.features import FeaturesElement
from .components.inputs import InputsElement
from .components.notices import NoticesElement
from .components.pinned import PinnedElement
from .components.policy import PolicyElement
from .components.stage import StageElement
from .components.states import AlikeElement, SelectionElement, StatesElement
from .components.status import StatusElement
from .components.theme import ThemeElement
from .components.transport import TransportElement
from .components.views import ViewsElement
from .controls import Controls
from .receiver import Receiver

#: Milliseconds between two looks at what the controls should show.
REFRESH_MS = 500

#: The browser's mark of the page.
FAVICON = Path(__file__).parent / "favicon.svg"

#: Roboto comes bundled with panel_material_ui.
_FONT = 'Roboto, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif'


def _palette(
    *, ground: str, card: str, primary: str, on_primary: str, text: str, muted: str, line: str
) -> dict[str, Any]:
    return {
        "palette": {
            "primary": {"main": primary, "contrastText": on_primary},
            "background": {"default": ground, "paper": card},
            "text": {"primary": text, "secondary": muted},
            "divider": line,
        },
        "typography": {"fontFamily": _FONT, "fontSize": 13},
        "shape": {"borderRadius": 6},
    }


#: The Material controls in the colours of ``components/page.css``.
THEME = {
    "dark": _palette(
        ground="#0b0f16",
        card="#0f141c",
        primary="#7ea6ff",
        on_primary="#0b0f16",
        text="#d3dae4",
        muted="#93a0b2",
        line="#242d3b",
    ),
    "light": _palette(
        ground="#eef1f5",
        card="#ffffff",
        primary="#2a5bd7",
        on_primary="#ffffff",
        text="#2b3442",
        muted="#586476",
        line="#dce2ea",
    ),
}

_SHELL = {
    ".MuiAppBar-root": {
        "backgroundColor": "background.paper",
        "backgroundImage": "none",
        "color": "text.primary",
        "boxShadow": "none",
        "borderBottom": "1px solid",
        "borderColor": "divider",
    },
    ".MuiDrawer-paper": {"backgroundColor": "background.paper", "backgroundImage": "none"},
    "main.main": {"backgroundColor": "background.default"},
    # Panel lets what fills the page not scroll; on a narrow screen the parts are below each other, as in page.css
    ".main-content": {"padding": 0, "@media (max-width: 899px)": {"overflowY": "auto"}},
    ".MuiAppBar-root .MuiLinearProgress-root": {"display": "none"},
    ".MuiToolbar-root": {"height": "64px", "minHeight": "64px !important", "margin": "0 !important"},
}

#: Panel's page with its scripts in the body: a browser shows nothing before it has run those of the head.
_TEMPLATE = BASE_TEMPLATE.environment.from_string(
    "{% extends base %}"
    "{% block js_resources %}{% endblock %}"
    "{% block loader %}{{ bokeh_js if bokeh_js }}{{ super() }}{% endblock %}",
    globals={"base": BASE_TEMPLATE},
)

#: What is there before anything is loaded.
_BEFORE = (Path(__file__).parent / "before.css").read_text(encoding="utf-8")


def build_page(
    receiver: Receiver,
    *,
    transport: type[Element] = TransportElement,
    versions: Mapping[str, int] | None = None,
) -> pmui.Page:
    """Build the page of one tab and keep its controls up to date as long as the tab is open.

    Args:
        receiver: What the page shows, and who takes its requests.
        transport: The bar at the bottom: of a running agent, or of a recording.
        versions: Versions of a recording's policy by name, of which one can be chosen.
    """
    stage = StageElement()
    controls = Controls(receiver, stage, live=transport is TransportElement, versions=versions)
    deck = DeckElement(
        notices=NoticesElement(),
        stage=stage,
        policy=PolicyElement(),
        value=ChartElement(field="value", heading="Value", caption="V(s)"),
        reward=ChartElement(field="reward", heading="Reward", style="stems"),
        inputs=InputsElement(),
        features=FeaturesElement(),
        returns=ChartElement(field="return", heading="Return", caption="of the episode so far"),
        episodes=EpisodesElement(),
        explanation=ExplanationElement(),
        pinned=PinnedElement(),
        transport=transport(),
        states=StatesElement(),
        selection=SelectionElement(),
        alike=AlikeElement(),
        sizing_mode="stretch_both",
    )
    return shell(deck, controls, header=[ViewsElement()])


def shell(deck: Element, controls: Controls, *, header: Sequence[Element] = ()) -> pmui.Page:
    """Put a deck and its controls into a page of one tab, and keep the controls up to date as long as it is open.

    Args:
        deck: The page's parts.
        controls: Its sidebar.
        header: What stands between the headline figures and the theme's button.
    """
    theme = ThemeElement()
    controls.update()
    page = pmui.Page(
        title="",
        meta_title="agentwrap",
        favicon=FAVICON,
        header=[StatusElement(), *header, theme],
        sidebar=controls.root,
        sidebar_width=248,
        sidebar_resizable=False,
        main=[deck],
        theme_toggle=False,
        busy_indicator=None,
        theme_config=THEME,
        sx=_SHELL,
        raw_css=[_BEFORE],
        template=_TEMPLATE,
    )
    with edit_readonly(page):
        page.busy = False  # unlinks it from Panel's: every browser event would walk the whole tree of models
    theme.jslink(page, dark="dark_theme", wide="sidebar_open")
    # from when the tab has loaded: Panel loses changes that are made while a tab is connecting
    pn.state.onload(lambda: pn.state.add_periodic_callback(controls.update, period=REFRESH_MS))
    return page
