"""The parts of the page: each a module here, which says what is to be drawn, and a JavaScript file, which draws it.

A module has a source, whose ``update(view)`` returns what one tab's drawing needs: sent over the binary WebSocket. And
it has an element, the Panel component in the layout, whose parameters are what the page's controls set.
"""

from agentwrap_viewer.page.view import Component

from .charts import Series
from .episodes import Episodes
from .explanation import Explanation
from .features import Features
from .inputs import Inputs
from .notices import Notices
from .pinned import Pinned
from .policy import Policy
from .stage import Stage
from .status import Status
from .transport import Transport


def all_components() -> list[Component]:
    """Return one of each for one tab, in the order in which their data is gathered."""
    return [
        Status(),
        Notices(),
        Stage(),
        Policy(),
        Features(),
        Inputs(),
        Series(),
        Episodes(),
        Explanation(),
        Pinned(),
        Transport(),
    ]
