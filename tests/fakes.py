"""Stand-ins for an agent and an explainer: the real protocol over real sockets, with contents that a test knows."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from agentwrap_protocol import decode, encode
from agentwrap_protocol.messages import (
    Bye,
    Configure,
    EpisodeEnd,
    Explain,
    Explainer,
    Heartbeat,
    Hello,
    Message,
    MethodInfo,
    OptionInfo,
    PolicyInfo,
    Reply,
    SaliencyMap,
    Step,
)
from agentwrap_protocol.spaces import Box, Discrete

ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT", "DOWN", "DOWNRIGHT", "DOWNLEFT", "RIGHTFIRE", "LEFTFIRE")
EPISODE = 100  #: Steps of a fake episode


def frame_of(step: int) -> np.ndarray:
    """The picture of a step: uint8 (210, 160, 3), another for each of 160 successive steps."""
    rows, columns = np.mgrid[:210, :160]
    picture = np.stack([rows, columns, (rows + columns) % 256], axis=-1).astype(np.uint8)
    column = step % 160
    picture[100:110, column : column + 8] = (255, 255, 0)
    return picture


def hello(stream: str = "0" * 32, **changes: Any) -> Hello:
    """An agent with nine actions, pictures, and a stack of four as observation; ``changes`` are fields."""
    fields: dict[str, Any] = {
        "name": "fake",
        "env_id": "Fake/Drive-v0",
        "observation_space": Box(shape=(4, 84, 84), dtype="uint8", low=0, high=255),
        "action_space": Discrete(n=len(ACTIONS)),
        "action_meanings": ACTIONS,
        "frame": "render",
        "policy": PolicyInfo(type="FakePolicy", parameters=3, outputs=("logits", "value"), graph="exported"),
    }
    return Hello(stream=stream, time=time.time(), **{**fields, **changes})


def step(number: int, stream: str = "0" * 32, *, arrays: dict[str, np.ndarray] | None = None, **fields: Any) -> Step:
    """A step with known contents; ``arrays`` replaces them all."""
    logits = np.zeros(len(ACTIONS), np.float32)
    logits[number % len(ACTIONS)] = 2.0
    contents = {
        "observation": np.full((4, 84, 84), number % 251, np.uint8),
        "action": np.array(number % len(ACTIONS)),
        "frame": frame_of(number),
        "output/logits": logits,
        "output/value": np.array(np.sin(number / 20), np.float32),
        "rewards": np.array([float(number % 10 == 0)], np.float32),
    }
    known: dict[str, Any] = {
        "seq": number,
        "time": time.time(),
        "step": number,
        "episode": number // EPISODE,
        "episode_step": number % EPISODE,
        "reward": float(number % 10 == 0),
        "episode_return": float(number % EPISODE // 10),
        "terminated": number % EPISODE == EPISODE - 1,
        "truncated": False,
    }
    return Step(stream=stream, arrays=contents if arrays is None else arrays, **{**known, **fields})


def saliency_map(of: Step, stream: str = "e" * 32, **changes: Any) -> SaliencyMap:
    """A map whose actor's heat is highest in the upper left quarter, and whose critic's in the lower right."""
    actor, critic = np.zeros((84, 84), np.float32), np.zeros((84, 84), np.float32)
    actor[10:30, 10:30], critic[50:70, 50:70] = 2.0, 0.5
    fields: dict[str, Any] = {
        "source": of.stream,
        "step": of.step,
        "episode": of.episode,
        "method": "perturbation",
        "options": {"radius": 5},
        "targets": ("actor", "critic"),
        "refined": 1.0,
        "seconds": 0.02,
        "forwards": 289,
        "replica_max_abs_diff": 1e-6,
        "step_time": of.time,
        "arrays": {"heatmap/actor": actor, "heatmap/critic": critic},
    }
    return SaliencyMap(stream=stream, time=time.time(), **{**fields, **changes})


METHODS = (
    MethodInfo(
        name="perturbation",
        title="Perturbation",
        doc="Blurs a spot and looks how the outputs change.",
        source="Greydanus et al. 2018",
        observations=("image", "vector"),
        options=(
            OptionInfo(name="radius", default=5, doc="Radius of a spot in pixels.", minimum=1, maximum=20),
            OptionInfo(name="blur", default=3.0, doc="Deviation of the blur in pixels.", minimum=0.5, maximum=10.0),
            OptionInfo(name="newest_only", default=False, doc="Perturb the newest frame alone."),
            OptionInfo(name="cut", default=0.0, doc="Share of a mask that is left out.", minimum=0.0, maximum=0.5),
        ),
    ),
    MethodInfo(
        name="sarfa",
        title="SARFA",
        doc="Specific and relevant changes of the chosen action.",
        source="Puri et al. 2020",
        options=(OptionInfo(name="mode", default="blur", choices=("blur", "black"), doc="What hides a spot."),),
    ),
)


class Publisher:
    """An XPUB socket that says hello to each new subscriber. Its methods may be called from one thread at a time."""

    def __init__(self, endpoint: str | None, introduce: Callable[[], Message]) -> None:
        self.stream = uuid.uuid4().hex
        self._introduce = introduce
        self._seq: dict[str, int] = {}
        self._lock = threading.RLock()
        self._socket = zmq.Context.instance().socket(zmq.XPUB)
        # What is on its way when it closes is sent to its end: libzmq 4.3.5 aborts the process where the other side
        # leaves in the middle of a message whose rest was dropped (session_base.cpp, clean_pipes; issue 3442).
        self._socket.linger = 1000
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._bind(endpoint or "tcp://127.0.0.1:*")
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.watched = False

    def _bind(self, endpoint: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._socket.bind(endpoint)
            except zmq.ZMQError:  # the one before it at this address is still being closed
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def publish(self, message: Message) -> None:
        """Send a message; numbers it and puts the stream's identity in."""
        with self._lock:
            frames = encode(self._numbered(message))
            self._socket.send_multipart(frames)

    def _numbered(self, message: Message) -> Message:
        import msgspec

        seq = self._seq.get(message.kind, 0)
        self._seq[message.kind] = seq + 1
        return msgspec.structs.replace(message, stream=self.stream, seq=seq)

    def send_raw(self, frames: list[bytes]) -> None:
        """Send whatever bytes."""
        with self._lock:
            self._socket.send_multipart(frames)

    def serve(self) -> None:
        """Answer new subscribers."""
        with self._lock:
            while self._socket.poll(0):
                event = self._socket.recv()
                if event[:1] == b"\x01":
                    self.watched = self.watched or event[1:] == b"step"
                    if event[1:] in (self._introduce().kind.encode(), b""):
                        self.publish(self._introduce())

    def close(self) -> None:
        """Close the socket."""
        with self._lock:
            self._socket.close()


class FakeAgent(Publisher):
    """An agent; ``play`` streams steps in a thread until ``pause`` or ``close``.

    Args:
        endpoint: Where to bind, or None for any free port.
        make_step: Makes the step of a number; the default streams ``step``.
        fields: Fields of its hello.
    """

    def __init__(
        self, endpoint: str | None = None, *, make_step: Callable[[int], Step] | None = None, **fields: Any
    ) -> None:
        self.hello = hello(**fields)
        super().__init__(endpoint, lambda: self.hello)
        self.make_step = make_step or step
        self.number = 0
        self.newest: Step | None = None
        self.rate = 0.0
        self.on_step: Callable[[Step], None] | None = None
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def play(self, rate: float = 30.0) -> FakeAgent:
        """Stream ``rate`` steps per second."""
        self.rate = rate
        return self

    def pause(self) -> None:
        """Stream no further steps from now on; heartbeats go on."""
        with self._lock:
            self.rate = 0.0

    def take_step(self) -> Step:
        """Stream one step."""
        with self._lock:
            made = self.make_step(self.number)
            self.number += 1
            self.publish(made)
            if made.terminated:
                self.publish(
                    EpisodeEnd(
                        stream=self.stream,
                        episode=made.episode,
                        step=made.step,
                        length=EPISODE,
                        episode_return=made.episode_return + made.episode,
                        seconds=1.0,
                        reason="terminated",
                    )
                )
        self.newest = self._numbered_as_sent(made)
        if self.on_step is not None:
            self.on_step(self.newest)
        return self.newest

    def _numbered_as_sent(self, made: Step) -> Step:
        import msgspec

        return msgspec.structs.replace(made, stream=self.stream)

    def _run(self) -> None:
        beat = due = time.monotonic()
        while self._running:
            self.serve()
            now = time.monotonic()
            if now >= beat:
                beat = now + 1
                self.publish(Heartbeat(stream=self.stream, step=self.number, steps_per_second=self.rate))
            with self._lock:  # who has paused it sees no step that was about to come
                if self.rate and now >= due:
                    due = max(due + 1 / self.rate, now - 0.1)
                    self.take_step()
            time.sleep(0.002)

    def close(self, reason: str | None = None) -> None:
        """End; with a reason, after saying goodbye."""
        if not self._running:
            return
        self._running = False
        self._thread.join()
        if reason is not None:
            self.publish(Bye(stream=self.stream, reason=reason))
        super().close()


class FakeExplainer(Publisher):
    """An explainer that publishes known maps and notes what it is asked for.

    Attributes:
        requests: Every request received, in order.
    """

    def __init__(self, **fields: Any) -> None:
        self.fields: dict[str, Any] = {
            "state": "ready",
            "methods": METHODS,
            "method": "perturbation",
            "options": {"radius": 5, "blur": 3.0, "newest_only": False},
            "budget_ms": 50.0,
            "maps_per_second": 25.0,
            "policy_version": 1,
            **fields,
        }
        super().__init__(None, self.state)
        self.requests: list[Message] = []
        self.make_map: Callable[[Step], SaliencyMap] = saliency_map
        self._control = zmq.Context.instance().socket(zmq.ROUTER)
        self._control.linger = 0
        self._control.bind("tcp://127.0.0.1:*")
        self.control = self._control.getsockopt_string(zmq.LAST_ENDPOINT)
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def state(self) -> Explainer:
        """What it says of itself."""
        return Explainer(stream=self.stream, time=time.time(), **self.fields)

    def explain(self, of: Step) -> None:
        """Publish a map of a step. Suits ``FakeAgent.on_step``."""
        self.publish(self.make_map(of))

    def _run(self) -> None:
        beat = time.monotonic()
        while self._running:
            self.serve()
            if time.monotonic() >= beat:
                beat = time.monotonic() + 1
                self.publish(self.state())
            while self._control.poll(0):
                identity, *frames = self._control.recv_multipart()
                reply = self._answer(decode(frames))
                self._control.send_multipart([identity, *encode(reply)])
            time.sleep(0.002)

    def _answer(self, request: Message) -> Reply:
        self.requests.append(request)
        if isinstance(request, Configure):
            if request.method is not None:
                chosen = next(method for method in METHODS if method.name == request.method)
                self.fields["method"] = request.method
                self.fields["options"] = {option.name: option.default for option in chosen.options}
            self.fields["options"] = {**self.fields["options"], **(request.options or {})}
            self.fields["budget_ms"] = request.budget_ms or self.fields["budget_ms"]
            self.publish(self.state())
        if isinstance(request, Explain):
            self.publish(self.make_map(step(request.step, request.source, time=request.step_time)))
        return Reply(stream=self.stream, time=time.time(), request=request.seq)

    def close(self) -> None:
        """End."""
        if not self._running:
            return
        self._running = False
        self._thread.join()
        self._control.close()
        super().close()


#: A user's own method, as a module.
OWN_METHOD = """
from dataclasses import dataclass
import torch
from agentwrap_viewer.saliency import MaskMethod, option, register
from agentwrap_viewer.saliency.masks import patch_masks

@register
@dataclass(frozen=True, kw_only=True)
class Erase(MaskMethod):
    name = "erase"
    title = "Erase"
    doc = "How much the value falls when a square is painted black."
    accepts = targets = ("critic",)
    side: int = option(2, doc="side of the square", minimum=1)
    def make_masks(self, layout):
        return patch_masks(layout.size, self.side, self.side)
    def baseline(self, image, layout):
        return torch.zeros_like(image)
    def score(self, clean, perturbed, target):
        return (clean.columns(target) - perturbed.columns(target))[:, 0]
"""


def own_method_package(folder: Path) -> None:
    """Put a package ``eraser`` into a folder, whose entry point is the own method, as an installer would."""
    (folder / "eraser.py").write_text(OWN_METHOD)
    info = folder / "eraser-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eraser\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agentwrap.saliency]\nerase = eraser\n")
