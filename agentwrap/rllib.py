"""Watching an algorithm of RLlib's new API stack while it learns, in its env runners' own processes."""

from __future__ import annotations

import warnings
from typing import Any

from .errors import MissingExtraError
from .extras import RLLIB
from .vector import InterpretVectorWrapper
from .wrapper import InterpretWrapper

try:
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
except ImportError as error:
    raise MissingExtraError(RLLIB.problem) from error


class InterpretRLlibCallback(RLlibCallback):  # type: ignore[misc]
    """Streams what each env runner does: ``config.callbacks(InterpretRLlibCallback)``.

    Each env runner has a stream of its own, named by its number, from the first episode on that it begins; the local
    one of an algorithm that has others samples nothing and has none. Of environments in the runner's own process
    (``gym_env_vectorize_mode="sync"``, the default) the first is watched; of those in processes of their own
    (``"async"``) or that are one vector environment, viewers choose which. Several agents cannot be watched: the
    environment's observations are then not what one module is called with.

    Args:
        options: Those of ``InterpretWrapper``; give them with ``functools.partial``.

    Example::

        config = PPOConfig().environment("CartPole-v1").callbacks(partial(InterpretRLlibCallback, fps=30))
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        self._told = False

    def on_episode_created(self, *, env_runner: Any = None, env: Any = None, **kwargs: Any) -> None:
        """Wrap the environments, unless they are: before they are reset for the first time."""
        module = getattr(env_runner, "module", None)
        if module is None or self._told:
            return
        if isinstance(module, MultiRLModule):
            self._told = True
            warnings.warn(
                "agentwrap: several agents act in these environments, and one can be watched: nothing is streamed. To "
                "look at one of them, let algorithm.get_module(id) act in a gymnasium.Env of its observations alone, "
                "wrapped in InterpretWrapper",
                stacklevel=2,
            )
            return
        environments = getattr(env, "envs", None)
        if isinstance(environments, list):
            self._wrap_first(environments, env_runner, module)
        else:
            self._wrap_all(env_runner, module)

    def _wrap_first(self, environments: list[Any], env_runner: Any, module: Any) -> None:
        if not isinstance(environments[0], InterpretWrapper):
            options = self._with_name(environments[0], env_runner)
            environments[0] = InterpretWrapper(environments[0], module, **options)

    def _wrap_all(self, env_runner: Any, module: Any) -> None:
        outermost = env_runner.env  # RLlib's own wrapper, which makes a list of infos
        if not isinstance(outermost.env, InterpretVectorWrapper):
            options = self._with_name(outermost.env, env_runner)
            outermost.env = InterpretVectorWrapper(outermost.env, module, **options)

    def _with_name(self, env: Any, env_runner: Any) -> dict[str, Any]:
        spec = getattr(env, "spec", None)
        env_id = spec.id if spec else type(env.unwrapped).__name__
        return {"name": f"{env_id}, env runner {env_runner.worker_index}", **self._options}
