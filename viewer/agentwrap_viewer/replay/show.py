"""``agentwrap replay``: serves the page over a recording, with an explainer that reads the same file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agentwrap_viewer.launch import settings, show
from agentwrap_viewer.page.components.timeline import TimelineElement
from agentwrap_viewer.page.layout import build_page
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.server import PageServer, serve
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import Recording, open_recording

from .marked import Wanted
from .store import RecordedStore, kind_of
from .tab import ReplayTab


def replay(
    path: Path,
    *,
    maps: Path | None = None,
    follow: bool = False,
    port: int | None = None,
    open_browser: bool = True,
    device: str = "cpu",
    method: str | None = None,
    target: str | None = None,
    budget_ms: float | None = None,
    moments: Wanted | None = None,
    until: Callable[[Store], bool] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> Store:
    """Serve the page over a recording until Ctrl-C, SIGTERM, or ``until``.

    Args:
        path: The recording.
        maps: Maps of it that ``agentwrap explain`` made: shown where they are, until another method is chosen.
        follow: Show also what is written to the recording from now on, until it is ended.
        port: Port on the loopback interface; None takes 5006 or the next that is free.
        open_browser: Open the page in the user's browser.
        device: Where maps are computed.
        method: Saliency method to begin with, or None for that of ``maps``, else the one that suits.
        target: What of the policy is explained to begin with, or None for what ``maps`` are about, else for what the
            method explains of itself: ``actor``, ``critic``, ``chosen``, ``choice:<i>``, an action's name or index.
        budget_ms: Time for one step before another one that is looked at gets its turn.
        moments: Which moments are marked; None for all.
        until: Asked five times a second with the store; when it returns True the page ends.
        on_ready: Called once with the page's address when it is served.

    Raises:
        RecordingError: A file cannot be read.
        CannotReplay: There is nothing to show, or the maps are of another recording.
        LaunchError: The port is taken, or the explainer refuses the device or the method.
    """
    with open_recording(path) as recording, contextlib.ExitStack() as opened:
        made = opened.enter_context(open_recording(maps)) if maps is not None else None
        store = RecordedStore(recording, made, follow=follow)
        wanted = moments or Wanted()
        store.marks.find_moments(wanted)
        arguments = (*settings(device, method, target, budget_ms), "--recording", str(recording.path.resolve()))
        return asyncio.run(
            show(
                partial(_begin, store, made if method is None and target is None else None, port=port),
                open_browser=open_browser,
                explainer_args=arguments if store.without_maps is None else None,
                beside=partial(store.marks.find_flips, wanted=wanted, follow=store.follows),
                until=until,
                on_ready=on_ready,
            )
        )


def _begin(store: RecordedStore, maps: Recording | None, *, port: int | None) -> tuple[Receiver, PageServer]:
    receiver = Receiver(store, find_streams=list)
    if maps is not None:
        method, options, target = kind_of(maps)
        receiver.configure(method=method, options=options, target=target)
    versions = {store.recording.name_of(version): version for version in store.recording.versions}
    page = partial(build_page, transport=TimelineElement, versions=versions)
    states = ("--recording", str(store.recording.path.resolve()))
    return receiver, serve(receiver, port=port, page=page, tab=ReplayTab, states=states)
