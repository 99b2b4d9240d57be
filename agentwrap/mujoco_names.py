"""What MuJoCo's model calls the joints and actuators of Gymnasium's MuJoCo environments, version 5 and newer.

Sources: https://gymnasium.farama.org/environments/mujoco/ (``observation_structure``: what an observation is made of)
and https://mujoco.readthedocs.io/en/stable/APIreference/APItypes.html#mjmodel. Nothing of MuJoCo is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Numbers that a joint has in position and velocity by its type (``mjtJoint``): free, ball, slide, hinge.
_SIZES = {0: (7, 6), 1: (4, 3), 2: (1, 1), 3: (1, 1)}


def features(env: Any) -> tuple[str, ...] | None:
    """Return a name for each element of an environment's observation; None where it does not say what that is."""
    structure, model = getattr(env, "observation_structure", None), getattr(env, "model", None)
    if not structure or model is None:
        return None
    positions, velocities = _joints(model, 0), [f"{name} velocity" for name in _joints(model, 1)]
    known = {"qpos": positions[structure.get("skipped_qpos", 0) :], "qvel": velocities}
    names: list[str] = []
    for part, count in structure.items():
        if part.startswith("skipped"):
            continue
        own = known.get(part, [])
        names += own if len(own) == count else [f"{part} {index}" for index in range(count)]
    return tuple(names)


def actions(env: Any) -> tuple[str, ...] | None:
    """Return a name for each actuator: its own, or that of the joint that it moves; None where there is no model."""
    model = getattr(env, "model", None)
    if model is None:
        return None
    return tuple(model.actuator(index).name or _moved(model, index) for index in range(model.nu))


def _moved(model: Any, actuator: int) -> str:
    return str(model.joint(int(model.actuator_trnid[actuator][0])).name)


def _joints(model: Any, which: int) -> list[str]:
    """Return a name for each number of all joints' positions (0) or velocities (1)."""
    return [name for joint in range(model.njnt) for name in _numbers(model, joint, which)]


def _numbers(model: Any, joint: int, which: int) -> Iterator[str]:
    name, size = model.joint(joint).name, _SIZES[int(model.jnt_type[joint])][which]
    return (name if size == 1 else f"{name} {index}" for index in range(size))
