"""Policies of the families that people train, small, each with the arguments of a call for one observation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from agentwrap_export.export import ExportedPolicy, export_policy


@dataclass(frozen=True)
class Family:
    """A policy with a call.

    Attributes:
        make: Makes the policy.
        args: Makes the arguments of a call for a batch of n; all but the first are recurrent state.
        names: Names of what it returns, in pytree order.
        state_axes: Where the batch axis of each tensor of state is.
    """

    make: Callable[[], nn.Module]
    args: Callable[[int], tuple[Any, ...]]
    names: tuple[str, ...] = ("logits", "value")
    state_axes: tuple[int, ...] = field(default=())


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


class Nature(nn.Module):
    """Mnih et al. 2015, two heads; weights named as in the conformance files."""

    def __init__(self, *, channels: int = 4, actions: int = 9, hidden: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 8, 4)
        self.conv2 = nn.Conv2d(32, 64, 4, 2)
        self.conv3 = nn.Conv2d(64, 64, 3, 1)
        self.fc = nn.Linear(64 * 7 * 7, hidden)
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.float() / 255.0
        for layer in (self.conv1, self.conv2, self.conv3):
            x = F.relu(layer(x))
        x = F.relu(self.fc(x.flatten(1)))
        return self.actor(x), self.critic(x)


class EnduroNature(nn.Module):
    """The network of examples/models: the same, with its trunk in one Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(),
        )  # fmt: skip
        self.actor, self.critic = nn.Linear(512, 9), nn.Linear(512, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.features(x / 255)
        return self.actor(latent), self.critic(latent).squeeze(-1)


class ImpalaStage(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)
        for name in ("r0c0", "r0c1", "r1c0", "r1c1"):
            setattr(self, name, nn.Conv2d(outside, outside, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.conv(x), 3, 2, padding=1)
        x = x + self.r0c1(F.relu(self.r0c0(F.relu(x))))
        return x + self.r1c1(F.relu(self.r1c0(F.relu(x))))


class Impala(nn.Module):
    """Espeholt et al. 2018, a quarter of its width; weights named as in the conformance files."""

    def __init__(self, *, channels: int = 3, actions: int = 9) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ImpalaStage(a, b) for a, b in ((channels, 8), (8, 16), (16, 16)))
        self.fc = nn.Linear(1024, 64)
        self.actor, self.critic = nn.Linear(64, actions), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.float() / 255
        for stage in self.stages:
            x = stage(x)
        x = F.relu(self.fc(F.relu(x).flatten(1)))
        return {"logits": self.actor(x), "value": self.critic(x).squeeze(1)}


class A3CLSTM(nn.Module):
    """Four strided convolutions and an LSTM cell; weights named as in the conformance files."""

    def __init__(self, *, actions: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 2, 1)
        self.conv2, self.conv3, self.conv4 = (nn.Conv2d(32, 32, 3, 2, 1) for _ in range(3))
        self.lstm = nn.LSTMCell(800, 64)
        self.actor, self.critic = nn.Linear(64, actions), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Any:
        x = x / 255.0
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.elu(layer(x))
        h, c = self.lstm(x.view(x.size(0), -1), state)
        return self.actor(h), self.critic(h), (h, c)


class MLP(nn.Module):
    """Tanh layers and a free log_std, as continuous PPO has it. Takes one observation without a batch axis too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.mean, self.critic = nn.Linear(32, 3), nn.Linear(32, 1)
        self.log_std = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.body(x)
        return {"mean": self.mean(x), "log_std": self.log_std, "value": self.critic(x).squeeze(-1)}


class Recurrent(nn.Module):
    """nn.LSTM or nn.GRU over a sequence of one."""

    def __init__(self, kind: type[nn.RNNBase], *, layers: int = 2) -> None:
        super().__init__()
        self.memory = kind(8, 16, layers)
        self.actor, self.critic = nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        out, state = self.memory(x.unsqueeze(0), state)
        return self.actor(out[0]), self.critic(out[-1]), state


class Normalised(nn.Module):
    """Batch, group and layer norm, average pools, interpolation, gelu, and a step counter that forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.batch, self.group = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.layer, self.actor = nn.LayerNorm(72), nn.Linear(72, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        nn.init.normal_(self.batch.running_mean, 0, 0.5)
        nn.init.uniform_(self.batch.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = F.gelu(self.group(self.batch(self.conv(x))))
        x = F.adaptive_avg_pool2d(F.interpolate(x, scale_factor=0.5, mode="bilinear"), (3, 3))
        return self.actor(self.layer(F.normalize(x.flatten(1), dim=1)))


class Transformer(nn.Module):
    """One encoder block over entities, then attention with a mean; embeddings of position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(5, 16), nn.Embedding(6, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.actor, self.critic = nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.block(self.embed(x) + self.position(torch.arange(x.shape[1], device=x.device)))
        x = (x + self.attention(x, x, x, need_weights=False)[0]).mean(1)
        return self.actor(x), self.critic(x)


class DictObservation(nn.Module):
    """Image, vector and a category; returns a distribution's logits, and the action it sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.vector, self.kind = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 8), nn.Embedding(5, 8)
        self.actor = nn.Linear(4 * 49 + 16, 6)

    def forward(self, observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        image = observation["image"].permute(0, 3, 1, 2).float().div(255)
        parts = [
            self.conv(image).relu().flatten(1),
            self.vector(torch.as_tensor(observation["vector"])).relu(),
            self.kind(observation["kind"]),
        ]
        distribution = torch.distributions.Categorical(logits=self.actor(torch.cat(parts, 1)))
        return {"action": distribution.sample(), "logits": distribution.logits}


def _dict_observation(count: int) -> tuple[dict[str, torch.Tensor]]:
    kind = torch.randint(0, 5, (count,))
    return ({"image": pixels(count, 16, 16, 3), "vector": torch.randn(count, 4), "kind": kind},)


def _lstm_state(count: int) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    return torch.randn(count, 8), (torch.randn(2, count, 16), torch.randn(2, count, 16))


FAMILIES = {
    "nature": Family(Nature, lambda n: (pixels(n, 4, 84, 84),)),
    "impala": Family(Impala, lambda n: (pixels(n, 3, 64, 64),)),
    "mlp": Family(MLP, lambda n: (torch.randn(n, 8),), ("mean", "log_std", "value")),
    "lstm_cell": Family(
        A3CLSTM,
        lambda n: (pixels(n, 1, 80, 80), (torch.randn(n, 64), torch.randn(n, 64))),
        ("logits", "value", "h", "c"),
        (0, 0),
    ),
    "lstm": Family(lambda: Recurrent(nn.LSTM), _lstm_state, ("logits", "value", "h", "c"), (1, 1)),
    "gru": Family(
        lambda: Recurrent(nn.GRU, layers=1),
        lambda n: (torch.randn(n, 8), torch.randn(1, n, 16)),
        ("logits", "value", "h"),
        (1,),
    ),
    "normalised": Family(Normalised, lambda n: (torch.rand(n, 3, 16, 16),), ("logits",)),
    "transformer": Family(Transformer, lambda n: (torch.randn(n, 6, 5),)),
    "dict": Family(DictObservation, _dict_observation, ("action", "logits")),
}


@cache
def exported(name: str) -> tuple[nn.Module, ExportedPolicy]:
    """A policy of a family, in evaluation mode, and its export: made once, and left as they are by the tests."""
    family = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = family.make().eval()
        return module, export_policy(module, family.args(1), {}, output_names=family.names, batched=True)
