"""The messages, one immutable type for each kind (SPEC section 4).

Every array is a ``numpy.ndarray`` in ``arrays``, keyed by name; the codec carries it beside the header. Decoded arrays
are read-only views of the received bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from msgspec import Meta

from .graph import Graph, Input
from .spaces import Name, Space

#: Version spoken here. A major version is a promise: other major versions are refused, newer minor ones understood.
VERSION: tuple[int, int] = (1, 0)

#: Most arrays of a message.
MAX_ARRAYS = 4096

#: Most rows that an agent may offer to take in a probe, and most bytes of its arrays (SPEC section 11).
MAX_PROBE_ROWS = 4096
MAX_PROBE_BYTES = 2**26

#: Most environments that may share a stream.
MAX_ENVIRONMENTS = 65_536

Text = Annotated[str, Meta(max_length=65_536)]
StreamId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Scalar = bool | int | float | str | None
Options = Annotated[dict[Name, Scalar], Meta(max_length=64)]
Follow = Literal["none", "best", "worst", "newest"]
ScoreScale = Literal["magnitude", "signed", "relative"]

#: In the place of a target: those that the method explains of itself.
DEFAULT_TARGET = "default"

#: Most targets that an explainer offers.
MOST_TARGETS = 512

Names = Annotated[tuple[Name, ...], Meta(max_length=65_536)]


class Message(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What all messages have.

    Attributes:
        stream: Identity of the sender's run: 32 hexadecimal digits, new whenever an agent (re)starts.
        seq: Counts the messages of this kind in this stream from 0. A jump tells how many were dropped.
        time: Seconds since the epoch on the sender's clock when the message was made.
        arrays: Arrays by name.
    """

    kind: ClassVar[str] = ""
    reliable: ClassVar[bool] = True  #: False where a sender may drop this kind under load

    stream: StreamId
    seq: Count = 0
    time: float = 0.0
    arrays: Annotated[dict[Name, np.ndarray[Any, Any]], Meta(max_length=MAX_ARRAYS)] = {}


class ProbeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy without a graph can be asked for its outputs, by ``Probe`` requests to its agent.

    Attributes:
        inputs: What a request holds, as if the policy were a batched graph.
        outputs: What a reply holds.
        rows: Most observations in one request.
        ms_per_s: Milliseconds of each second that the agent spends on calling its policy for others.
    """

    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=256)]
    outputs: Names
    rows: Annotated[int, Meta(ge=1, le=MAX_PROBE_ROWS)]
    ms_per_s: Annotated[float, Meta(ge=0)]


class DistributionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How the policy's outputs become an action.

    Attributes:
        kind: ``categorical``: softmax of ``logits``; ``multi_categorical``: the same for each group of ``counts``;
            ``bernoulli``: sigmoid of each of ``logits``; ``gaussian``: around ``mean`` with exp(``log_std``);
            ``squashed_gaussian``: tanh of that, scaled from -1…1 to ``low``…``high``; ``quantiles``: greedy in the mean
            of ``quantiles``; ``deterministic``: greedy in ``q_values``, or ``mean`` itself.
        counts: Options of each choice, where there are several; groups of ``logits`` lie in this order.
        low: Least action, one for each element of ``mean``; empty where actions are no such numbers.
        high: Greatest action, likewise. What is beyond is clipped, where it is not squashed.
    """

    kind: Literal[
        "categorical", "multi_categorical", "bernoulli", "gaussian", "squashed_gaussian", "quantiles", "deterministic"
    ]
    counts: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(max_length=4096)] = ()
    low: Annotated[tuple[float, ...], Meta(max_length=4096)] = ()
    high: Annotated[tuple[float, ...], Meta(max_length=4096)] = ()


class PolicyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the policy.

    Attributes:
        type: Class name, for people.
        parameters: Number of scalar parameters.
        outputs: Names of the outputs captured, e.g. ``("logits", "value")``; empty until a first call was seen.
        graph: ``pending`` until the first call, ``exported``, or ``failed``.
        problem: Where ``failed``: which operation stood in the way. Else what may be wrong with its calls.
        probe: Where ``failed``: how the policy can be asked instead, None where it cannot.
        distribution: How its outputs become an action, None where that is not known.
    """

    type: Text
    parameters: Count = 0
    outputs: Names = ()
    graph: Literal["pending", "exported", "failed"] = "pending"
    problem: Text | None = None
    probe: ProbeInfo | None = None
    distribution: DistributionInfo | None = None


class Hello(Message, frozen=True, kw_only=True, eq=False):
    """Who streams. Sent first, again for every new subscriber, and again whenever a field changes.

    Arrays: ``episodes/return`` float64 (k,), ``episodes/length`` int64 (k,), ``episodes/number`` int64 (k,): the
    episodes that ended so far, oldest first, at most the newest 1,000.

    Attributes:
        name: The stream's name for people.
        env_id: The environment's id, or its class name.
        software: Names and versions, e.g. ``{"agentwrap": "0.1.0", "gymnasium": "1.4.0"}``.
        observation_space: Space of the observations, which ``Step.arrays["observation"]`` follows.
        action_space: Space of the actions.
        action_meanings: One name for each discrete action, or each element of a continuous one or of switches, or None.
        feature_names: One name for each element of a vector observation (of a dict's or tuple's Box entries with one
            axis, in the space's order), or None.
        frame: Where frames come from: the env's ``render``, the ``observation``, or ``none``.
        fps: Most steps per second that are sent.
        control: Endpoint for control requests, or None.
        policy: What is known about the policy.
        environments: Environments that share this stream, of which one at a time is shown.
    """

    kind: ClassVar[str] = "hello"

    name: Text
    env_id: Text
    software: Annotated[dict[Name, Text], Meta(max_length=64)] = {}
    observation_space: Space
    action_space: Space
    action_meanings: Names | None = None
    feature_names: Names | None = None
    frame: Literal["render", "observation", "none"] = "none"
    fps: Annotated[float, Meta(gt=0)] = 60.0
    control: Text | None = None
    policy: PolicyInfo
    environments: Annotated[int, Meta(ge=1, le=MAX_ENVIRONMENTS)] = 1


class Step(Message, frozen=True, kw_only=True, eq=False):
    """One step of the env: the policy saw ``observation``, did ``action``, received ``reward``.

    Steps are sampled at ``Hello.fps``; ``rewards`` holds what came in between.

    Arrays:
        ``observation`` (or ``observation/<key>``): what the env returned before the action was chosen.
        ``action``: the action that ``step`` was called with.
        ``action_mask``: bool (n,), True for the options that the policy was free to choose, in the order of ``logits``.
        Absent where all were free, or where that is not known.
        ``frame``: uint8 (H, W, 3) or (H, W): the picture at the time of ``observation``, absent where there is none.
        ``output/<name>``: what the policy computed for this step, without batch axis: ``logits``, ``q_values``,
        ``mean``, ``log_std``, ``value`` and ``state_action_value`` (scalars, shape ()), ``latent``,
        ``layer/<module name>``. Absent where the policy was not called.
        ``input/<name>``: inputs of the graph that are not simply the observation: preprocessed input without batch
        axis, recurrent state as it was passed, with a batch axis of length 1 where the policy has one.
        ``rewards``: float32 (k,): rewards of all steps since the last ``step`` message, oldest first, this one last.

    Attributes:
        step: Counts the env's steps from 0 since the wrapper was made.
        episode: Counts episodes from 0.
        episode_step: Counts steps in this episode from 0.
        reward: The reward of this step.
        episode_return: Sum of the episode's rewards, this one included, also of steps that were not sent.
        terminated: As the env returned it.
        truncated: As the env returned it.
        policy_version: Version of the newest weights that were sent before this step.
        policy_stale: True where the policy's weights have changed since that version.
        environment: Index of the environment, where several share the stream.
    """

    kind: ClassVar[str] = "step"
    reliable: ClassVar[bool] = False

    step: Count
    episode: Count
    episode_step: Count
    reward: float
    episode_return: float
    terminated: bool
    truncated: bool
    policy_version: Count = 0
    policy_stale: bool = False
    environment: Count = 0


class EpisodeEnd(Message, frozen=True, kw_only=True, eq=False):
    """An episode ended. Never sampled away.

    Attributes:
        episode: Number of the episode that ended.
        step: The step it ended with.
        length: Its number of steps.
        episode_return: Sum of its rewards.
        seconds: Wall-clock time from its first to its last step.
        reason: ``terminated``, ``truncated``, ``reset`` (the user reset before the end) or ``closed``.
    """

    kind: ClassVar[str] = "episode_end"

    episode: Count
    step: Count
    length: Count
    episode_return: float
    seconds: float
    reason: Literal["terminated", "truncated", "reset", "closed"]


class PolicyGraph(Message, frozen=True, kw_only=True, eq=False):
    """The policy's computation as plain data; its weights follow in ``Weights``.

    Arrays: ``constant/<name>``: tensors of the graph that never change.
    """

    kind: ClassVar[str] = "policy_graph"

    graph: Graph


class Weights(Message, frozen=True, kw_only=True, eq=False):
    """Weights of the policy at one moment.

    Arrays: one for each of the graph's parameters, by name.

    Attributes:
        policy_version: Counts from 1; 0 means that no weights were sent.
        step: The step before which they were taken.
    """

    kind: ClassVar[str] = "weights"

    policy_version: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    step: Count


class SaliencyMap(Message, frozen=True, kw_only=True, eq=False):
    """A saliency map of one step, finished or still being refined.

    Arrays, for each target (``actor``, ``critic``, …):
        ``heatmap/<target>``: float32 (H, W) in the space of the observation's pixels, raw scores ≥ 0 for perturbation.
        ``grid/<target>``: float32 (rows, cols), the scores at the grid's centres.
        ``features/<target>``: float32 (n,), for vector observations, in place of the two.
        For a dict observation each name ends in ``/<key>``.
        ``past/<target>``: float32 (k,), scores of whole frames, oldest first, the step's own last.
        ``output/<name>``: float32 (n,), what this version of the policy computes for the step.

    Attributes:
        source: Stream that the step belongs to (``stream`` is the explainer's own).
        step: The step explained.
        episode: Its episode.
        policy_version: Version of the weights the map was computed with.
        method: The method's name.
        options: The method's options.
        scale: How scores are to be read. ``magnitude``: at least 0, which is no effect. ``signed``: above 0 for what
            raises the target, below for what lowers it. ``relative``: only differences between scores count.
        entry_methods: Methods of those entries of a dict observation that ``method`` does not explain, by key.
        entry_scales: Their scales, for the same keys.
        target: What was asked for: ``default``, or a target.
        targets: Names of the targets, in order.
        titles: What targets are, for people.
        refined: Share of the full computation that this map rests on; 1 is final.
        seconds: Time spent computing so far.
        forwards: Perturbed observations evaluated so far.
        replica_max_abs_diff: Largest difference between the replica's outputs and what the agent computed at this step;
            None where the agent's outputs are not known.
        policy_stale: The weights had already changed when the step was taken; a difference is then expected.
        step_time: ``Step.time`` of the step explained, to tell the map's age.
        past: Whether ``past/<target>`` scores consecutive ``steps``, or the frames of the ``stack`` that the
            observation is; None where it was not computed, yet or at all.
        past_problem: Why there are fewer scores than there could be, or why they may be wrong, for people.
    """

    kind: ClassVar[str] = "saliency_map"
    reliable: ClassVar[bool] = False

    source: StreamId
    step: Count
    episode: Count = 0
    policy_version: Count = 0
    method: Name
    options: Options = {}
    scale: ScoreScale = "magnitude"
    entry_methods: Annotated[dict[Name, Name], Meta(max_length=256)] = {}
    entry_scales: Annotated[dict[Name, ScoreScale], Meta(max_length=256)] = {}
    target: Name = DEFAULT_TARGET
    targets: Annotated[tuple[Name, ...], Meta(max_length=64)]
    titles: Annotated[dict[Name, Text], Meta(max_length=64)] = {}
    refined: Share
    seconds: float
    forwards: Count
    replica_max_abs_diff: float | None = None
    policy_stale: bool = False
    step_time: float = 0.0
    past: Literal["steps", "stack"] | None = None
    past_problem: Text | None = None

    def scale_of(self, name: str) -> ScoreScale:
        """Return how the scores of the array ``<what>/<target>[/<key>]`` are to be read."""
        return self.entry_scales.get(_entry_of(name), self.scale)

    def method_of(self, name: str) -> str:
        """Return the method by which the array ``<what>/<target>[/<key>]`` was computed."""
        return self.entry_methods.get(_entry_of(name), self.method)

    def title_of(self, target: str) -> str:
        """Return what a target is, for people."""
        return self.titles.get(target, "preferred action" if target == "chosen" else target)


def _entry_of(name: str) -> str:
    return name.partition("/")[2].partition("/")[2]


class Outputs(Message, frozen=True, kw_only=True, eq=False):
    """What one version of the policy computes for recorded steps, without a map. Answers ``evaluate``.

    Arrays: ``step`` int64 (k,), the steps' numbers; ``output/<name>`` (k, …).

    Attributes:
        source: Stream that the steps belong to.
        policy_version: Version of the weights.
    """

    kind: ClassVar[str] = "outputs"
    reliable: ClassVar[bool] = False

    source: StreamId
    policy_version: Count = 0


class OptionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a method: enough to draw a control for it. A ``unit`` of ``pixels`` is the observation's pixels."""

    name: Name
    default: Scalar
    doc: Text = ""
    unit: Text = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: Annotated[tuple[Scalar, ...], Meta(max_length=64)] = ()


class MethodInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A saliency method that the explainer offers.

    Attributes:
        name: The registered name.
        title: Name for people.
        doc: What it computes, in a sentence.
        source: Paper or document.
        observations: Kinds of observation it explains: ``image``, ``vector``.
        options: Its options.
    """

    name: Name
    title: Text
    doc: Text = ""
    source: Text = ""
    observations: Annotated[tuple[Name, ...], Meta(max_length=8)] = ("image",)
    options: Annotated[tuple[OptionInfo, ...], Meta(max_length=64)] = ()


class TargetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What of a policy's outputs can be explained: a target's name, or ``default``, and its title for people."""

    name: Name
    title: Text


class Explainer(Message, frozen=True, kw_only=True, eq=False):
    """How the explainer does. Sent once a second and whenever something changes.

    Attributes:
        state: ``waiting`` for a stream, ``pending`` a policy, ``ready``, or ``unable`` (``problem`` says why).
        problem: What stands in the way, for people, or None.
        source: Stream it follows, or None.
        policy_version: Version of the weights in the replica.
        device: Where it computes, e.g. ``cpu``.
        methods: What it offers.
        method: The method in use.
        options: Its options.
        target: What is explained: ``default`` for the method's own targets, or a target.
        targets: What it may be with this policy and method.
        budget_ms: Time it spends on one step before it turns to a newer one.
        maps_per_second: Maps published per second, over the last seconds (steps with at least one map).
        missed: Messages of the agent that the explainer did not receive.
        control: Endpoint for control requests.
    """

    kind: ClassVar[str] = "explainer"

    state: Literal["waiting", "pending", "ready", "unable"]
    problem: Text | None = None
    source: Text | None = None
    policy_version: Count = 0
    device: Text = "cpu"
    methods: Annotated[tuple[MethodInfo, ...], Meta(max_length=256)] = ()
    method: Name = ""
    options: Options = {}
    target: Name = DEFAULT_TARGET
    targets: Annotated[tuple[TargetInfo, ...], Meta(max_length=MOST_TARGETS)] = ()
    budget_ms: float = 0.0
    maps_per_second: float = 0.0
    missed: Count = 0
    control: Text | None = None


class Heartbeat(Message, frozen=True, kw_only=True, eq=False):
    """The sender lives. Once a second.

    Attributes:
        step: Steps taken so far.
        episode: Episode in progress.
        steps_per_second: Rate of the env's steps over the last second, sent or not.
        sent: Step messages handed to the network.
        dropped: Step messages dropped because the sender's queue was full.
        recorded: Steps that the agent itself has recorded.
        recording_wait: Seconds that the agent has waited for the disk that it records to.
    """

    kind: ClassVar[str] = "heartbeat"
    reliable: ClassVar[bool] = False

    step: Count = 0
    episode: Count = 0
    steps_per_second: float = 0.0
    sent: Count = 0
    dropped: Count = 0
    recorded: Count = 0
    recording_wait: Annotated[float, Meta(ge=0)] = 0.0


class Environments(Message, frozen=True, kw_only=True, eq=False):
    """How each of the environments does that share a stream. Once a second, for those who subscribe to it.

    Arrays: ``episodes`` int64 (n,): episodes ended; ``return`` float64 (n,): return of the newest of them, NaN where
    there is none; ``running`` float64 (n,) and ``length`` int64 (n,): return and steps so far of the one in progress.

    Attributes:
        shown: Index of the one that is shown.
        follow: How that is chosen anew whenever its episode ends.
    """

    kind: ClassVar[str] = "environments"
    reliable: ClassVar[bool] = False

    shown: Count = 0
    follow: Follow = "none"


class Bye(Message, frozen=True, kw_only=True, eq=False):
    """The stream ends on purpose; ``reason`` is for people."""

    kind: ClassVar[str] = "bye"

    reason: Text = ""


class Ping(Message, frozen=True, kw_only=True, eq=False):
    """Request: are you there?"""

    kind: ClassVar[str] = "ping"


class Resend(Message, frozen=True, kw_only=True, eq=False):
    """Request to the agent: publish the newest messages of these kinds again (after a gap)."""

    kind: ClassVar[str] = "resend"

    kinds: Annotated[tuple[Literal["hello", "policy_graph", "weights"], ...], Meta(max_length=3)]


class Probe(Message, frozen=True, kw_only=True, eq=False):
    """Request to an agent: have the policy compute its outputs for these observations.

    Arrays: one for each of ``ProbeInfo.inputs`` under its name, all with the same number of rows. The reply holds
    ``output/<name>``, rows first.

    Attributes:
        source: The agent's stream.
    """

    kind: ClassVar[str] = "probe"

    source: StreamId


class Watch(Message, frozen=True, kw_only=True, eq=False):
    """Request to the agent: show another of the environments that share its stream.

    Attributes:
        source: The agent's stream.
        environment: Index of the environment, where ``follow`` is ``none``.
        follow: Choose it now, and again whenever the episode that is shown ends.
    """

    kind: ClassVar[str] = "watch"

    source: StreamId
    environment: Count = 0
    follow: Follow = "none"


class Configure(Message, frozen=True, kw_only=True, eq=False):
    """Request to the explainer: what to follow and how to explain. None leaves a setting as it is.

    Attributes:
        source: Endpoint of the agent's stream to follow.
        method: Method to use; its options return to their defaults unless given.
        options: Options to change.
        target: Target to explain, ``default`` for the method's own, or an action's name.
        budget_ms: Time to spend on one step, in milliseconds.
    """

    kind: ClassVar[str] = "configure"

    source: Text | None = None
    method: Name | None = None
    options: Options | None = None
    target: Name | None = None
    budget_ms: Annotated[float, Meta(ge=1, le=60_000)] | None = None


class Explain(Message, frozen=True, kw_only=True, eq=False):
    """Request to the explainer: explain this step before newer ones.

    Arrays: ``observation…``, ``input/…``, ``output/…`` and ``action_mask`` of the step in question.

    Attributes:
        source: Stream that the step belongs to.
        step: Its number.
        episode: Its episode.
        policy_version: Version of the weights that it was taken with; of a recording, the one that is to explain it.
        policy_stale: They had changed since.
        step_time: When it was taken.
        whole: Explain it to the end, beside newer steps and requests. Else it comes before an agent's steps, and of a
            recording a later request takes its place.
    """

    kind: ClassVar[str] = "explain"

    source: StreamId
    step: Count
    episode: Count = 0
    policy_version: Count = 0
    policy_stale: bool = False
    step_time: float = 0.0
    whole: bool = False


class Evaluate(Message, frozen=True, kw_only=True, eq=False):
    """Request to the explainer of a recording: compute the policy's outputs for these steps with these versions.

    Arrays: ``step`` int64 (k,), the steps' numbers.
    """

    kind: ClassVar[str] = "evaluate"

    source: StreamId
    policy_versions: Annotated[tuple[Count, ...], Meta(max_length=16)]


class Reply(Message, frozen=True, kw_only=True, eq=False):
    """Answer to a request: ``request`` is the ``seq`` of the request. That to a ``probe`` holds the outputs."""

    kind: ClassVar[str] = "reply"

    request: Count
    ok: bool = True
    problem: Text | None = None


class Index(Message, frozen=True, kw_only=True, eq=False):
    """Where messages of a recording lie and what they say in short; only in recordings (SPEC section 13).

    Arrays, in groups by kind: ``<kind>/chunk`` and ``<kind>/offset`` uint64 (k,), fields of these messages as
    ``<kind>/<field>`` (k,), and as ``array/<name>`` (k, …) those arrays of steps that are small and always alike.
    """

    kind: ClassVar[str] = "index"


#: Every kind there is: wire name to type.
KINDS: dict[str, type[Message]] = {
    cls.kind: cls
    for cls in (
        Hello, Step, EpisodeEnd, PolicyGraph, Weights, SaliencyMap, Outputs, Explainer, Environments, Heartbeat, Bye,
        Ping, Resend, Probe, Watch, Configure, Explain, Evaluate, Reply, Index,
    )
}  # fmt: skip
