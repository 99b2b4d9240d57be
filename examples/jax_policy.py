"""A policy in JAX, compiled by `jax.jit`: asked in this process, for it cannot be sent elsewhere.

    pip install "agentwrap-rl[viewer,jax]" "gymnasium[classic-control]"
    python examples/jax_policy.py

and in another terminal ``agentwrap view``. The method is REINFORCE: Williams (1992), doi:10.1007/BF00992696.
"""

import argparse
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from agentwrap import InterpretWrapper

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--episodes", type=int, default=300, help="how long to train")
args = parser.parse_args()

RATE, MOST_STEPS = 0.5, 500


def initial(key: jax.Array) -> dict[str, jax.Array]:
    """The parameters of a network with one hidden layer."""
    one, two = jax.random.split(key)
    return {"hidden": 0.5 * jax.random.normal(one, (4, 32)), "head": 0.1 * jax.random.normal(two, (32, 2))}


@jax.jit
def network(parameters: dict[str, jax.Array], observation: jax.Array) -> jax.Array:
    """Logits for one observation (4,) or many (B, 4)."""
    return jnp.tanh(observation @ parameters["hidden"]) @ parameters["head"]


def loss(parameters: dict[str, jax.Array], observations: Any, actions: Any, advantages: Any) -> jax.Array:
    """REINFORCE's, over an episode that is filled up with zeros to ``MOST_STEPS``."""
    log_probs = jax.nn.log_softmax(network(parameters, observations))
    return -(jnp.take_along_axis(log_probs, actions[:, None], 1)[:, 0] * advantages).sum()


gradient = jax.jit(jax.grad(loss))


def filled_up(values: list[Any], dtype: type) -> np.ndarray:
    """The values of an episode, with zeros behind: one shape, so that nothing is compiled twice."""
    array: np.ndarray = np.asarray(values, dtype)
    return np.concatenate([array, np.zeros((MOST_STEPS - len(array), *array.shape[1:]), dtype)])


parameters = initial(jax.random.key(0))
env = InterpretWrapper(
    gym.make("CartPole-v1", render_mode="rgb_array"), lambda observation: network(parameters, observation)
)

rng = np.random.default_rng(0)
for episode in range(args.episodes):
    observations, actions, rewards, over = [], [], [], False
    observation, _ = env.reset(seed=episode)
    while not over:
        observations.append(observation)
        probabilities = np.asarray(jax.nn.softmax(network(parameters, observation)))
        actions.append(int(rng.random() < probabilities[1]))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        rewards.append(float(reward))
        over = terminated or truncated
    returns = np.array([sum(rewards[t:]) for t in range(len(rewards))])
    advantages = (returns - returns.mean()) / (returns.std() + 1e-6) / len(returns)
    step = gradient(
        parameters,
        filled_up(observations, np.float32),
        filled_up(actions, int),
        filled_up(list(advantages), np.float32),
    )
    parameters = jax.tree.map(lambda value, slope: value - RATE * slope, parameters, step)
    env.policy_changed()
    if episode % 20 == 0:
        print(f"episode {episode:3}: {len(rewards):3} steps", flush=True)

env.close()
