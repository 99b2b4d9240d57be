"""Libraries that somebody may have or not: how to say that one is missing, or too old."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata


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
        return f'this needs {wanted}: pip install "agentwrap-rl[{self.extra}]"'


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


SB3 = Extra("Stable-Baselines3", "stable-baselines3", "2.7", "sb3")
TORCHRL = Extra("TorchRL", "torchrl", "0.7", "torchrl")
RLLIB = Extra("RLlib", "ray", "2.60", "rllib")
