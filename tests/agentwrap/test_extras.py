"""Libraries that are missing, too old, or broken: the error says which, and has the command."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from listener import Listener
from sb3_contrib import RecurrentPPO
from sb3_models import make
from stable_baselines3 import PPO
from tensordict.nn import TensorDictModule
from torchrl.modules import QValueActor

from agentwrap import MissingExtraError, PolicyTypeError
from agentwrap.extras import RLLIB, SB3, SB3_CONTRIB, TENSORDICT, TORCH, TORCHRL, Extra
from agentwrap.policy import view_policy
from agentwrap_protocol.messages import Hello

ALL = [SB3, SB3_CONTRIB, TORCHRL, TENSORDICT, RLLIB, TORCH]

#: Our modules that import a library, and what they begin with.
IMPORTING = {
    "agentwrap.callbacks": (SB3, "stable_baselines3.common.callbacks"),
    "agentwrap.torchrl": (TORCHRL, "torchrl.envs"),
    "agentwrap.rllib": (RLLIB, "ray.rllib.callbacks.callbacks"),
}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What is installed, by distribution, where that is another than it is; None for nothing."""
    told: dict[str, str | None] = {}
    known = metadata.version

    def version(name: str) -> str:
        found = told.get(name, known)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found(name) if callable(found) else found

    monkeypatch.setattr(metadata, "version", version)
    return told


def importing(module: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is raised where a module of ours is imported for the first time."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingExtraError) as caught:
        importlib.import_module(module)
    return str(caught.value)


@pytest.fixture
def lacking(versions: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], str]:
    """What is said where a module of ours is imported, and its library of this version lacks what is imported of it."""

    def said(module: str, version: str | None) -> str:
        library, inner = IMPORTING[module]
        monkeypatch.setitem(sys.modules, inner, None)
        versions[library.distribution] = version
        return importing(module, monkeypatch)

    return said


def too_old(library: Extra, version: str) -> str:
    """What is said of one."""
    newer = rf"{library.name} {library.least} or newer \({re.escape(version)} is installed\)"
    return rf"{newer}: pip install .agentwrap-rl\[{library.extra}\]"


@pytest.mark.parametrize("module", IMPORTING)
def test_a_library_that_is_missing(module: str, lacking: Callable[[str, str | None], str]) -> None:
    library, _ = IMPORTING[module]
    assert lacking(module, None) == f'this needs {library.name}: pip install "agentwrap-rl[{library.extra}]"'


@pytest.mark.parametrize("module", ["agentwrap.callbacks", "agentwrap.torchrl"])
def test_a_library_that_can_be_imported_but_is_too_old(
    module: str, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = IMPORTING[module]
    versions[library.distribution] = "0.6.9rc1"
    assert re.search(too_old(library, "0.6.9rc1"), importing(module, monkeypatch))


@pytest.mark.parametrize("module", IMPORTING)
def test_a_library_that_is_too_old_to_have_what_is_imported(
    module: str, lacking: Callable[[str, str | None], str]
) -> None:
    library, _ = IMPORTING[module]
    assert f"{library.name} {library.least} or newer (0.1 is installed)" in lacking(module, "0.1")


@pytest.mark.parametrize("module", IMPORTING)
def test_a_library_that_is_there_but_lacks_something_itself(
    module: str, lacking: Callable[[str, str | None], str]
) -> None:
    library, inner = IMPORTING[module]
    said = lacking(module, "99.0")
    assert said.startswith(f"{library.name} 99.0 is installed, but cannot be imported (")
    assert inner in said and said.endswith(f'pip install "agentwrap-rl[{library.extra}]"')


def broken(policy: Any) -> Any:
    """A policy that lacks what the adapter looks for."""
    del policy.policy
    return policy


POLICIES = {
    SB3: lambda: broken(make(PPO, gym.make("CartPole-v1"))),
    SB3_CONTRIB: lambda: broken(make(RecurrentPPO, gym.make("CartPole-v1"), "MlpLstmPolicy")),
    TENSORDICT: lambda: TensorDictModule(torch.nn.Linear(4, 2), ["pixels", "state"], ["logits"]),
    TORCHRL: lambda: QValueActor(torch.nn.Linear(4, 2), in_keys=["a", "b"], action_space="categorical"),
}


@pytest.mark.parametrize("library", POLICIES, ids=lambda library: library.distribution)
def test_a_policy_of_a_library_that_is_too_old(library: Extra, versions: Any) -> None:
    policy, env = POLICIES[library](), gym.make("CartPole-v1")
    with pytest.raises(PolicyTypeError) as caught:
        view_policy(policy, env)
    if isinstance(caught.value.__cause__, AttributeError):
        assert f"with {library.name} {metadata.version(library.distribution)}: Attr" in str(caught.value)
    versions[library.distribution] = "0.6.9"
    with pytest.raises(MissingExtraError, match=too_old(library, "0.6.9")):
        view_policy(policy, env)


def test_where_pytorch_is_too_old_the_page_says_so_and_the_policy_is_probed(
    wrap: Any, listen: Any, versions: Any
) -> None:
    policy = torch.nn.Linear(4, 2)
    env = wrap(policy)
    listener: Listener = listen(env)
    versions["torch"] = "2.5.1"
    observation, _ = env.reset(seed=0)

    def act() -> None:
        policy(torch.as_tensor(observation)[None])
        env.step(0)
        env.reset(seed=0)

    told = listener.wait(Hello, lambda hello: hello.policy.problem, between=act)
    assert told.policy.problem == (
        'this needs PyTorch 2.6 or newer (2.5.1 is installed): pip install "agentwrap-rl[torch]"'
    )
    assert told.policy.probe is not None


@pytest.mark.parametrize("library", ALL, ids=lambda library: library.distribution)
def test_the_oldest_version_that_will_do_is_that_of_the_extra(library: Extra) -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = declared["optional-dependencies"][library.extra]
    assert any(
        re.fullmatch(rf"{library.distribution}(\[\w+\])?>={re.escape(library.least)}", each) for each in wanted
    ), wanted
