"""Who streams: everything in a hello message that stays as it is."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

import gymnasium as gym

from agentwrap_protocol import spaces

from . import __version__, known, mujoco_names
from .spaces import describe

#: Libraries whose versions are named, where they are in use.
SOFTWARE = {"gymnasium": "gymnasium", "numpy": "numpy", "torch": "torch", "ale_py": "ale-py"}


class Identity:
    """Describes an environment for people and for viewers.

    Attributes:
        name: The stream's name.
        env_id: The environment's id, or its class name where it is not registered.
        observation_space: The observation space.
        action_space: The action space.
        action_meanings: A name for each discrete action, or each element of another, or None.
        feature_names: A name for each element of a vector observation (of a dict's or tuple's entries that are
            vectors, one after another), or None.
        software: Names and versions.

    Args:
        env: The environment.
        name: Name to use instead of the id.
        action_meanings: Names to use instead of what the environment, or its documentation, says.
        feature_names: Likewise.

    Raises:
        ValueError: There are more or fewer names than actions or features.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        name: str | None = None,
        action_meanings: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.env_id = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self.name = name or self.env_id
        self.observation_space: spaces.Space = describe(env.observation_space)
        self.action_space: spaces.Space = describe(env.action_space)
        family = known.family(self.env_id)
        actions, features = _number_of_actions(env), _number_of_features(env)
        self.action_meanings = _given("action_meanings", action_meanings, actions) or _first_that_fits(
            actions, _asked_for_meanings(env), _found(mujoco_names.actions, env), known.ACTIONS.get(family)
        )
        self.feature_names = _given("feature_names", feature_names, features) or _first_that_fits(
            features, _found(_own_features, env), _found(mujoco_names.features, env), known.FEATURES.get(family)
        )
        self.software = {"agentwrap": __version__, "python": sys.version.split()[0], **_versions()}


def _given(option: str, names: Sequence[str] | None, count: int | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if len(names) != count:
        raise ValueError(f"{option}: {len(names)} names, but the environment has {count or 'nothing to name'}")
    return tuple(str(name) for name in names)


def _first_that_fits(count: int | None, *candidates: Sequence[str] | None) -> tuple[str, ...] | None:
    fitting = (tuple(names) for names in candidates if names is not None and len(names) == count)
    return next(fitting, None)


def _number_of_actions(env: gym.Env[Any, Any]) -> int | None:
    """Count the actions to choose from, or the elements of one that is continuous or consists of switches."""
    match env.action_space:
        case gym.spaces.Discrete():
            return int(env.action_space.n)
        case gym.spaces.Box() | gym.spaces.MultiBinary():
            return math.prod(env.action_space.shape or ())
    return None


def _number_of_features(env: gym.Env[Any, Any]) -> int | None:
    """Count the elements of a vector observation, or of a dict's or tuple's entries that are vectors."""
    space = env.observation_space
    if isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary) and len(space.shape) == 1:
        return int(space.shape[0])
    if isinstance(space, gym.spaces.Tuple) and all(part.shape == () for part in space.spaces):
        return len(space.spaces) or None  # numbers alone are sent as one vector
    return sum(_lengths(space)) or None


def _lengths(space: gym.Space[Any]) -> Iterator[int]:
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        yield space.shape[0]
    elif isinstance(space, gym.spaces.Dict):
        yield from (length for part in space.spaces.values() for length in _lengths(part))
    elif isinstance(space, gym.spaces.Tuple):
        yield from (length for part in space.spaces for length in _lengths(part))


def _own_features(env: Any) -> Sequence[str] | None:
    """What an environment says itself: its attribute ``feature_names``."""
    names = getattr(env, "feature_names", None)
    return None if names is None else tuple(str(name) for name in names)


def _found(look: Callable[[Any], Sequence[str] | None], env: gym.Env[Any, Any]) -> Sequence[str] | None:
    try:
        return look(env.unwrapped)
    except Exception:  # whatever they have under such a name: names are not worth failing for
        return None


def _asked_for_meanings(env: gym.Env[Any, Any]) -> tuple[str, ...] | None:
    """What Atari environments, and others after their example, say themselves."""
    try:
        return tuple(str(name) for name in env.unwrapped.get_action_meanings())  # type: ignore[attr-defined]
    except Exception:  # most environments have no such method, and names are not worth failing for
        return None


def _versions() -> dict[str, str]:
    found = {}
    for module, distribution in SOFTWARE.items():
        if module in sys.modules:
            try:
                found[module] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue  # built from source, without metadata
    return found
