import doctest
import importlib
import importlib.metadata
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fakes import OWN_METHOD, own_method_package

import agentwrap_viewer.saliency.api
from agentwrap_viewer.saliency import MaskMethod, Option, SaliencyError, explain, methods, option, register, registry

#: Options of methods for a small picture; other ones are left as they are.
SMALL = {"patch": 4, "patch_stride": 4, "n": 8, "s": 4, "disc_radius": 2.0, "mask_sigma": 2.0}


@pytest.fixture
def scratch_registry(monkeypatch):
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))


def test_methods_that_there_are():
    perturbing = {"perturbation", "sarfa", "chosen_action", "occlusion", "rise", "feature_perturbation"}
    gradients = {"gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "grad_cam"}
    assert set(methods()) == perturbing | gradients
    for name, method in methods().items():
        assert method.name == name and method.title and method.doc and method.source
        assert all(isinstance(item, Option) and item.doc for item in method.options().values())
        assert {*method.targets, *method.fallback} <= {*method.accepts, *method.accepts_continuous}


def test_own_method_is_one_class(scratch_registry, tmp_path, monkeypatch):
    assert len(OWN_METHOD.strip().splitlines()) <= 20
    (tmp_path / "eraser.py").write_text(OWN_METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    eraser = importlib.import_module("eraser")
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    saliency = explain(lambda batch: {"value": batch.sum((1, 2))}, image, method="erase")
    np.testing.assert_allclose(saliency.grid, [[10, 18], [42, 50]])
    assert saliency.options == {"side": 2} and methods()["erase"] is eraser.Erase


@pytest.mark.parametrize("name", sorted(methods()))
def test_map_holds_the_options_with_their_defaults(name):
    method = methods()[name]
    policy = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 4, 4), torch.nn.Flatten(), torch.nn.Linear(32, 3)).eval()
    picture = np.random.default_rng(0).uniform(size=(1, 16, 16)).astype(np.float32)
    if "image" not in method.observations:
        policy, picture = torch.nn.Linear(5, 3).eval(), picture[0, 0, :5]
    small = {key: value for key, value in SMALL.items() if key in method.options()}
    defaults = {key: item.default for key, item in method.options().items()}
    explained = explain(policy, picture, method=name, target=method.targets[0], **small)
    assert explained.options == {**defaults, **small}


def test_name_of_another_method_is_refused(scratch_registry):
    class Impostor(MaskMethod):
        name = "sarfa"

    with pytest.raises(SaliencyError, match="method 'sarfa' already"):
        register(Impostor)


MENU = """
import numpy as np
from agentwrap_viewer.explainer.engine import Engine
from agentwrap_viewer.saliency import explain
(info,) = [info for info in Engine("0" * 32, lambda: 0.0).status()["methods"] if info.name == "erase"]
print(info.title, info.options[0].name, info.options[0].default)
print(explain(lambda batch: {"value": batch.sum((1, 2))}, np.ones((4, 4)), method="erase", target="critic").grid.sum())
"""


def test_method_of_another_package_is_in_the_menu(tmp_path):
    own_method_package(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", MENU], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["Erase", "side", "2", "16.0"]


def test_option_that_explain_takes_itself_is_refused(scratch_registry):
    @dataclass(frozen=True, kw_only=True)
    class Clash(MaskMethod):
        name = "clash"
        state: int = option(1, doc="something")

    with pytest.raises(SaliencyError, match="clash: option state means something else"):
        register(Clash)


def test_entry_point_that_fails_leaves_the_other_methods(monkeypatch):
    broken = importlib.metadata.EntryPoint("broken", "no_such_package", registry.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [broken])
    registry._load_entry_points.cache_clear()
    with pytest.warns(UserWarning, match="'broken'.*cannot be loaded"):
        assert "perturbation" in methods()


def test_example_in_the_documentation_runs():
    assert doctest.testmod(agentwrap_viewer.saliency.api).failed == 0


def test_library_is_imported_without_the_page_or_sockets():
    code = "import sys, agentwrap_viewer.saliency; print({'panel', 'bokeh', 'zmq', 'tornado'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
