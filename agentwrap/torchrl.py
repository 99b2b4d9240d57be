"""Watching a TorchRL environment with its transforms, which are a part of what is explained."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium as gym

from .errors import PolicyTypeError
from .extras import TORCHRL
from .options import Options
from .policy import Preprocessed
from .vector import InterpretVectorWrapper
from .wrapper import InterpretWrapper

with TORCHRL.imported():
    from torchrl.envs import EnvBase, GymWrapper, TransformedEnv


def interpret(env: EnvBase, policy: Any, **options: Unpack[Options]) -> InterpretWrapper | InterpretVectorWrapper:
    """Stream what a policy does in a TorchRL environment: one line after the environment is made.

    The wrapper is put around the Gymnasium environment inside, so that maps are of what that returns. What the
    transforms do with observations on their way to the policy is a part of the computation that is exported: give them
    their statistics (``ObservationNorm.init_stats``), and append all of them, before. The environment itself stays what
    it is, and closing it ends the stream.

    Args:
        env: A ``GymEnv`` or ``GymWrapper``, also of several environments at once, or a ``TransformedEnv`` around one.
        policy: What takes its TensorDicts.
        options: Those of ``InterpretWrapper``.

    Returns:
        The wrapper that stands inside now: its ``endpoint``, ``wait_for_viewer``.

    Raises:
        PolicyTypeError: There is no Gymnasium environment of this process inside, or a transform of observations cannot
            be followed; the text names it. ``InterpretWrapper`` says what else is raised.

    Example:
        >>> from torch import nn
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.envs import GymEnv, ObservationNorm, TransformedEnv
        >>> from agentwrap.torchrl import interpret
        >>> env = TransformedEnv(GymEnv("CartPole-v1"), ObservationNorm(0.0, 2.0, in_keys=["observation"]))
        >>> policy = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["logits"])
        >>> watched = interpret(env, policy, quiet=True)
        >>> env.close()
    """
    base = env
    while isinstance(base, TransformedEnv):
        base = base.base_env
    if not isinstance(base, GymWrapper):
        raise PolicyTypeError(
            f"inside of this environment is a {type(base).__name__}, not a Gymnasium environment of this process: call "
            "interpret where that is made (of a SerialEnv, in the function that makes its first), or for a policy in "
            "another process there"
        )
    acting = Preprocessed(policy, env)
    several = isinstance(base._env.unwrapped, gym.vector.VectorEnv)
    if several and hasattr(base, "env_name"):  # what TorchRL makes of it does not know its name
        options.setdefault("name", base.env_name)
    wrapped = (InterpretVectorWrapper if several else InterpretWrapper)(base._env, acting, **options)
    base._env = wrapped
    return wrapped
