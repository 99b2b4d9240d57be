"""``embed``: a recording's map in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .atlas import Atlas
from .errors import StatesError
from .layouts import LEAST_TSNE, Method
from .memory import MAX_POINTS

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

#: Steps read at a time.
PART = 256


def embed(
    recording: Recording,
    *,
    method: Method = "tsne",
    layer: str | None = None,
    perplexity: float = 30.0,
    max_points: int = MAX_POINTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Atlas:
    """Lay out the latents of a recording's steps in the plane.

    Args:
        recording: An open recording whose steps hold ``output/latent`` or ``output/layer/…``.
        method: ``tsne`` (van der Maaten & Hinton 2008), or ``pca``: two principal components, at once. So few points
            that neighbourhoods say little, fewer than 60, are always laid out by these.
        layer: ``latent``, or ``layer/<name of a submodule>``; None takes the latent, else the first layer.
        perplexity: About how many neighbours of each point t-SNE keeps near.
        max_points: Points to keep; of a longer recording the newest half and a uniform sample of what was before.
        on_progress: Called with the steps read and their number.

    Returns:
        The map: ``xy[:len(map)]``, ``step``, ``column(name)``, ``neighbours(step)``, ``inside(polygon)``.

    Raises:
        StatesError: There are no latents, too few, or none that is a number; says what to do.
        RecordingError: The recording cannot be read.
    """
    hello = recording.hello
    if hello is None:
        raise StatesError(f"{recording.path} holds no steps")
    atlas = Atlas(hello, layer=layer, perplexity=perplexity, max_points=max_points)
    for episode in recording.episodes:
        if episode.episode_return is not None:
            atlas.end_episode(episode.number, episode.episode_return)
    count = len(recording.steps)
    for begin in range(0, count, PART):
        atlas.add(list(recording.steps[begin : begin + PART]))
        if on_progress is not None:
            on_progress(min(begin + PART, count), count)
    if atlas.problem is not None:
        raise StatesError(atlas.problem)
    if method == "tsne" and len(atlas) >= LEAST_TSNE:
        atlas.fit()
    return atlas
