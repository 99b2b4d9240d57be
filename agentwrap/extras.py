"""Libraries that somebody may have or not: how to say that one is missing, or too old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

from .errors import MissingExtraError


@dataclass(frozen=True)
class Extra:
    """A library, and the extra of this distribution that installs it.

    Attributes:
        name: What people call it.
        distribution: What pip calls it.
        least: The oldest version that will do, as the extra says.
        extra: The extra.
    """

    name: str
    distribution: str
    least: str
    extra: str

    @property
    def installed(self) -> str | None:
        """Its version, or None."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    @property
    def too_old(self) -> bool:
        """Whether it is installed, in an older version than will do."""
        return self.installed is not None and _release(self.installed) < _release(self.least)

    @property
    def problem(self) -> str:
        """What is wrong with it, for people, with the command that mends it."""
        wanted = f"{self.name} {self.least} or newer ({self.installed} is installed)" if self.too_old else self.name
        return f"this needs {wanted}: {self.command}"

    @property
    def command(self) -> str:
        """What installs it, or a newer one."""
        return f'pip install "agentwrap-rl[{self.extra}]"'

    @contextmanager
    def imported(self) -> Iterator[None]:
        """Import it within: what that raises becomes an error that says what to do.

        Raises:
            MissingExtraError: It is not installed, too old, or installed and cannot be imported.
        """
        try:
            yield
        except ImportError as error:
            if self.installed is None or self.too_old:
                raise MissingExtraError(self.problem) from error
            # RLlib without what it needs itself is a part of Ray, which many have
            text = f"{self.name} {self.installed} is installed, but cannot be imported ({error}): {self.command}"
            raise MissingExtraError(text) from error
        if self.too_old:  # what it lacks would be missed somewhere in the middle
            raise MissingExtraError(self.problem)


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


SB3 = Extra("Stable-Baselines3", "stable-baselines3", "2.7", "sb3")
SB3_CONTRIB = Extra("sb3-contrib", "sb3-contrib", "2.7", "sb3")
TENSORDICT = Extra("TensorDict", "tensordict", "0.7", "torchrl")
TORCHRL = Extra("TorchRL", "torchrl", "0.7", "torchrl")
RLLIB = Extra("RLlib", "ray", "2.60", "rllib")
TORCH = Extra("PyTorch", "torch", "2.6", "torch")
