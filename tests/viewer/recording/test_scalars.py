"""Entropy and value where some options were masked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import step
from recordings import begun

from agentwrap_protocol.spaces import Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.recording.scalars import entropies, entropy_of_logits, values

LOGITS = np.array([3.0, 1.0, -2.0, 0.0, 0.5, 0.25, -1.0, 2.0, 0.0], np.float32)


def masks() -> np.ndarray:
    free = np.random.default_rng(0).random((40, 9)) < 0.6
    free[:, 3] = True
    return free


def entropy(logits: np.ndarray) -> float:
    likely = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
    return float(-(likely * np.log(likely)).sum())


def recorded(path: Path, name: str, masked: np.ndarray) -> Recording:
    recorder = begun(path)
    for number, mask in enumerate(masks()):
        arrays = {"observation": np.zeros(4, np.float32), "action": np.array(3), f"output/{name}": LOGITS}
        recorder.put(step(number, arrays={**arrays, **({"action_mask": mask} if masked[number] else {})}))
    recorder.close()
    return open_recording(path)


@pytest.mark.parametrize("missing", [(), (5, 6)])
def test_masked_options_have_no_part_in_entropy_and_value(tmp_path: Path, missing: tuple[int, ...]) -> None:
    masked = ~np.isin(np.arange(40), missing)
    free = np.where(masked[:, None], masks(), True)
    with recorded(tmp_path / "logits.mcap", "logits", masked) as recording:
        found = entropies(recording, 2, 40)
    np.testing.assert_allclose(found, [entropy(LOGITS[each]) for each in free[2:]], rtol=1e-6)
    with recorded(tmp_path / "q_values.mcap", "q_values", masked) as recording:
        np.testing.assert_array_equal(values(recording, 2, 40), [LOGITS[each].max() for each in free[2:]])


def test_entropies_of_several_choices_and_of_switches_add_up() -> None:
    logits = np.array([[1.0, -2.0, 0.5, 0.0]])
    first, second = entropy(logits[0, :2]), entropy(logits[0, 2:])
    switches = sum(entropy(np.array([0.0, logit])) for logit in logits[0])
    spaces = {
        Discrete(n=4): entropy(logits[0]),
        MultiDiscrete(counts=(2, 2)): first + second,
        MultiBinary(shape=(2, 2)): switches,
        MultiBinary(shape=(2,)): first + second,  # as sb3-contrib has it where options can be masked: off and on
    }
    for space, wanted in spaces.items():
        np.testing.assert_allclose(entropy_of_logits(logits, space), [wanted], rtol=1e-12)
    assert np.isnan(entropy_of_logits(np.full((1, 4), np.nan), MultiBinary(shape=(4,)))).all()
    assert entropy_of_logits(np.full((1, 4), 1e9), MultiBinary(shape=(4,))) == 0
