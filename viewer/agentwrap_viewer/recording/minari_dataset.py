"""Episodes of a recording as a Minari dataset, written through Minari's own storage (https://minari.farama.org)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentwrap_protocol import spaces

from .errors import RecordingError
from .recording import Episode, Recording

if TYPE_CHECKING:
    import gymnasium as gym
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    from agentwrap_protocol.messages import Hello

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """Steps of an episode, from its first one on, that make an episode of a dataset.

    Minari's episodes have one observation more than steps. A recorded step has the observation that the policy saw, so
    that the one after an episode's last step is not known.

    Attributes:
        start: Index of the first step.
        stop: Index behind the last one.
        observed: Index behind the last observation: ``stop + 1``, or ``stop`` where the episode terminated with it.
    """

    start: int
    stop: int
    observed: int


def write_minari(recording: Recording, indices: range, path: Path, *, dataset_id: str) -> tuple[int, list[str]]:
    """Write episodes as a Minari dataset; needs minari with h5py. An episode is in memory at a time.

    ``minari.MinariDataset(path / "data")`` opens it, and ``minari.load_dataset(name)`` where ``path`` is the directory
    ``name`` among Minari's datasets. Observations are kept as they are: pictures too, which Minari by itself makes
    JPEGs of. Of a box whose elements have bounds of their own a recording knows the widest.

    After a terminated step, whose following observation nobody reads, the last one stands again. An episode that ended
    otherwise (truncated, reset, cut off) ends truncated a step sooner, so that each observation is one that was seen.

    Args:
        recording: The recording.
        indices: Steps to write; of each episode those from its first one on.
        path: The directory to make.
        dataset_id: What the dataset calls itself, in Minari's form: ``name-v0``.

    Returns:
        How many steps were written, and what was left out, for people.

    Raises:
        RecordingError: There is no episode to write, or observations or actions are of a space that has no arrays.
    """
    hello = recording.hello
    if hello is None:
        raise RecordingError(f"{recording.path} is empty: there is nothing to export")
    if indices.step != 1:
        raise RecordingError("a Minari dataset has every step of an episode: leave the N of --steps A:B:N out")
    parts, left_out = episodes(recording, indices)
    if not parts:
        raise RecordingError(f"{recording.path} has no episode for a Minari dataset. {'. '.join(left_out)}")
    storage = _storage(hello, path, dataset_id)
    for part in parts:
        storage.update_episodes([_buffer(recording, hello, part)])
    return sum(part.stop - part.start for part in parts), left_out


def _storage(hello: Hello, path: Path, dataset_id: str) -> MinariStorage:
    import minari
    from minari.dataset.minari_storage import MinariStorage

    observations, actions = gym_space(hello.observation_space), gym_space(hello.action_space)
    path.mkdir()
    # absolute, for its HDF5 storage looks for relative paths in its own directory
    storage = MinariStorage.new(path.absolute() / "data", observations, actions, jpeg_encoding=False)
    software = " ".join(f"{name} {version}" for name, version in hello.software.items())
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari.__version__,
            "algorithm_name": hello.policy.type,
            "description": f"{hello.env_id}, recorded with {software or 'agentwrap'}",
        }
    )
    return storage


def _buffer(recording: Recording, hello: Hello, part: Part) -> EpisodeBuffer:
    from minari.data_collector import EpisodeBuffer

    observations = _values(recording, "observation", hello.observation_space, part.start, part.observed)
    terminations = recording.array("terminated", part.start, part.stop).astype(bool)
    truncations = np.zeros_like(terminations)
    truncations[-1] = not terminations[-1]
    return EpisodeBuffer(
        observations=_closed(observations) if part.observed == part.stop else observations,
        actions=_values(recording, "action", hello.action_space, part.start, part.stop),
        rewards=recording.array("reward", part.start, part.stop),
        terminations=terminations,
        truncations=truncations,
    )


def episodes(recording: Recording, indices: range) -> tuple[list[Part], list[str]]:
    """Return what can be written of each episode, and what cannot, for people."""
    parts, left_out = [], []
    for episode in recording.episodes:
        start, stop = max(episode.start, indices.start), min(episode.stop, indices.stop)
        if start >= stop:
            continue
        problem = _problem(recording, start, stop)
        part = None if problem else _part(recording, episode, start, stop)
        if part is None:
            left_out.append(
                f"Episode {episode.number} is left out: {problem or 'its one step has no observation after it'}"
            )
        else:
            parts.append(part)
    return parts, left_out


def _problem(recording: Recording, start: int, stop: int) -> str | None:
    places = recording.array("episode_step", start, stop)
    if places[0] != 0:
        return f"it begins with its step {places[0]}"
    if (gaps := np.flatnonzero(np.diff(places) != 1)).size:
        return f"steps are missing after its step {places[gaps[0]]} (record_every=1 records all)"
    return None


def _part(recording: Recording, episode: Episode, start: int, stop: int) -> Part | None:
    if stop < episode.stop and not _problem(recording, start, stop + 1):
        return Part(start, stop, stop + 1)
    if recording.array("terminated", stop - 1, stop)[0]:
        return Part(start, stop, stop)
    return Part(start, stop - 1, stop) if stop - start > 1 else None


def _values(recording: Recording, name: str, space: spaces.Space, start: int, stop: int) -> Any:
    """Arrays of a space by name, nested as Minari has them: dicts of dicts, tuples of tuples."""
    match space:
        case spaces.Dict():
            return {key: _values(recording, f"{name}/{key}", each, start, stop) for key, each in space.spaces.items()}
        case spaces.Tuple():
            return tuple(_values(recording, f"{name}/{n}", each, start, stop) for n, each in enumerate(space.spaces))
    return recording.array(name, start, stop)


def _closed(values: Any) -> Any:
    """The same with the last one twice."""
    if isinstance(values, dict):
        return {key: _closed(each) for key, each in values.items()}
    if isinstance(values, tuple):
        return tuple(_closed(each) for each in values)
    return np.concatenate([values, values[-1:]])


def gym_space(space: spaces.Space) -> gym.Space[Any]:
    """Return a space of Gymnasium's for one that was streamed.

    Raises:
        RecordingError: The recording knows it by its text alone.
    """
    from gymnasium import spaces as made

    match space:
        case spaces.Box():
            low, high = _bounds(space)
            return made.Box(low, high, space.shape, np.dtype(space.dtype).type)
        case spaces.Discrete():
            return made.Discrete(space.n, start=space.start)
        case spaces.MultiDiscrete():
            return made.MultiDiscrete(np.array(space.counts))
        case spaces.MultiBinary():
            return made.MultiBinary(space.shape)
        case spaces.Dict():
            return made.Dict({key: gym_space(each) for key, each in space.spaces.items()})
        case spaces.Tuple():
            return made.Tuple([gym_space(each) for each in space.spaces])
    raise RecordingError(f"Minari has no arrays for the space {space.text[:100]}")


def _bounds(space: spaces.Box) -> tuple[Any, Any]:
    """The bounds as numbers of the box's own type: those of 64-bit integers were rounded to floats."""
    kind = np.dtype(space.dtype)
    if kind.kind not in "iu":
        return space.low, space.high
    info = np.iinfo(kind)
    return int(max(space.low, info.min)), int(min(space.high, info.max))
