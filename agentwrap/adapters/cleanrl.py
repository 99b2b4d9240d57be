"""Agents in the style of CleanRL: a module without ``forward`` that the script asks ``get_action_and_value``.

Where its acts begin is found by trying: the first submodule that this function calls. The outputs are those of the
submodules with CleanRL's names, ``actor`` or ``actor_mean`` with ``actor_logstd``, and ``critic``; where they bear
others, of those that compute what the function returns (`heads`). An agent with a submodule ``lstm``, ``gru`` or
``rnn`` is asked ``get_action_and_value(x, state, done)``, as in ``ppo_atari_lstm.py``.
Q-networks have a ``forward`` and are watched as they are; that what they return are Q-values is known by the name of
the class. That of ``c51.py`` has none and is asked ``get_action``: its Q-values are the means of what ``network`` says
of each action's atoms. Actors of SAC (``fc_mean``, ``fc_logstd``), TD3 and DDPG (``fc_mu``) have a ``forward`` too, and
make actions of the whole range of the environment's. Their critics are modules of their own in those scripts: what has
``actor`` and ``qf1`` (``qf2``), such as a ``torch.nn.ModuleDict`` of them, is explained by both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.distributions import Categorical, Deterministic, Distribution, Gaussian
from agentwrap.errors import PolicyTypeError
from agentwrap.hooks import device_of
from agentwrap.policy import PolicyView, State, Watch

from .recurrent import given_to, states_of

if TYPE_CHECKING:
    import torch

    from .heads import Heads


class CleanRL:
    """Adapter for agents and Q-networks as CleanRL's scripts define them."""

    name = "cleanrl"

    def matches(self, policy: Any) -> bool:
        """Whether it has the methods and submodules of CleanRL's agents, or is a Q-network."""
        if not hasattr(policy, "named_modules"):
            return False
        no_forward = getattr(getattr(policy, "forward", None), "__name__", "") == "_forward_unimplemented"
        asked = no_forward and hasattr(policy, "get_action_and_value")
        return asked or _is_q_network(policy) or _is_c51(policy) or _is_actor(policy) or _is_actor_critic(policy)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the agent by its submodules' names, or by what they compute.

        Raises:
            PolicyTypeError: None of them computes its outputs.
        """
        if _is_q_network(policy):
            return PolicyView(agent=policy, names=("q_values",))
        if _is_actor(policy):
            return _actor(policy, env.action_space)
        if _is_actor_critic(policy):
            return _actor_critic(policy, env.action_space)
        if _is_c51(policy):
            return PolicyView(
                agent=policy,
                watch={"q_values": Watch("network", then=_mean_of_atoms), **_latent(policy, "network")},
                entry="network.0",
                act=_greedy,
                distribution=Categorical("q_values"),
                predict=partial(_predict_greedy, policy),
            )
        memory = next((name for name in ("lstm", "gru", "rnn") if hasattr(policy, name)), None)
        act = _act if memory is None else partial(_recurrent_act, memory)
        state = {} if memory is None else states_of(getattr(policy, memory), memory)
        empty = _empty(policy, state)
        heads = _heads(policy, act, env, empty)
        return PolicyView(
            agent=policy,
            watch=_watch(policy, heads, env.action_space),
            entry=_entry(policy, env.observation_space, act, empty),
            act=act,
            state=state,
            distribution=_distribution(env.action_space),
        )


def _is_q_network(policy: Any) -> bool:
    # CleanRL's critics for continuous actions are SoftQNetwork and QNetwork too, but take two arguments
    return type(policy).__name__ == "QNetwork" and type(policy).forward.__code__.co_argcount == 2


def _is_actor(policy: Any) -> bool:
    heads = hasattr(policy, "fc_mu") or (hasattr(policy, "fc_mean") and hasattr(policy, "fc_logstd"))
    return heads and hasattr(policy, "action_scale") and hasattr(policy, "action_bias")


def _actor(policy: Any, space: gym.Space[Any]) -> PolicyView:
    """Describe an actor of continuous actions, whose ``forward`` says what they are drawn from."""
    if not isinstance(space, gym.spaces.Box):
        raise PolicyTypeError(f"{type(policy).__name__} makes continuous actions, but the environment takes {space}")
    if hasattr(policy, "fc_mu"):
        return PolicyView(agent=policy, names=("mean",), distribution=Deterministic(space.low, space.high))
    squashed = Gaussian(space.low, space.high, squashed=True)
    return PolicyView(agent=policy, names=("mean", "log_std"), distribution=squashed)


def _is_actor_critic(policy: Any) -> bool:
    return _is_actor(getattr(policy, "actor", None)) and bool(_critics(policy))


def _critics(agent: Any) -> list[Any]:
    return [getattr(agent, name) for name in ("qf1", "qf2") if hasattr(agent, name)]


def _actor_critic(agent: Any, space: gym.Space[Any]) -> PolicyView:
    """Describe such an actor beside the critics that rate its actions, whom nobody asks when it acts."""
    alone = _actor(agent.actor, space)
    several = len(alone.names or ()) > 1
    watch = {name: Watch("actor", at=(place,) if several else ()) for place, name in enumerate(alone.names or ())}
    return PolicyView(
        agent=agent,
        watch={
            **watch,
            "state_action_value": Watch("", of="act"),
            "latent": Watch("actor.fc_mean" if several else "actor.fc_mu", "input"),
        },
        entry="actor",
        act=_act_and_rate,
        distribution=alone.distribution,
    )


def _is_c51(policy: Any) -> bool:
    return all(hasattr(policy, name) for name in ("get_action", "network", "atoms", "n_atoms"))


def _heads(policy: Any, act: Callable[..., Any], env: gym.Env[Any, Any], empty: Mapping[str, torch.Tensor]) -> Heads:
    """Return which submodules compute the outputs: those with CleanRL's names, else those that are seen to."""
    from .heads import Heads, find_heads

    actor = next((name for name in ("actor", "actor_mean") if hasattr(policy, name)), None)
    if actor is not None:
        critic, log_std = (name if hasattr(policy, name) else None for name in ("critic", "actor_logstd"))
        return Heads(actor, critic, log_std)
    given = [empty] if empty else []
    heads = find_heads(policy, lambda agent, observation: act(agent, observation, *given), env)
    if heads is None:
        raise PolicyTypeError(
            f"{type(policy).__name__} has neither actor nor actor_mean, and no other submodule of it returns the "
            "logits (or the mean, beside a parameter for log_std) that get_action_and_value draws from: have one "
            "compute them, or write an adapter, see agentwrap.policy.register_adapter"
        )
    return heads


def _watch(agent: Any, heads: Heads, space: gym.Space[Any]) -> dict[str, Watch]:
    watch = {"mean" if isinstance(space, gym.spaces.Box) else "logits": Watch(heads.actor)}
    if heads.log_std is not None:
        watch["log_std"] = Watch(heads.actor, then=partial(_free_log_std, heads.log_std))
    if heads.critic is not None:
        watch["value"] = Watch(heads.critic)
    return watch | _latent(agent, heads.actor)


def _latent(agent: Any, head: str) -> dict[str, Watch]:
    """The input of the last layer with weights."""
    layers = [
        name
        for name, module in agent.get_submodule(head).named_modules()
        if any(True for _ in module.parameters(False))
    ]
    return {"latent": Watch(f"{head}.{layers[-1]}".rstrip("."), "input")} if layers else {}


def _empty(agent: Any, state: Mapping[str, State]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.zeros(each.shape, device=device_of(agent)) for name, each in state.items()}


def _entry(agent: Any, space: gym.Space[Any], act: Callable[..., Any], empty: Mapping[str, torch.Tensor]) -> str:
    import torch

    from agentwrap.acting import first_called

    zeros = torch.as_tensor(np.zeros(space.shape or (), np.float32), device=device_of(agent))
    given = [empty] if empty else []
    return first_called(agent, lambda agent, observation: act(agent, observation, *given), zeros[None])


def _act(agent: Any, observation: Any) -> Any:
    return agent.get_action_and_value(observation.float())  # scripts give torch.Tensor(obs)


def _act_and_rate(agent: Any, observation: Any) -> Any:
    """The least of what the critics expect of the action that the actor takes without exploring."""
    import torch

    observation, actor = observation.float(), agent.actor
    made = actor(observation)
    action = made if hasattr(actor, "fc_mu") else made[0].tanh() * actor.action_scale + actor.action_bias
    return (
        torch.cat([critic(observation, action).reshape(-1, 1) for critic in _critics(agent)], dim=1).min(dim=1).values
    )


def _recurrent_act(memory: str, agent: Any, observation: Any, state: Mapping[str, torch.Tensor]) -> Any:
    goes_on = observation.new_zeros(observation.shape[0]).float()  # no episode ended before: the state is what enters
    return agent.get_action_and_value(observation.float(), given_to(getattr(agent, memory), state), goes_on)


def _greedy(agent: Any, observation: Any) -> Any:
    return agent.get_action(observation.float())


def _mean_of_atoms(agent: Any, logits: torch.Tensor) -> torch.Tensor:
    chances = logits.reshape(len(logits), -1, agent.n_atoms).softmax(dim=2)
    q_values: torch.Tensor = (chances * agent.atoms).sum(2)
    return q_values


def _predict_greedy(agent: Any, observation: Any) -> int:
    import torch

    return int(agent.get_action(torch.as_tensor(observation, device=device_of(agent)).float()[None])[0])


def _free_log_std(parameter: str, agent: Any, mean: torch.Tensor) -> torch.Tensor:
    log_std: torch.Tensor = getattr(agent, parameter)
    return log_std.expand_as(mean)


def _distribution(space: gym.Space[Any]) -> Distribution | None:
    if isinstance(space, gym.spaces.Discrete):
        return Categorical()
    return Gaussian(space.low, space.high) if isinstance(space, gym.spaces.Box) else None
