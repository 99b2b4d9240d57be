"""Watching an algorithm of RLlib's new API stack while it learns, in its env runners' own processes."""

from __future__ import annotations

import warnings
from typing import Any

from .errors import MissingExtraError
from .wrapper import InterpretWrapper

try:
    from ray.rllib.callbacks.callbacks import RLlibCallback
except ImportError as error:
    raise MissingExtraError('this needs RLlib: pip install "agentwrap-rl[rllib]"') from error


class InterpretRLlibCallback(RLlibCallback):  # type: ignore[misc]
    """Streams the first environment of each env runner: ``config.callbacks(InterpretRLlibCallback)``.

    Each env runner has a stream of its own, named by its number, from the first episode on that it begins; the local
    one of an algorithm that has others samples nothing and has none. The environments have to be in the runner's own
    process (``gym_env_vectorize_mode="sync"``, the default).

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
        """Wrap the first environment, unless it is: before it is reset for the first time."""
        module = getattr(env_runner, "module", None)
        environments = getattr(getattr(env, "unwrapped", None), "envs", None)
        if module is None or self._told:
            return
        if not isinstance(environments, list) or not hasattr(environments[0], "reset"):
            self._told = True
            warnings.warn(
                "agentwrap: the environments are not in the env runner's process, or there are several agents: nothing "
                'is streamed; gym_env_vectorize_mode="sync" and one agent can be watched',
                stacklevel=2,
            )
        elif not isinstance(environments[0], InterpretWrapper):
            inner = environments[0]
            spec = getattr(inner, "spec", None)
            name = f"{spec.id if spec else type(inner.unwrapped).__name__}, env runner {env_runner.worker_index}"
            environments[0] = InterpretWrapper(inner, module, **{"name": name, **self._options})
