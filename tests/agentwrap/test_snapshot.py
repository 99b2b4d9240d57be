import gymnasium as gym
import numpy as np
import pytest

from agentwrap import AgentwrapWarning
from agentwrap.guard import Guard
from agentwrap.snapshot import Snapshots, shares_memory


class Env(gym.Env):
    action_space = gym.spaces.Discrete(2)

    def __init__(self, shape=(4,), mode="rgb_array", frame=None):
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.render_mode = mode
        self.frame = np.zeros((4, 5, 3), np.uint8) if frame is None else frame

    def render(self):
        assert self.render_mode == "rgb_array", "other modes open windows, or collect frames"
        return self.frame


def test_a_frame_is_a_contiguous_copy():
    env = Env(frame=np.zeros((5, 4, 3), np.uint8).transpose(1, 0, 2))
    arrays = Snapshots(env, Guard(strict=True)).take(np.zeros(4), 1)
    env.frame[:] = 9
    assert arrays["frame"].flags.c_contiguous
    assert not arrays["frame"].any()


class Fresh(Env):
    """Draws each picture anew, as most environments do."""

    def render(self):
        frame = np.zeros((4, 5, 3), np.uint8)
        self.address = frame.ctypes.data
        return frame


class Keeping(Fresh):
    """Draws each picture anew, and keeps it to draw on."""

    def render(self):
        self.kept = super().render()
        self.address = self.kept.ctypes.data
        return self.kept


class Showing(Fresh):
    """Draws each picture anew, and keeps a part of it."""

    def render(self):
        frame = np.zeros((4, 5, 3), np.uint8)
        self.kept, self.address = frame[1:], frame.ctypes.data
        return frame


def test_only_a_frame_that_nobody_else_holds_is_taken_as_it_is():
    for kind, same in ((Fresh, True), (Keeping, False), (Showing, False)):
        for env in (kind(), gym.wrappers.OrderEnforcing(kind(), disable_render_order_enforcing=True)):
            frame = Snapshots(env, Guard(strict=True)).take(np.zeros(4), 1)["frame"]
            assert (frame.ctypes.data == env.unwrapped.address) is same, kind


@pytest.mark.parametrize("mode", [None, "human", "ansi", "rgb_array_list"])
def test_other_modes_are_not_rendered(mode):
    for shape, source in (((4,), "none"), ((84, 84, 3), "observation")):
        snapshots = Snapshots(Env(shape, mode), Guard(strict=True))
        assert snapshots.frame == source
        assert "frame" not in snapshots.take(np.zeros(shape), 0)


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 5, 3)), np.zeros((4, 5, 4), np.uint8), np.zeros(3, np.uint8), "picture", [1, 2]]
)
def test_what_is_no_picture_is_switched_off(frame):
    snapshots = Snapshots(Env((84, 84), frame=frame), Guard())
    with pytest.warns(AgentwrapWarning, match="rendering failed and is switched off: TypeError: render.. returned"):
        assert set(snapshots.take(np.zeros((84, 84)), 0)) == {"observation", "action"}
    assert snapshots.frame == "observation"


def test_actions_of_all_kinds():
    snapshots = Snapshots(Env(mode=None), Guard(strict=True))
    arrays = snapshots.values(np.zeros(4), {"move": np.int64(3), "aim": (np.zeros(2), 1)})
    assert {name: array.shape for name, array in arrays.items()} == {
        "observation": (4,),
        "action/move": (),
        "action/aim/0": (2,),
        "action/aim/1": (),
    }


def test_shared_memory_shows_in_any_part():
    buffer = np.zeros(8)
    assert shares_memory(buffer, buffer[2:])
    assert shares_memory({"a": buffer[:4], "b": 1}, {"a": np.zeros(4), "b": (buffer[:2],)})
    assert not shares_memory(buffer[:4], buffer[4:])
    assert not shares_memory(buffer, buffer.copy())
    assert not shares_memory(3, 4)
