"""Who may import whom (ARCHITECTURE.md): read from the source, and seen by running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sources import below, imports, modules

ATARI = {"ale_py", "cv2", "safetensors"}
REPLICA = ("agentwrap_viewer.replica", "agentwrap_viewer.operators", "agentwrap_viewer.program")
PROTOCOL = {"agentwrap_protocol", "numpy", "msgspec", "platformdirs"}

#: What the modules below a name may import beside the standard library, anywhere in them. The longest name counts.
ALLOWED = {
    "agentwrap_protocol": PROTOCOL,
    "agentwrap_protocol.mcap_encoder": {"agentwrap_protocol", "mcap", "msgspec", "zstandard"},
    "agentwrap_export": {"agentwrap_export", "agentwrap_protocol", "numpy", "torch"},
    "agentwrap": {
        *("agentwrap", "agentwrap_export", "agentwrap_protocol"),
        *("gymnasium", "msgspec", "numpy", "platformdirs", "torch", "zmq"),
    },
    "agentwrap.adapters.torchrl": {"agentwrap", "gymnasium", "tensordict", "torch"},
    "agentwrap.callbacks": {"agentwrap", "gymnasium", "stable_baselines3"},
    "agentwrap.rllib": {"agentwrap", "ray"},
    "agentwrap.torchrl": {"agentwrap", "gymnasium", "torchrl"},
    "agentwrap.demo": {"agentwrap", "agentwrap_protocol", "gymnasium", "numpy", "torch", *ATARI},
    "agentwrap_viewer": {"agentwrap_viewer", "agentwrap_protocol"},
    "agentwrap_viewer.saliency": {"agentwrap_viewer.saliency", "agentwrap_export", "captum", "numpy", "scipy", "torch"},
    "agentwrap_viewer.saliency.exported": {  # makes a replica of a module
        *("agentwrap_viewer.saliency", "agentwrap_viewer.replica", "agentwrap_export", "agentwrap_protocol"),
        *("numpy", "torch"),
    },
    "agentwrap_viewer.saliency.incremental": {  # works on the program that a replica has compiled
        *("agentwrap_viewer.saliency", "agentwrap_viewer.program", "agentwrap_viewer.replica", "numpy", "torch"),
    },
    **dict.fromkeys(REPLICA, {*REPLICA, "agentwrap_export.arrays", "agentwrap_protocol", "numpy", "torch"}),
    "agentwrap_viewer.explainer": {
        *("agentwrap_viewer.explainer", "agentwrap_viewer.saliency", "agentwrap_viewer.recording", *REPLICA),
        *("agentwrap_protocol", "msgspec", "numpy", "torch", "zmq"),
    },
    "agentwrap_viewer.comparison": {
        *("agentwrap_viewer.comparison", "agentwrap_viewer.explainer", "agentwrap_viewer.recording", *REPLICA),
        *("agentwrap_protocol", "numpy"),
    },
    "agentwrap_viewer.comparison.measures": {  # for the page, which has no torch
        *("agentwrap_viewer.recording.choices", "agentwrap_protocol", "numpy"),
    },
    "agentwrap_viewer.commands": {"agentwrap_viewer", "agentwrap_protocol", "joblib", "zmq"},
    "agentwrap_viewer.commands.workers": {"agentwrap_viewer", "distributed", "joblib", "ray"},
    "agentwrap_viewer.recording": {
        *("agentwrap_viewer.recording", "agentwrap_viewer.replica", "agentwrap_protocol"),
        *("mcap", "msgspec", "numpy", "zstandard"),
    },
    "agentwrap_viewer.recording.weights_file": {
        *("agentwrap_viewer.recording", "agentwrap_protocol", "msgspec", "numpy", "safetensors"),
    },
    "agentwrap_viewer.recording.tables": {
        *("agentwrap_viewer.recording", "agentwrap_protocol", "numpy", "pyarrow", "zarr"),
    },
    "agentwrap_viewer.recording.flips": {  # runs the policy
        *("agentwrap_viewer.recording", "agentwrap_viewer.replica", "agentwrap_export.arrays", "agentwrap_protocol"),
        *("numpy", "torch"),
    },
    "agentwrap_viewer.recording.minari_dataset": {
        *("agentwrap_viewer.recording", "agentwrap_protocol", "gymnasium", "minari", "numpy"),
    },
    "agentwrap_viewer.recording.foxglove": {"agentwrap_viewer.recording", "mcap", "PIL"},
    "agentwrap_viewer.recording.animation": {"numpy", "PIL"},
    "agentwrap_viewer.recording.curves": {"agentwrap_viewer.recording", "numpy", "PIL"},
    "agentwrap_viewer.recording.films": {
        *("agentwrap_viewer.recording", "agentwrap_viewer.page.pictures", "agentwrap_viewer.page.vectors"),
        *("agentwrap_protocol", "av", "numpy", "PIL"),
    },
    "agentwrap_viewer.recording.strip": {"agentwrap_viewer.page.vectors", "numpy", "PIL"},
    "agentwrap_viewer.replay": {
        *("agentwrap_viewer.replay", "agentwrap_viewer.page", "agentwrap_viewer.recording", "agentwrap_viewer.launch"),
        "agentwrap_viewer.comparison.measures",
        *("agentwrap_protocol", "msgspec", "numpy"),
    },
    "agentwrap_viewer.states": {
        *("agentwrap_viewer.states", "agentwrap_viewer.recording", "agentwrap_viewer.page.store", "agentwrap_protocol"),
        *("msgspec", "numpy", "openTSNE", "sklearn"),
    },
    "agentwrap_viewer.states.tab": {"agentwrap_viewer.states", "agentwrap_viewer.page.packet", "numpy"},
    "agentwrap_viewer.states.link": {
        *(
            "agentwrap_viewer.states",
            "agentwrap_viewer.page.store",
            "agentwrap_viewer.page.packet",
            "agentwrap_viewer.launch",
            "agentwrap_protocol",
        ),
        "msgspec",
    },
    "agentwrap_viewer.states.__main__": {
        *("agentwrap_viewer.states", "agentwrap_viewer.recording", "agentwrap_viewer.explainer.lifetime"),
    },
    "agentwrap_viewer.replay.webpage": {
        *("agentwrap_viewer.replay", "agentwrap_viewer.page", "agentwrap_viewer.recording", "agentwrap_protocol"),
        *("numpy", "PIL"),
    },
    "agentwrap_viewer.page": {
        *("agentwrap_viewer.page", "agentwrap_viewer.states.link", "agentwrap_viewer.states.wire"),
        *("agentwrap_protocol", "msgspec", "numpy", "platformdirs", "zmq", "zstandard"),
        *("bokeh", "panel", "panel_material_ui", "param", "tornado"),
    },
}

#: Importing the module on the left must not load those on the right.
NOT_LOADED = {
    "agentwrap": ("torch", "panel", "bokeh", "scipy", "mcap", "zstandard", "agentwrap_viewer"),
    "agentwrap_protocol": (
        *("torch", "zmq", "mcap", "zstandard", "gymnasium"),
        *("agentwrap", "agentwrap_export", "agentwrap_viewer"),
    ),
    "agentwrap_export.results": ("torch", "gymnasium"),
    "agentwrap_export.export": ("zmq", "gymnasium", "agentwrap", "agentwrap_viewer"),
    "agentwrap_viewer.cli": (
        *("torch", "panel", "bokeh", "scipy", "gymnasium", "zmq", "agentwrap"),
        *("mcap", "zstandard", "joblib", "pyarrow", "av", "PIL"),
    ),
    "agentwrap_viewer.comparison.measures": ("torch", "panel", "bokeh", "agentwrap"),
    "agentwrap_viewer.launch": ("torch", "panel", "bokeh", "agentwrap"),
    "agentwrap_viewer.explainer": ("panel", "bokeh", "gymnasium", "agentwrap"),
    "agentwrap_viewer.page.server": ("torch", "sklearn", "gymnasium", "agentwrap"),
    "agentwrap_viewer.recording": ("torch", "panel", "zmq", "gymnasium", "agentwrap"),
    "agentwrap_viewer.replay.show": ("torch", "sklearn", "gymnasium", "agentwrap"),
    "agentwrap_viewer.replica": ("panel", "zmq", "gymnasium", "agentwrap"),
    "agentwrap_viewer.states": ("torch", "panel", "zmq", "gymnasium", "agentwrap", "sklearn", "openTSNE"),
    "agentwrap_viewer.saliency": ("panel", "zmq", "gymnasium", "agentwrap", "captum", "matplotlib"),
}


@pytest.mark.parametrize("name", modules())
def test_module_imports_only_what_its_room_may(name: str) -> None:
    room = max((prefix for prefix in ALLOWED if below(name, prefix)), key=len)
    allowed = ALLOWED[room] | sys.stdlib_module_names
    refused = {
        target for target in imports(name, modules()[name]) if not any(below(target, prefix) for prefix in allowed)
    }
    assert not refused, f"{name} (room {room}) may not import {', '.join(sorted(refused))}"


def test_the_agent_and_the_viewer_never_import_each_other() -> None:
    for name, path in modules().items():
        package = name.partition(".")[0]
        others = {"agentwrap": ("agentwrap_viewer",), "agentwrap_viewer": ("agentwrap",)}
        others["agentwrap_protocol"] = ("agentwrap", "agentwrap_export", "agentwrap_viewer")
        others["agentwrap_export"] = ("agentwrap", "agentwrap_viewer")
        for target in imports(name, path):
            assert not any(below(target, other) for other in others[package]), f"{name} imports {target}"


@pytest.mark.parametrize("module", NOT_LOADED)
def test_importing_a_module_loads_no_more_than_it_needs(module: str) -> None:
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not set(NOT_LOADED[module]) & set(result.stdout.split())


def test_an_import_of_another_room_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from .. import cli\n    from ..page import store\n    import torch.nn as nn\n")
    found = imports("agentwrap_viewer.explainer.module", source)
    assert found == {"agentwrap_viewer.cli", "agentwrap_viewer.page.store", "torch.nn"}
