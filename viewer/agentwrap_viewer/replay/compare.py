"""``agentwrap compare``: the page over a recording and two policies, with an explainer that has both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from agentwrap_protocol.messages import Hello
from agentwrap_viewer.launch import settings, show
from agentwrap_viewer.page.compare_layout import build_compare_page
from agentwrap_viewer.page.components.intervals import action_names
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.server import PageServer, serve
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import Recording, RecordingError, open_recording
from agentwrap_viewer.recording.policies import listed
from agentwrap_viewer.recording.scalars import action_masks

from .compare_tab import CompareTab
from .contrast import Contrast
from .store import CannotReplay, RecordedStore


def compare(
    path: Path,
    *,
    policies: Sequence[str | os.PathLike[str]] = (),
    versions: Sequence[int] = (),
    names: tuple[str, str] | None = None,
    follow: bool = False,
    port: int | None = None,
    open_browser: bool = True,
    device: str = "cpu",
    method: str | None = None,
    target: str | None = None,
    budget_ms: float | None = None,
    until: Callable[[RecordedStore], bool] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> RecordedStore:
    """Serve the page that compares two policies on a recording until Ctrl-C, SIGTERM, or ``until``.

    Args:
        path: The recording.
        policies: Files of weights.
        versions: Versions of the recorded policy. Two of versions and files together are compared, versions on the
            left; where neither is given, the first and the last version.
        names: What the two are called; by default after their files or versions.
        follow: As for ``replay``, like what follows.
        port: Port on the loopback interface.
        open_browser: Open the page in the user's browser.
        device: Where maps are computed.
        method: Saliency method to begin with, or None for the one that suits.
        target: What of the policy is explained to begin with, or None for what the method explains of itself:
            ``actor``, ``critic``, ``chosen``, ``choice:<i>``, an action's name or index.
        budget_ms: Time for one step and policy before another step that is looked at gets its turn.
        until: Asked five times a second with the store; when it returns True the page ends.
        on_ready: Called once with the page's address when it is served.

    Raises:
        RecordingError: A file cannot be read, a version is not there, or weights are of another architecture.
        CannotReplay: There is nothing to show, or not two policies to compare.
        LaunchError: The port is taken, or the explainer refuses the device or the method.
    """
    with open_recording(path) as recording:
        chosen = choose(recording, policies, versions)
        store = RecordedStore(recording, follow=follow)
        store.contrast = contrast_of(store, chosen, names)
        added = ("--policies", *(str(Path(each).resolve()) for each in policies)) if policies else ()
        arguments = (*settings(device, method, target, budget_ms), "--recording", str(recording.path.resolve()), *added)

        def over(shown: Store) -> bool:
            return until is not None and isinstance(shown, RecordedStore) and until(shown)

        asyncio.run(
            show(
                partial(_begin, store, store.contrast, port=port),
                open_browser=open_browser,
                explainer_args=arguments,
                until=over,
                on_ready=on_ready,
            )
        )
        return store


def choose(
    recording: Recording, policies: Sequence[str | os.PathLike[str]], versions: Sequence[int]
) -> tuple[int, int]:
    """Return the two versions to compare; files of weights are added to the recording as further ones.

    Raises:
        RecordingError: A version is not there, or a file does not fit.
        CannotReplay: They are not two.
    """
    recorded = recording.versions
    if not policies and not versions:
        if len(recorded) < 2:
            have = f"only version {recorded[0]}" if recorded else "none"
            raise CannotReplay(
                f"{recording.path} holds {have} of its policy: name weights to compare with --policies A.safetensors "
                "B.safetensors"
            )
        versions = (recorded[0], recorded[-1])
    if len(policies) + len(versions) != 2:
        raise CannotReplay(
            f"two policies are compared, {len(policies) + len(versions)} are given: name two files of weights "
            f"(--policies), two versions (--versions; there is {listed(recorded) or 'none'}), or one of each"
        )
    for version in versions:
        recording.graph(version)  # says which versions there are
    left, right = (*versions, *(recording.add_weights(each) for each in policies))
    if left == right:
        raise CannotReplay(f"version {left} cannot be compared with itself; there is {listed(recorded)}")
    for version in (left, right):
        recording.weights(version)  # those beside the recording are read now: the explainer could only complain later
    return left, right


def contrast_of(store: RecordedStore, versions: tuple[int, int], names: tuple[str, str] | None = None) -> Contrast:
    """Return what will be known of two versions of the policy on all steps of a recording."""
    recording, hello = store.recording, store.hello
    assert isinstance(hello, Hello)
    return Contrast(
        store.columns.step,
        versions,
        names or short(recording.name_of(versions[0]), recording.name_of(versions[1])),
        hello.action_space,
        action_name=lambda index: action_names(hello, index + 1)[index],
        free=partial(action_masks, recording),
    )


def short(left: str, right: str) -> tuple[str, str]:
    """Return two names without the words that both begin with; with their sides where they are the same."""
    if left == right:
        return f"{left} (left)", f"{right} (right)"
    same = os.path.commonprefix([left, right])
    cut = max(same.rfind(separator) for separator in "-_.") + 1
    return (left[cut:], right[cut:]) if left[cut:] and right[cut:] else (left, right)


def _begin(store: RecordedStore, contrast: Contrast, *, port: int | None) -> tuple[Receiver, PageServer]:
    receiver = Receiver(store, find_streams=list)
    shown = 0

    def go_on() -> None:
        """Ask for more outputs, and mark what has come; whenever something has."""
        nonlocal shown
        contrast.ask(receiver)
        if contrast.known != shown:
            shown = contrast.known
            store.marks.put("contrast", contrast.marks())

    store.listen(go_on)
    return receiver, serve(receiver, port=port, page=partial(build_compare_page, names=contrast.names), tab=CompareTab)


__all__ = ["CannotReplay", "RecordingError", "compare"]
