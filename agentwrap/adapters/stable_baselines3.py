"""Stable-Baselines3 and sb3-contrib: the model that ``predict`` is called on, or its policy.

``predict`` never calls the policy itself: DQN and QR-DQN call their network, SAC, TD3 and DDPG their actor (what their
critics expect of its action, ``state_action_value``, is computed by the exported module alone), and PPO,
A2C, TRPO and MaskablePPO go from the features extractor to ``action_net``, RecurrentPPO through an LSTM; its critic's
own LSTM runs in learning alone, so there is a value then and none in ``predict``. Images that the library transposes,
and what the ``VecNormalize`` of the model's own environment does, are part of the computation that is exported.
``VecNormalize`` is no part of ``predict``: the user calls ``normalize_obs`` first, as the library's documentation says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.distributions import Bernoulli, Categorical, Deterministic, Distribution, Gaussian, MultiCategorical
from agentwrap.errors import PolicyTypeError
from agentwrap.extras import SB3, SB3_CONTRIB
from agentwrap.policy import PolicyView, State, Watch

from .recurrent import given_to, states_of

if TYPE_CHECKING:
    import torch
    from torch import nn

_CLASSES = {"BaseAlgorithm", "BasePolicy"}

#: sb3-contrib sets logits of what is masked to −1e8, before it normalises them; no network's own come near.
_MASKED = -5e7


class StableBaselines3:
    """Adapter for models and policies of Stable-Baselines3."""

    name = "stable_baselines3"
    library = SB3

    def matches(self, policy: Any) -> bool:
        """Whether it is a model or a policy of the library, or a subclass."""
        classes = type(policy).__mro__
        return any(cls.__module__.startswith("stable_baselines3.") and cls.__name__ in _CLASSES for cls in classes)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the network that ``predict`` calls.

        Raises:
            PolicyTypeError: The algorithm is not known, or the environment's observations are not the model's.
        """
        self.library = SB3_CONTRIB if type(policy).__module__.startswith("sb3_contrib.") else SB3
        model, policy = policy, getattr(policy, "policy", policy)
        normalize = _vec_normalize(model)
        before, refresh = _before(env.observation_space, policy.observation_space, normalize)
        network = partial(
            PolicyView,
            before=before,
            refresh=refresh,
            predict=partial(_predict, model, normalize),
            distribution=_distribution(policy),
        )
        if hasattr(policy, "lstm_actor"):
            return network(
                agent=policy,
                watch=_actor_critic(policy),
                entry="features_extractor",
                act=_recurrent_forward,
                state=_recurrent_state(policy),
                predict=partial(_recurrent_predict, model, normalize),
            )
        if hasattr(policy, "q_net"):
            latent = _head_input(policy.q_net, "q_net")
            return network(agent=policy.q_net, watch={"q_values": Watch(""), **latent})
        if hasattr(policy, "quantile_net"):
            latent = _head_input(policy.quantile_net, "quantile_net")
            watch = {"q_values": Watch("", then=_mean_of_quantiles), "quantiles": Watch(""), **latent}
            return network(agent=policy.quantile_net, watch=watch)
        if hasattr(getattr(policy, "actor", None), "mu"):
            watch = _actor(policy.actor)
            if hasattr(policy, "critic"):
                watch["state_action_value"] = Watch("", of="act")
            return network(agent=policy, watch=watch, entry="actor", act=_act_and_rate)
        if hasattr(policy, "action_net") and hasattr(policy, "value_net"):
            watch, mask = _actor_critic(policy), _mask if _is_maskable(policy) else None
            return network(agent=policy, watch=watch, entry="features_extractor", act=_forward, mask=mask)
        raise PolicyTypeError(
            f"{type(policy).__name__} has none of the networks that Stable-Baselines3's policies act with (q_net, "
            "quantile_net, actor.mu, action_net and value_net): write an adapter, see agentwrap.policy.register_adapter"
        )


# What is watched.


def _actor(actor: Any) -> dict[str, Watch]:
    if not hasattr(actor, "latent_pi"):  # TD3, DDPG: the mean is the action, between -1 and 1
        return {"mean": Watch("actor.mu", then=_unscaled), **_head_input(actor, "mu", within="actor.")}
    watch = {"mean": Watch("actor.mu"), "latent": Watch("actor.mu", "input")}
    if not actor.use_sde:  # else it does not depend on the observation alone
        watch["log_std"] = Watch("actor.log_std", then=_capped)
    return watch


def _actor_critic(policy: Any) -> dict[str, Watch]:
    watch = {"value": Watch("value_net"), "latent": Watch("action_net", "input")}
    if not isinstance(policy.action_space, gym.spaces.Box):
        return {"logits": Watch("action_net"), **watch}
    if not policy.use_sde:
        watch["log_std"] = Watch("action_net", then=_free_log_std)
    return {"mean": Watch("action_net"), **watch}


def _recurrent_state(policy: Any) -> dict[str, State]:
    """The state of the actor's LSTM, which the critic may share, and of the critic's own, which only learning keeps."""
    states = states_of(policy.lstm_actor, "lstm_actor", prefix="actor/")
    if policy.lstm_critic is not None:
        states.update(states_of(policy.lstm_critic, "lstm_critic", prefix="critic/", used_by=("value",)))
    return states


def _head_input(network: Any, name: str, *, within: str = "") -> dict[str, Watch]:
    """The input of the last layer with weights of a ``Sequential``, which lies ``within`` the agent."""
    layers = list(getattr(network, name).named_children())
    last = next((layer for layer, module in reversed(layers) if any(True for _ in module.parameters())), None)
    return {} if last is None else {"latent": Watch(f"{within}{name}.{last}", "input")}


# These work on copies of the modules too.


def _act_and_rate(policy: Any, observation: Any) -> torch.Tensor | None:
    """The least of what the critics expect of the action that the actor takes, which ``predict`` does not ask them."""
    import torch

    action = policy._predict(observation, deterministic=True)
    if not hasattr(policy, "critic"):
        return None
    # not the critic itself: it switches gradients off where actor and critic share features
    critic = policy.critic
    features = critic.extract_features(observation, critic.features_extractor)
    given = torch.cat([features, action], dim=1)
    return torch.cat([each(given) for each in critic.q_networks], dim=1).min(dim=1).values


def _forward(policy: Any, observation: Any) -> Any:
    return policy.forward(observation, deterministic=True)


def _recurrent_forward(policy: Any, observation: Any, state: Mapping[str, torch.Tensor]) -> None:
    # forward() itself branches on whether an episode begins, which no graph can: that has happened to this state
    features = policy.extract_features(observation)
    actors, critics = (features, features) if policy.share_features_extractor else features
    latent, _ = policy.lstm_actor(actors[None], given_to(policy.lstm_actor, state, prefix="actor/"))
    policy.action_net(policy.mlp_extractor.forward_actor(latent[0]))
    if policy.lstm_critic is not None:
        if "critic/hidden" not in state:
            return
        latent, _ = policy.lstm_critic(critics[None], given_to(policy.lstm_critic, state, prefix="critic/"))
    elif not policy.shared_lstm:
        latent = policy.critic(critics)[None]
    policy.value_net(policy.mlp_extractor.forward_critic(latent[0]))


def _mean_of_quantiles(network: nn.Module, quantiles: torch.Tensor) -> torch.Tensor:
    return quantiles.mean(dim=1)


def _capped(policy: nn.Module, log_std: torch.Tensor) -> torch.Tensor:
    return log_std.clamp(-20, 2)  # LOG_STD_MIN, LOG_STD_MAX of stable_baselines3.sac.policies


def _free_log_std(policy: Any, mean: torch.Tensor) -> torch.Tensor:
    log_std: torch.Tensor = policy.log_std
    return log_std.expand_as(mean)


def _unscaled(policy: Any, mean: torch.Tensor) -> torch.Tensor:
    space = policy.action_space
    low, span = (mean.new_tensor(np.ravel(bound)) for bound in (space.low, space.high - space.low))
    return low + 0.5 * (mean + 1.0) * span


# What follows from the outputs.


def _distribution(policy: Any) -> Distribution | None:
    space = policy.action_space
    match space:
        case gym.spaces.Discrete():
            return Categorical("q_values" if not hasattr(policy, "action_net") else "logits")
        case gym.spaces.MultiDiscrete():
            return MultiCategorical(tuple(int(count) for count in space.nvec))
        case gym.spaces.MultiBinary():
            # sb3-contrib's masks know off and on as two options of each switch
            return MultiCategorical((2,) * int(np.prod(space.shape))) if _is_maskable(policy) else Bernoulli()
        case gym.spaces.Box():
            actor = getattr(policy, "actor", policy)
            if actor is not policy and not hasattr(actor, "latent_pi"):
                # the actor of TD3 and DDPG squashes too, but its mean is shown in the environment's units
                return Deterministic(space.low, space.high)
            squashed = hasattr(actor, "latent_pi") or bool(policy.squash_output)
            return Gaussian(space.low, space.high, squashed=squashed)
    return None


def _is_maskable(policy: Any) -> bool:
    return hasattr(getattr(policy, "action_dist", None), "apply_masking")


def _mask(policy: Any, logits: torch.Tensor) -> torch.Tensor | None:
    """The mask that the library was given for these logits, which stays in its distribution until the next ones."""
    import torch

    parts = getattr(policy.action_dist, "distributions", None) or [policy.action_dist.distribution]
    if any(part is None or part.masks is None for part in parts):  # it is given for all or for none
        return None
    # what the library masks is the logits, normalised: they tell whether it has computed others since
    ends = np.cumsum([part.logits.shape[-1] for part in parts]).tolist()
    for part, own in zip(parts, logits.tensor_split(ends[:-1], dim=-1), strict=True):
        given = part._original_logits
        if given.shape != own.shape or not given.allclose(own.log_softmax(dim=-1)):
            return None
    # not part.masks: that may be the user's own array, filled anew for the next step by now
    return torch.cat([part.logits > _MASKED for part in parts], dim=-1)


def _predict(model: Any, normalize: Any, observation: Any) -> Any:
    if normalize is not None:
        observation = normalize.normalize_obs(observation)
    return model.predict(observation, deterministic=True)[0]


def _recurrent_predict(model: Any, normalize: Any, observation: Any, state: Mapping[str, Any]) -> tuple[Any, Any]:
    if normalize is not None:
        observation = normalize.normalize_obs(observation)
    entering = tuple(state[name].cpu().numpy() for name in ("actor/hidden", "actor/cell"))
    # like the library's own loops, which hand on the state and say where an episode begins
    action, after = model.predict(observation, state=entering, episode_start=np.zeros(1), deterministic=True)
    return action, dict(zip(("actor/hidden", "actor/cell"), after, strict=True))


# What the library does before.


def _vec_normalize(model: Any) -> Any:
    """The ``VecNormalize`` of the model's environments, if it has one outermost that normalises observations."""
    find: Callable[[], Any] | None = getattr(model, "get_env", None)
    found: Any = None if find is None else find()
    while type(found).__name__ == "VecTransposeImage":
        found = found.venv
    return found if type(found).__name__ == "VecNormalize" and found.norm_obs else None


def _before(
    given: gym.Space[Any], wanted: gym.Space[Any], normalize: Any
) -> tuple[nn.Module | None, Callable[[Any, int], None] | None]:
    """What stands between the environment's observation and the policy's, and what keeps its statistics up to date."""
    from torch import nn

    from .preprocessing import ChannelsFirst, Normalization, PerKey

    statistics: dict[str, tuple[Normalization, Callable[[], Any]]] = {}
    steps: dict[str, nn.Module] = {}
    for key, (one, other) in _entries(given, wanted).items():
        chain: list[nn.Module] = []
        get = _statistics(normalize, key)
        if get is not None:
            normalization = Normalization(get().mean.shape, clip=normalize.clip_obs)
            statistics[key] = normalization, get
            chain.append(normalization)
        if one.shape != other.shape:
            chain.append(ChannelsFirst())
        if chain:
            steps[key] = nn.Sequential(*chain)

    def refresh(given: Any = None, row: int = 0) -> None:
        for normalization, get in statistics.values():
            now = get()
            normalization.update(now.mean, np.sqrt(now.var + normalize.epsilon))

    if not steps:
        return None, None
    refresh()
    before = PerKey(steps) if isinstance(given, gym.spaces.Dict) else steps[""]
    return before, refresh if statistics else None


def _statistics(normalize: Any, key: str) -> Callable[[], Any] | None:
    if normalize is None or (key and key not in normalize.obs_rms):
        return None
    return lambda: normalize.obs_rms[key] if key else normalize.obs_rms


def _entries(given: gym.Space[Any], wanted: gym.Space[Any]) -> dict[str, tuple[gym.Space[Any], gym.Space[Any]]]:
    """The environment's and the policy's spaces, by key; ``""`` where they are not dicts.

    Raises:
        PolicyTypeError: One cannot become the other.
    """
    if isinstance(given, gym.spaces.Dict) and isinstance(wanted, gym.spaces.Dict):
        if given.keys() == wanted.keys():
            return {key: (_fitting(given[key], wanted[key]), wanted[key]) for key in given}
    elif not isinstance(given, gym.spaces.Dict) and not isinstance(wanted, gym.spaces.Dict):
        return {"": (_fitting(given, wanted), wanted)}
    raise PolicyTypeError(f"the environment's observations are {given}, but the policy takes {wanted}")


def _fitting(given: gym.Space[Any], wanted: gym.Space[Any]) -> gym.Space[Any]:
    if given.shape is not None and wanted.shape is not None:
        height_width_channels = (*wanted.shape[1:], *wanted.shape[:1]) if len(wanted.shape) == 3 else None
        if given.shape in (wanted.shape, height_width_channels):
            return given
    advice = (
        "wrap the environment that it acts in, with all that changes observations there, InterpretWrapper outermost"
    )
    if len(given.shape or ()) > 1:
        advice += " (where the model's own VecEnv stacks frames: gymnasium.wrappers.FrameStackObservation)"
    raise PolicyTypeError(f"the environment's observations are {given}, but the policy takes {wanted}: {advice}")
