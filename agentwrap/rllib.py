"""Watching an algorithm of RLlib's new API stack while it learns, in its env runners' own processes."""

from __future__ import annotations

from typing import Any

from .extras import RLLIB
from .multi_agent import OneAgent, OneOfSeveral
from .policy import Preprocessed
from .streaming import Stream
from .vector import InterpretVectorWrapper
from .wrapper import InterpretWrapper

with RLLIB.imported():
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule


class InterpretRLlibCallback(RLlibCallback):  # type: ignore[misc]
    """Streams what each env runner does: ``config.callbacks(InterpretRLlibCallback)``.

    Each env runner has a stream of its own, named by its number, from the first episode on that it begins; the local
    one of an algorithm that has others samples nothing and has none. Of environments in the runner's own process
    (``gym_env_vectorize_mode="sync"``, the default) the first is watched; of those in processes of their own
    (``"async"``) or that are one vector environment, viewers choose which. Where several agents act in an environment,
    one of them is watched, together with the module that acts for it.

    Args:
        module: Id of the module to watch where there are several: of the agents for which it acts in an episode, the
            first. By default that of the first agent that acts.
        agent: Id of the agent to watch where there are several; by default whichever has the module.
        options: Those of ``InterpretWrapper``; give them with ``functools.partial``.

    Example::

        config = PPOConfig().environment("CartPole-v1").callbacks(partial(InterpretRLlibCallback, fps=30))
    """

    def __init__(self, *, module: Any = None, agent: Any = None, **options: Any) -> None:
        super().__init__()
        self._module, self._agent, self._options = module, agent, options

    def on_episode_created(
        self, *, episode: Any = None, env_runner: Any = None, env: Any = None, env_index: int = 0, **kwargs: Any
    ) -> None:
        """Wrap the environments, unless they are: before they are reset for the first time.

        Raises:
            ValueError: There is no module, or no agent, of the id that was asked for.
        """
        module = getattr(env_runner, "module", None)
        if module is None:
            return
        environments = getattr(env, "envs", None)
        if isinstance(module, MultiRLModule):
            if isinstance(environments, list) and env_index == 0:
                self._wrap_one_of_several(environments, env_runner, module)
                environments[0].begins(episode)
        elif isinstance(environments, list):
            self._wrap_first(environments, env_runner, module)
        else:
            self._wrap_all(env_runner, module)

    def _wrap_first(self, environments: list[Any], env_runner: Any, module: Any) -> None:
        if not isinstance(environments[0], InterpretWrapper):
            options = self._with_name(environments[0], env_runner)
            environments[0] = InterpretWrapper(environments[0], _with_connectors(module, env_runner), **options)

    def _wrap_one_of_several(self, environments: list[Any], env_runner: Any, modules: Any) -> None:
        env = environments[0]
        if isinstance(env, OneOfSeveral):
            return
        agents = list(env.unwrapped.possible_agents)
        for what, wanted, known in (("module", self._module, list(modules.keys())), ("agent", self._agent, agents)):
            if wanted is not None and known and wanted not in known:
                raise ValueError(f"{what}={wanted!r}: there is none of that id; there are {known}")

        def begin(shown: OneAgent, module: Any, agent: Any) -> Stream:
            options = self._with_name(env, env_runner, f", agent {agent}, module {module}")
            return Stream(shown, _of_one_agent(modules, module, agent, env_runner), **options)

        strict = bool(self._options.get("strict"))
        environments[0] = OneOfSeveral(env, module=self._module, agent=self._agent, begin=begin, strict=strict)

    def _wrap_all(self, env_runner: Any, module: Any) -> None:
        outermost = env_runner.env  # RLlib's own wrapper, which makes a list of infos
        if not isinstance(outermost.env, InterpretVectorWrapper):
            options = self._with_name(outermost.env, env_runner)
            outermost.env = InterpretVectorWrapper(outermost.env, _with_connectors(module, env_runner), **options)

    def _with_name(self, env: Any, env_runner: Any, who: str = "") -> dict[str, Any]:
        spec = getattr(env, "spec", None)
        env_id = spec.id if spec else type(env.unwrapped).__name__
        return {"name": f"{env_id}{who}, env runner {env_runner.worker_index}", **self._options}


def _with_connectors(module: Any, env_runner: Any) -> Preprocessed:
    """Name the module together with what its env runner does with observations before."""
    return Preprocessed(module, env_runner._env_to_module)


def _of_one_agent(modules: Any, module: Any, agent: Any, env_runner: Any) -> Preprocessed:
    """Likewise the module that acts for an agent, perhaps for others too."""

    def agents() -> list[Any] | None:
        # how the env runner itself finds whose the actions are that a module computes
        rows = env_runner._shared_data.get("memorized_map_structure", {}).get(module)
        return None if rows is None else [agent for _, agent in rows]

    return Preprocessed(modules[module], env_runner._env_to_module, agent, agents)
