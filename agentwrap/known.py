"""What Gymnasium's documentation says about its classic environments, and their spaces do not.

Sources: https://gymnasium.farama.org/environments/classic_control/, https://gymnasium.farama.org/environments/box2d/
and https://gymnasium.farama.org/environments/toy_text/.
"""

from __future__ import annotations

#: Names of a vector observation's elements, by environment id without its version.
FEATURES: dict[str, tuple[str, ...]] = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "MountainCar": ("position", "velocity"),
    "MountainCarContinuous": ("position", "velocity"),
    "Pendulum": ("cos θ", "sin θ", "angular velocity"),
    "Acrobot": ("cos θ1", "sin θ1", "cos θ2", "sin θ2", "angular velocity 1", "angular velocity 2"),
    "Blackjack": ("player's sum", "dealer's card", "usable ace"),
    "LunarLander": (
        "x", "y", "velocity x", "velocity y", "angle", "angular velocity", "left leg contact", "right leg contact",
    ),
}  # fmt: skip

#: Names of discrete actions, or of a continuous one's elements, by environment id without its version.
ACTIONS: dict[str, tuple[str, ...]] = {
    "CartPole": ("push left", "push right"),
    "MountainCar": ("accelerate left", "coast", "accelerate right"),
    "MountainCarContinuous": ("force",),
    "Pendulum": ("torque",),
    "Acrobot": ("torque -1", "torque 0", "torque +1"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "Blackjack": ("stick", "hit"),
    "CliffWalking": ("up", "right", "down", "left"),
    "FrozenLake": ("left", "down", "right", "up"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
}


def family(env_id: str) -> str:
    """Return an id without namespace and version: ``CartPole`` for ``CartPole-v1``."""
    return env_id.rsplit("/", 1)[-1].rsplit("-v", 1)[0]
