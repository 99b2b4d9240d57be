"""The networks that maps are computed of, with random weights: two that play, two that recognise pictures."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Nature(nn.Module):
    """Mnih et al. 2015, with 512 features and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(),
        )  # fmt: skip
        self.actor, self.critic = nn.Linear(512, 9), nn.Linear(512, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, 4, 84, 84) of bytes to logits and value."""
        x = self.features(x / 255.0)
        return self.actor(x), self.critic(x)


class Residual(nn.Module):
    """x + two convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, channels, 3, 1, 1), nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        y: torch.Tensor = self.second(self.first(x.relu()).relu())
        return x + y


class Impala(nn.Module):
    """Espeholt et al. 2018, 15 convolutions of 16, 32 and 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, 1, 1), nn.MaxPool2d(3, 2, 1), Residual(after), Residual(after)]
        self.features = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU())
        self.actor, self.critic = nn.Linear(256, 15), nn.Linear(256, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, 3, 64, 64) of bytes to logits and value."""
        x = self.features(x / 255.0)
        return self.actor(x), self.critic(x)


class VGG16(nn.Module):
    """Simonyan & Zisserman 2015, configuration D, for pictures of 224×224."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [_scaled(nn.Conv2d(before, after, 3, 1, 1)), nn.ReLU()]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.classes = nn.Sequential(
            _scaled(nn.Linear(512 * 7 * 7, 4096)), nn.ReLU(), _scaled(nn.Linear(4096, 4096)), nn.ReLU(),
            nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, 224, 224) of bytes to logits."""
        logits: torch.Tensor = self.classes(self.features(x / 255.0))
        return logits


class BasicBlock(nn.Module):
    """Two convolutions of 3×3 beside a shortcut, which is a convolution of 1×1 where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _scaled(nn.Conv2d(before, after, 3, stride, 1, bias=False)), _norm(after), nn.ReLU(),
            _scaled(nn.Conv2d(after, after, 3, 1, 1, bias=False)), _norm(after),
        )  # fmt: skip
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(_scaled(nn.Conv2d(before, after, 1, stride, bias=False)), _norm(after))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, H/stride, W/stride)."""
        y: torch.Tensor = self.body(x) + self.shortcut(x)
        return y.relu()


class ResNet18(nn.Module):
    """He et al. 2016, for pictures of 224×224."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _scaled(nn.Conv2d(3, 64, 7, 2, 3, bias=False)), _norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        sizes = (64, 64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for stage in range(4):
            blocks += [
                BasicBlock(sizes[stage], sizes[stage + 1], 1 if stage == 0 else 2),
                BasicBlock(sizes[stage + 1], sizes[stage + 1], 1),
            ]
        self.blocks = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, 224, 224) of bytes to logits."""
        logits: torch.Tensor = self.classes(self.blocks(self.stem(x / 255.0)))
        return logits


def _scaled(layer: Layer) -> Layer:
    """Draw weights with which activations neither fade nor grow through many layers (He et al. 2015)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    """Make a normalisation whose statistics are not those of no data at all."""
    norm = nn.BatchNorm2d(channels)
    for statistic, low, high in ((norm.running_mean, -0.1, 0.1), (norm.running_var, 0.5, 2.0)):
        assert statistic is not None  # it keeps track of them
        nn.init.uniform_(statistic, low, high)
    return norm
