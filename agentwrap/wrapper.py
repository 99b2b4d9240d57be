"""The one line of code: an environment that lets viewers see why its agent acts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import gymnasium as gym

from .streaming import Stream

if TYPE_CHECKING:
    from .recorder import OnFull, Recorder


class InterpretWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Streams what an agent sees, does and computes to viewers on this machine; the agent notices nothing.

    Results of ``step`` and ``reset`` are the environment's own objects. While nobody watches, a step only counts. While
    somebody does, at most ``fps`` steps per second are copied and handed to a thread that sends them; the policy's
    outputs are seen by forward hooks in the calls that the agent's own code makes. A slow or dead viewer makes steps
    get dropped, never wait. When a viewer first asks for the policy's computation, exporting it takes about a second,
    once.

    A policy that cannot be exported is probed: it is called here, for steps that are sent and for what the explainer
    asks. A plain function is such a policy, whatever it computes with, and a module beyond export. It is called in the
    agent's own thread and from within ``step`` and ``reset`` alone, so never by two threads at once, and for at most
    ``probe_ms_per_s`` milliseconds of each second; while the agent makes no steps, not at all. Of a module a copy is
    called that shares its parameters; a function has to be one of the observation: if it draws random numbers or keeps
    a state it is left alone, with a warning, as it is when it raises or is too slow.

    Not every step is sent, but returns and lengths of episodes count every one. A step that is sent holds what belongs
    together: the observation that the policy saw, the picture of that moment, what the policy computed, the action, and
    what came of it. Where an episode ends between two samples, its last step is sent all the same (one in six
    may be such a step), but has no picture, for that cannot be taken afterwards.

    With ``record`` everything is written to a file besides, watched or not, and nothing is left out: where the disk is
    slower than the agent, the agent waits for it. A disk that is full ends the recording with a warning; the agent
    goes on, and what was written stays.

    ``spec`` is that of the environment inside, and a copy of the wrapper is a copy of the environment inside: neither
    streams.

    Args:
        env: The environment, with ``render_mode="rgb_array"`` for its own pictures.
        policy: The ``torch.nn.Module`` that the agent calls with observations, an object of a library that is known
            (see ``agentwrap.policy``), or a function of the observation that returns outputs as arrays.
        endpoint: Where to stream: ``tcp://127.0.0.1:<port>`` or ``ipc://<path>``. By default what the environment
            variable ``AGENTWRAP_ENDPOINT`` says, or else the first free port of 5590…5689.
        name: The stream's name for people; by default the environment's id.
        fps: Most steps per second that are sent.
        layers: Submodules whose outputs are sent too, by their names in ``policy.named_modules()``.
        outputs: Names of the policy's outputs, for example ``"q_values"``, where they should be others than
            ``agentwrap.outputs.output_names`` gives.
        action_meanings: A name for each discrete action, or each element of a continuous one or of switches; by default
            what the environment or its documentation says.
        feature_names: A name for each element of a vector observation, or of all entries of a dict or tuple that are
            vectors, in the space's order; likewise.
        weights_every: Least seconds between two copies of changing weights.
        probe_ms_per_s: Milliseconds of each second that a policy which cannot be exported may be called; 0 for never.
        record: File to record to, an MCAP file; ``agentwrap_viewer.open_recording`` reads it. Needs
            ``pip install "agentwrap-rl[record]"``.
        record_every: Record one step in so many; ends of episodes and the policy's weights are recorded in any case.
        on_full: What to do when the disk is slower than the agent: ``wait``, or ``drop`` steps.
        overwrite: Replace the file of ``record`` if there is one.
        view: Start the viewer too, and end it with the agent. Needs ``pip install "agentwrap-rl[viewer]"``.
        quiet: Print nothing.
        strict: Raise what goes wrong in the instrument, instead of warning once and carrying on without that part.

    Attributes:
        stream: Identity of the stream.
        endpoint: Where it is.
        recorder: The recording, or None.

    Raises:
        PolicyTypeError: The policy is of a kind that cannot be watched.
        UnknownLayerError: The policy has no submodule of that name.
        EndpointError: The endpoint is malformed or reaches beyond this machine.
        PortTakenError: Something else listens there.
        RecordingError: The file exists already, or cannot be written.
        MissingExtraError: ``view`` without the viewer installed, or ``record`` without what it needs.
        ValueError: Another option is out of its range.

    Example:
        >>> import gymnasium as gym
        >>> import torch
        >>> from agentwrap import InterpretWrapper
        >>> policy = torch.nn.Linear(4, 2)
        >>> env = InterpretWrapper(gym.make("CartPole-v1"), policy, quiet=True)
        >>> observation, info = env.reset(seed=0)
        >>> action = policy(torch.as_tensor(observation)).argmax().item()
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> env.close()
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        policy: Any,
        *,
        endpoint: str | None = None,
        name: str | None = None,
        fps: float = 60,
        layers: Sequence[str] | str | None = None,
        outputs: Sequence[str] | str | None = None,
        action_meanings: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        weights_every: float = 2.0,
        probe_ms_per_s: float = 50.0,
        record: str | os.PathLike[str] | None = None,
        record_every: int = 1,
        on_full: OnFull = "wait",
        overwrite: bool = False,
        view: bool = False,
        quiet: bool = False,
        strict: bool = False,
    ) -> None:
        if isinstance(env, gym.vector.VectorEnv):
            raise TypeError("this is a vector environment: use InterpretVectorWrapper")
        super().__init__(env)
        self._stream = Stream(
            env,
            policy,
            endpoint=endpoint,
            name=name,
            fps=fps,
            layers=layers,
            outputs=outputs,
            action_meanings=action_meanings,
            feature_names=feature_names,
            weights_every=weights_every,
            probe_ms_per_s=probe_ms_per_s,
            record=record,
            record_every=record_every,
            on_full=on_full,
            overwrite=overwrite,
            view=view,
            quiet=quiet,
            strict=strict,
        )
        self.stream, self.endpoint = self._stream.id, self._stream.endpoint

    @property
    def recorder(self) -> Recorder | None:
        """The recording, or None."""
        return self._stream.recorder

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """The spec of the environment inside: one that is made from it opens no second stream."""
        return self.env.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return _inner, (self.env,)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment inside and return what it returns."""
        stream = self._stream
        stream.begin(action)
        result = self.env.step(action)
        stream.end(result)
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment inside and return what it returns. An episode that was not over ends here."""
        result = self.env.reset(seed=seed, options=options)
        self._stream.restart(result[0], seed)
        return result

    def wait_for_viewer(self, timeout: float = 60.0) -> bool:
        """Wait until a viewer asks for the policy, so that a short run is explained from its first step.

        Args:
            timeout: Most seconds to wait.

        Returns:
            Whether one has asked.
        """
        return self._stream.wait_for_viewer(timeout)

    def policy_changed(self) -> None:
        """Say that the policy computes something else from now on, where that cannot be seen: of a function.

        The page tells its versions apart then, shows their age, and asks the function anew. Versions are counted as
        weights are sent, at most every ``weights_every`` seconds; it costs nothing to call this more often, and any
        thread may. Of modules weights are watched: where they change unseen (in memory that something else writes to),
        this has them sent at once.
        """
        self._stream.policy_changed()

    def close(self) -> None:
        """End the stream and close the environment inside."""
        self._stream.close()
        self.env.close()


def _inner(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """What a wrapper is copied and pickled as."""
    return env
