"""One tab's page over two policies: the same step explained by both, side by side."""

from __future__ import annotations

import panel_material_ui as pmui

from .components.contrast import AgreementElement, CompareDeckElement, ContrastElement
from .components.features import FeaturesElement
from .components.notices import NoticesElement
from .components.stage import StageElement
from .components.timeline import TimelineElement
from .controls import Controls
from .layout import shell
from .receiver import Receiver

#: What is drawn where, by the section that it is drawn from.
SIDES = {"left": "stage", "difference": "stage_difference", "right": "stage_right"}
FEATURES = {"left": "features", "difference": "features_difference", "right": "features_right"}


def build_compare_page(receiver: Receiver, *, names: tuple[str, str]) -> pmui.Page:
    """Build the page of one tab.

    Args:
        receiver: What the page shows, and who takes its requests.
        names: What the left and the right policy are called.
    """
    headings = {"left": names[0], "difference": "Difference", "right": names[1]}
    stages = {side: StageElement(source=source, heading=headings[side], side=side) for side, source in SIDES.items()}
    features = {
        f"features_{side}": FeaturesElement(source=source, heading=headings[side]) for side, source in FEATURES.items()
    }
    others = [stages["difference"], stages["right"]]
    controls = Controls(receiver, stages["left"], live=False, others=others)
    deck = CompareDeckElement(
        notices=NoticesElement(),
        **stages,
        **features,
        contrast=ContrastElement(),
        agreement=AgreementElement(),
        transport=TimelineElement(),
        sizing_mode="stretch_both",
    )
    return shell(deck, controls)
