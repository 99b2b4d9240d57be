"""What TorchRL's transforms do between a Gymnasium environment and a policy, as a part of what is exported.

Transforms that compute each entry from another alone (``ToTensorImage``, ``GrayScale``, ``Resize``, ``DoubleToFloat``,
``UnsqueezeTransform``, one's own) say how in ``_apply_transform``, which is what TorchRL asks its subclasses for: that
is run. ``ObservationNorm``, ``VecNorm`` and ``VecNormV2`` normalise with statistics that may go on; ``CatFrames`` joins
earlier entries, which it keeps; ``CatTensors`` and ``RenameTransform`` move entries. Only those count on which depends
what the policy reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from agentwrap.errors import PolicyTypeError
from agentwrap.policy import Kept

from .preparation import Preparation
from .preprocessing import FrameStack, Normalization

_NORMALISING = {"ObservationNorm", "VecNorm", "VecNormV2"}


@dataclass(frozen=True)
class _Step:
    """What a transform does to one entry.

    Attributes:
        transform: The user's own.
        reads: Keys of what it takes.
        writes: Key of what comes out.
    """

    transform: Any
    reads: tuple[Any, ...]
    writes: Any


class Transforms(nn.Module):
    """Observations of the environment → what a policy reads.

    Args:
        given: Keys of the environment's entries, by what they are called in its observation; the only name ``""`` for
            an observation that is no dict.
        steps: What is done, with the keys of what each takes and writes.
        reads: Keys that the policy reads.
        keeps: Whether frame stacks are among the steps: see ``PolicyView.before`` for what that changes.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        steps: Sequence[tuple[nn.Module, tuple[Any, ...], Any]],
        reads: Sequence[Any],
        *,
        keeps: bool,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList([module for module, _, _ in steps])
        self._keys = [(taken, written) for _, taken, written in steps]
        self._given, self._reads, self._keeps = dict(given), tuple(reads), keeps

    def forward(self, observation: Any, kept: Mapping[str, torch.Tensor] | None = None) -> Any:
        """Return what the policy reads, by the last part of its keys, or the only tensor; and what is kept."""
        leaving: dict[str, torch.Tensor] = {}
        entries = entries_of(self._given, observation)
        for module, (taken, written) in zip(self.steps, self._keys, strict=True):
            result = module(*(entries[key] for key in taken), *_entering(module, kept))
            if isinstance(module, FrameStack):
                result, leaving[module.name] = result
            entries[written] = result
        read = {_last(key): entries[key] for key in self._reads}
        prepared = read if len(read) > 1 else next(iter(read.values()))
        return (prepared, leaving) if self._keeps else prepared


def preparation_by(env: Any, given: gym.Space[Any], reads: Sequence[Any], told: Mapping[str, Any]) -> Preparation:
    """Say what the transforms of an environment do with observations.

    Args:
        env: A ``TransformedEnv``.
        given: Observations of the Gymnasium environment inside.
        reads: Keys that the policy reads.
        told: Earlier frames by name where they are not those that the transforms keep: of an act outside of ``env``.

    Raises:
        PolicyTypeError: What the policy reads depends on a transform that cannot be followed; the text names it.
    """
    transforms, base = _apart(env)
    names = _names(base, given)
    steps = list(_needed(list(_steps(transforms)), reads, set(names.values())))
    found = _Found({key: _zeros(given, name) for name, key in names.items()}, told)
    modules = [(found.module(step), step.reads, step.writes) for step in steps]
    if not modules and list(reads) == list(names.values()):
        return Preparation()
    refresh = found.refresh if found.statistics else None
    return Preparation(Transforms(names, modules, reads, keeps=bool(found.kept)), refresh, kept=found.kept)


def entries_of(given: Mapping[str, Any], observation: Any) -> dict[Any, torch.Tensor]:
    """Return the environment's entries by their keys."""
    if "" in given:
        return {given[""]: observation}
    # TorchRL puts "state" under "observation" in the environment's own dict
    return {key: observation[name if name in observation else key] for name, key in given.items()}


class _Found:
    """Makes modules of transforms, one after the other, on entries as they are until then."""

    def __init__(self, entries: dict[Any, torch.Tensor], told: Mapping[str, Any]) -> None:
        self._entries, self._told = entries, told
        self.kept: dict[str, Kept] = {}
        self.statistics: list[tuple[Normalization, Callable[[int], Any]]] = []

    def refresh(self, given: Any = None, row: int = 0) -> None:
        for module, get in self.statistics:
            found = get(row)
            if found is not None:
                module.update(*found)

    def module(self, step: _Step) -> nn.Module:
        entry, kind = self._entries[step.reads[0]], type(step.transform).__name__
        if kind in _NORMALISING:
            made = self._normalization(step, entry)
        elif kind == "CatFrames":
            made = self._frames(step, entry)
        elif kind == "CatTensors":
            made = Joined(step.transform.dim)
        else:
            made = nn.Identity() if kind == "RenameTransform" else Applied(step.transform.clone())
        try:
            with torch.no_grad():
                entering = [torch.zeros(self.kept[made.name].shape)] if isinstance(made, FrameStack) else []
                result = made(*(self._entries[key] for key in step.reads), *entering)
        except Exception as error:
            raise PolicyTypeError(
                f"the transform {kind} cannot be followed: {type(error).__name__}: {error}"
            ) from error
        self._entries[step.writes] = result[0] if entering else result
        return made

    def _normalization(self, step: _Step, entry: torch.Tensor) -> nn.Module:
        get = partial(_statistics, step.transform, step.reads[0], entry.dim() - 1)
        known = get(0)
        shape = tuple(entry.shape[1:]) if known is None else np.shape(known[0])
        module = Normalization(shape, clip=None)
        self.statistics.append((module, get))
        self.refresh()
        precise = entry.dtype if entry.is_floating_point() else torch.float32
        return module if precise == torch.float32 else nn.Sequential(module, Cast(precise))

    def _frames(self, step: _Step, entry: torch.Tensor) -> FrameStack:
        transform, key = step.transform, step.reads[0]
        name = "frames" if not self.kept else f"frames/{_last(key)}"
        stack = FrameStack(dim=transform.dim, size=entry.shape[transform.dim], frames=transform.N, name=name)
        shape = stack.shape_of(tuple(entry.shape[1:]))
        self.kept[name] = Kept(shape, partial(_earlier, transform, key, stack, self._told))
        return stack


class Applied(nn.Module):
    """A transform that computes each entry from another alone.

    Args:
        transform: A clone of the user's, which belongs to no environment.
    """

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, entry: torch.Tensor) -> torch.Tensor:
        """Return the entry, transformed."""
        result: torch.Tensor = self.transform._apply_transform(entry)
        return result


class Joined(nn.Module):
    """Entries along one of their axes.

    Args:
        dim: The axis, counted from the end.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = dim

    def forward(self, *entries: torch.Tensor) -> torch.Tensor:
        """Return them joined."""
        return torch.cat(entries, self._dim)


class Cast(nn.Module):
    """Another element type.

    Args:
        dtype: Which.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def forward(self, entry: torch.Tensor) -> torch.Tensor:
        """Return the entry in that type."""
        return entry.to(self._dtype)


def _apart(env: Any) -> tuple[list[Any], Any]:
    """Return the transforms of an environment, in the order in which observations pass them, and what is inside."""
    transforms: list[Any] = []
    while any(cls.__name__ == "TransformedEnv" for cls in type(env).__mro__):
        transforms = [*_flat(env.transform), *transforms]
        env = env.base_env
    return transforms, env


def _flat(transform: Any) -> Iterator[Any]:
    parts = getattr(transform, "transforms", None)
    if parts is None:
        yield transform
    else:
        for part in parts:
            yield from _flat(part)


def _names(base: Any, given: gym.Space[Any]) -> dict[str, Any]:
    """Keys of the environment's entries, by what they are called in its observation, as TorchRL reads it."""
    if not isinstance(given, gym.spaces.Dict):
        return {"": next(iter(base.observation_spec.keys(True, True)))}
    names: dict[str, Any] = {name: name for name in given}
    if "state" in names and "observation" not in names:
        names["state"] = "observation"
    return names


def _zeros(given: gym.Space[Any], name: str) -> torch.Tensor:
    space = given[name] if isinstance(given, gym.spaces.Dict) else given
    return torch.as_tensor(np.zeros((1, *(space.shape or ())), space.dtype))


def _steps(transforms: Sequence[Any]) -> Iterator[_Step]:
    for transform in transforms:
        keys = list(transform.in_keys or ())
        if type(transform).__name__ == "CatTensors":
            yield _Step(transform, tuple(keys), transform.out_keys[0])
        else:
            yield from (_Step(transform, (key,), out) for key, out in zip(keys, transform.out_keys or (), strict=False))


def _needed(steps: list[_Step], reads: Sequence[Any], given: set[Any]) -> Iterator[_Step]:
    """Those steps on which depends what the policy reads.

    Raises:
        PolicyTypeError: One of them cannot be followed, or what is read comes from elsewhere.
    """
    wanted, found = set(reads), list[_Step]()
    for step in reversed(steps):
        if step.writes in wanted:
            _check(step.transform)
            wanted = (wanted - {step.writes}) | set(step.reads)
            found.append(step)
    unknown = [str(key) for key in reads if key in wanted - given] or [str(key) for key in wanted - given]
    if unknown:
        raise PolicyTypeError(
            f"the policy depends on {', '.join(unknown)}, which neither the environment's observation nor a transform "
            f"of observations has; there are {', '.join(map(str, given))}"
        )
    yield from reversed(found)


def _check(transform: Any) -> None:
    """Refuse what cannot be followed.

    Raises:
        PolicyTypeError: It says what stands in the way.
    """
    kind: Any = type(transform)
    name = kind.__name__
    base: Any = next(cls for cls in kind.__mro__ if cls.__name__ == "Transform")
    if not kind.__module__.startswith("torchrl."):
        known = False
    else:
        known = name in {*_NORMALISING, "CatFrames", "CatTensors", "RenameTransform"}
    applied = all(getattr(kind, method) is getattr(base, method) for method in ("_call", "_step"))
    if not known and (not applied or kind._apply_transform is base._apply_transform):
        raise PolicyTypeError(
            f"the transform {name} stands between environment and policy, and what it does cannot be followed: only "
            "those that compute each entry alone (_apply_transform), CatFrames, CatTensors, RenameTransform, "
            "ObservationNorm and VecNorm can. Wrap the environment instead, or let the policy do it"
        )
    places = (vars(transform).get(place) for place in ("_dim", "_first_dim", "_last_dim", "dim"))
    if any(isinstance(place, int) and place >= 0 for place in places):
        raise PolicyTypeError(f"{name} names an axis from the front, which batches have elsewhere: count from the end")
    if getattr(transform, "unsqueeze", False) is True or getattr(transform, "as_inverse", False):
        raise PolicyTypeError(f"{transform} cannot be followed: without unsqueeze=True and as_inverse=True it can")
    if name == "VecNormV2" and not transform.stateful:
        raise PolicyTypeError("VecNormV2(stateful=False) keeps its statistics elsewhere, which cannot be followed")


def _statistics(transform: Any, key: Any, ndim: int, row: int) -> tuple[Any, Any] | None:
    """What a normalising transform subtracts, and divides by; None where it has seen nothing yet."""
    if type(transform).__name__ == "ObservationNorm":
        if not transform.initialized:
            raise PolicyTypeError("an ObservationNorm has no loc and scale yet: call its init_stats first")
        loc, scale = transform.loc, transform.scale
        found = (loc, scale) if transform.standard_normal else (-loc / scale, 1 / scale)
    else:
        if (transform._loc if type(transform).__name__ == "VecNormV2" else transform._td) is None:
            return None
        found = transform.loc.get(key), transform.scale.get(key).clamp_min(transform.eps)
    # some keep statistics for each of several environments
    mean, std = (each[row] if each.dim() > ndim else each for each in found)
    if not (mean.isfinite().all() and std.isfinite().all()):
        return None
    return mean.detach().cpu().numpy(), std.detach().cpu().numpy()


def _earlier(transform: Any, key: Any, stack: FrameStack, told: Mapping[str, Any], given: Any) -> torch.Tensor | None:
    """The earlier frames that a ``CatFrames`` keeps beside the newest, before the environment is stepped."""
    if stack.name in told:
        entered: torch.Tensor = told[stack.name]
        return entered
    buffer = getattr(transform, f"_cat_buffers_{key}")
    if isinstance(buffer, nn.parameter.UninitializedBuffer):
        return None
    return stack.earlier(buffer)


def _entering(module: nn.Module, kept: Mapping[str, torch.Tensor] | None) -> tuple[torch.Tensor, ...]:
    return (kept[module.name],) if isinstance(module, FrameStack) and kept is not None else ()


def _last(key: Any) -> str:
    return key if isinstance(key, str) else str(key[-1])
