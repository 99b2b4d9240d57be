"""PPO of RLlib's new API stack, its env runners being watched. Run `agentwrap view` in another terminal.

Needs `pip install "agentwrap-rl[rllib]"`. Each env runner is a stream of its own.
"""

from __future__ import annotations

import argparse

from ray.rllib.algorithms.ppo import PPOConfig

from agentwrap.rllib import InterpretRLlibCallback


def main(iterations: int, batch: int) -> None:
    """Learn to hold a pole upright."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=batch, minibatch_size=min(batch, 128), num_epochs=4)
        .callbacks(InterpretRLlibCallback)  # the line
    )
    algorithm = config.build_algo()
    for iteration in range(iterations):
        result = algorithm.train()
        print(f"iteration {iteration:3}: return {result['env_runners']['episode_return_mean']:.0f}")
    algorithm.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20, help="rounds of sampling and learning")
    parser.add_argument("--batch", type=int, default=2000, help="steps sampled in each")
    arguments = parser.parse_args()
    main(arguments.iterations, arguments.batch)
