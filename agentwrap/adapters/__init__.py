"""One small file for each library whose policies can be watched; none imports its library before it is asked."""

from __future__ import annotations

from agentwrap.policy import Adapter

from .cleanrl import CleanRL
from .rllib import RLlib
from .stable_baselines3 import StableBaselines3
from .torchrl import TorchRL

#: Adapters that come with agentwrap; at most one may match a policy.
BUILT_IN: tuple[type[Adapter], ...] = (CleanRL, RLlib, StableBaselines3, TorchRL)
