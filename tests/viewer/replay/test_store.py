"""A recording as the page's store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import hello, saliency_map
from recordings import known

from agentwrap_protocol.messages import Explainer, SaliencyMap
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.replay.store import CannotReplay, RecordedSteps, RecordedStore


def test_steps_are_had_in_any_order_and_few_are_kept(recording: Recording, store: RecordedStore) -> None:
    steps = RecordedSteps(recording, store.columns, max_bytes=20_000)
    for position in (249, 0, 130, 131, 0, 17):
        step = steps.at(position)
        assert step is not None and step.step == position and step.arrays["observation"][0] == position
        assert steps.at(position) is step and steps.bytes <= 20_000
    assert steps.at(-1) is None and steps.at(250) is None
    assert steps.position_of(120) == 120 and steps.position_of(250) is None
    assert (steps.first, steps.last, len(steps)) == (0, 249, 250)


def test_a_damaged_step_is_shown_without_contents_and_noted(
    store: RecordedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Recording, index: int) -> None:
        raise RecordingError("the chunk at byte 7 is damaged")

    assert store.notes == []
    monkeypatch.setattr(Recording, "_step", read)
    step = store.steps.at(130)
    assert step is not None and (step.step, step.episode, step.episode_step, dict(step.arrays)) == (130, 1, 30, {})
    assert "chunk at byte 7" in store.notes[0]


def explainer(method: str, **options: float) -> Explainer:
    return Explainer(stream="e" * 32, state="ready", method=method, options=options)


def test_maps_of_another_policy_are_never_shown(write: Callable[..., Path]) -> None:
    with open_recording(write([known(number, policy_version=2) for number in range(5)])) as recording:
        store, step = RecordedStore(recording), known(3)
        store.add(saliency_map(step, policy_version=1))
        assert store.maps.get(3) is None
        store.add(saliency_map(step, policy_version=2))
        assert store.maps.get(3) is not None
        store.add(saliency_map(known(4), policy_version=2, source="a" * 32))
        assert store.maps.get(4) is None


def test_maps_of_another_method_are_not_shown_until_it_is_chosen_again(store: RecordedStore) -> None:
    store.add(saliency_map(known(3), options={"radius": 5}))
    assert store.maps.get(3) is not None
    store.add(explainer("sarfa"))
    store.notify()
    assert store.maps.get(3) is None
    store.add(explainer("perturbation", radius=5))
    store.notify()
    assert store.maps.get(3) is not None


@pytest.fixture
def maps_of(tmp_path: Path) -> Callable[..., Path]:
    def make(maps: list[SaliencyMap], *, stream: str = "0" * 32, **metadata: str) -> Path:
        path = tmp_path / "maps.mcap"
        with RecordingWriter(path, hello(stream), metadata=metadata) as writer:
            for each in maps:
                writer.add(each, renumber=True)
        return path

    return make


def test_maps_of_a_file_are_used_where_they_are(recording: Recording, maps_of: Callable[..., Path]) -> None:
    with open_recording(maps_of([saliency_map(known(7)), saliency_map(known(9))])) as maps:
        store = RecordedStore(recording, maps)
        found = store.maps.get(9)
        assert found is not None and found.step == 9 and found.refined == 1 and store.maps.get(8) is None
        np.testing.assert_array_equal(found.arrays["heatmap/actor"], saliency_map(known(9)).arrays["heatmap/actor"])
        coarse = msgspec.structs.replace(saliency_map(known(9)), refined=0.1)
        store.add(coarse)
        assert store.maps.get(9) is not None and store.maps.get(9).refined == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("maps", "made", "said"),
    [
        ([saliency_map(known(7))], {"stream": "a" * 32}, "another run"),
        ([saliency_map(known(7))], {"policy_version": "3"}, "version 3"),
        ([], {}, "holds no maps"),
    ],
)
def test_maps_that_do_not_belong_here_are_refused(
    recording: Recording, maps_of: Callable[..., Path], maps: list[SaliencyMap], made: dict[str, str], said: str
) -> None:
    with open_recording(maps_of(maps, **made)) as opened, pytest.raises(CannotReplay, match=said):
        RecordedStore(recording, opened)


def test_a_recording_without_steps_is_refused_and_one_without_a_policy_says_so(
    write: Callable[..., Path], store: RecordedStore
) -> None:
    with open_recording(write([], "none.mcap")) as empty, pytest.raises(CannotReplay, match="no steps"):
        RecordedStore(empty)
    assert store.without_maps is not None and "no policy" in store.without_maps


def test_a_torn_recording_says_what_was_cut(write: Callable[..., Path]) -> None:
    path = write([known(number) for number in range(300)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_recording(path) as torn:
        assert any("was not ended" in note for note in RecordedStore(torn).notes)
