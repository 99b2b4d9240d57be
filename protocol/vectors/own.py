"""The messages whose bytes lie in ``messages/``: each kind, and every type of space, argument and element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agentwrap_protocol import graph as g
from agentwrap_protocol import messages as m
from agentwrap_protocol import spaces

STREAM = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
TIME = 1735689600.25


def messages() -> dict[str, tuple[str, m.Message]]:
    """Return name → (description, message): at least one of each kind."""
    image = spaces.Box(shape=(2, 3), dtype="uint8", low=0.0, high=255.0)
    unbounded = spaces.Box(shape=(4,), dtype="float32", low=-math.inf, high=math.inf)
    every_space = spaces.Dict(
        spaces={
            "box": unbounded,
            "discrete": spaces.Discrete(n=3, start=-1),
            "multi_discrete": spaces.MultiDiscrete(counts=(2, 5)),
            "multi_binary": spaces.MultiBinary(shape=(8,)),
            "tuple": spaces.Tuple(spaces=(image, spaces.Other(text="Graph(...)"))),
        }
    )
    every_dtype = {
        "action": np.array(2, "<i8"),
        "frame": np.arange(2 * 2 * 3, dtype="|u1").reshape(2, 2, 3),
        "input/hidden": np.array([[0.5, -0.5]], "<f4"),
        "observation": np.array([[0, 1, 2], [253, 254, 255]], "|u1"),
        "output/layer/b1": np.array([True, False]),
        "output/layer/i1": np.array([-128, 127], "|i1"),
        "output/layer/u2": np.array([0, 65535], "<u2"),
        "output/layer/i2": np.array([-32768, 32767], "<i2"),
        "output/layer/u4": np.array([4294967295], "<u4"),
        "output/layer/i4": np.array([-2147483648], "<i4"),
        "output/layer/u8": np.array([2**64 - 1], "<u8"),
        "output/layer/f2": np.array([1.5, 65504.0], "<f2"),
        "output/layer/f8": np.array([0.1, math.inf, -math.inf, math.nan], "<f8"),
        "output/layer/empty": np.zeros((0, 3), "<f4"),
        "output/value": np.array(-1.25, "<f4"),
        "rewards": np.array([0.0, 1.0], "<f4"),
    }
    common: dict[str, Any] = {"stream": STREAM, "time": TIME}
    counters: dict[str, Any] = {"step": 70000, "episode": 3, "episode_step": 255, "episode_return": 12.5}
    explained: dict[str, Any] = {"source": STREAM, "step": 70000, "episode": 3, "policy_version": 2, "step_time": TIME}
    option = m.OptionInfo(name="sigma", default=5.0, doc="Width of the blur, in pixels.", minimum=0.5, maximum=20.0)
    return {
        "hello": (
            "An agent that plays from pictures, after two episodes.",
            m.Hello(
                **common,
                name="Enduro",
                env_id="ALE/Enduro-v5",
                software={"agentwrap": "0.1.0"},
                observation_space=image,
                action_space=spaces.Discrete(n=2),
                action_meanings=("NOOP", "FIRE"),
                frame="render",
                fps=30.0,
                control="tcp://127.0.0.1:5591",
                policy=m.PolicyInfo(
                    type="NatureCNN",
                    parameters=42,
                    outputs=("logits", "value"),
                    graph="exported",
                    distribution=m.DistributionInfo(kind="categorical"),
                ),
                arrays={
                    "episodes/number": np.array([0, 1], "<i8"),
                    "episodes/return": np.array([10.0, -2.5], "<f8"),
                    "episodes/length": np.array([300, 512], "<i8"),
                },
            ),
        ),
        "hello_every_space": (
            "Every type of space, infinite bounds, and characters beyond ASCII.",
            m.Hello(
                **common,
                seq=1,
                name="Schrödinger 🐈",
                env_id="Every-v0",
                observation_space=every_space,
                action_space=unbounded,
                feature_names=("x", "ẋ", "θ", "θ̇"),
                policy=m.PolicyInfo(
                    type="Policy", graph="failed", problem="aten.nonzero.default: shape depends on data"
                ),
            ),
        ),
        "hello_probe": (
            "An agent whose policy is no graph and can be asked all the same.",
            m.Hello(
                **common,
                seq=2,
                name="CartPole",
                env_id="CartPole-v1",
                observation_space=unbounded,
                action_space=spaces.Discrete(n=2),
                policy=m.PolicyInfo(
                    type="function",
                    outputs=("logits",),
                    graph="failed",
                    problem="a plain function has no computation that could be sent",
                    probe=m.ProbeInfo(
                        inputs=(g.Input(name="observation", array="observation", dtype="float32", shape=(-1, 4)),),
                        outputs=("logits",),
                        rows=512,
                        ms_per_s=50.0,
                    ),
                ),
            ),
        ),
        "hello_bounded": (
            "An agent whose actions are squashed, to bounds that differ between its elements.",
            m.Hello(
                **common,
                seq=3,
                name="Pendulum",
                env_id="Pendulum-v1",
                observation_space=unbounded,
                action_space=spaces.Box(shape=(2,), dtype="float32", low=-2.0, high=2.0),
                policy=m.PolicyInfo(
                    type="SAC",
                    outputs=("mean", "log_std"),
                    distribution=m.DistributionInfo(kind="squashed_gaussian", low=(-2.0, 0.0), high=(2.0, 1.5)),
                ),
            ),
        ),
        "step_masked": (
            "A step of two choices at once, in which one option was masked.",
            m.Step(
                **common,
                **counters,
                seq=10,
                reward=0.0,
                terminated=False,
                truncated=False,
                arrays={
                    "action": np.array([2, 0], "<i8"),
                    "action_mask": np.array([True, False, True, True, True], "|b1"),
                    "output/logits": np.array([0.0, 3.0, 1.0, -1.0, 0.5], "<f4"),
                },
            ),
        ),
        "step": (
            "A step with an array of every element type, a scalar and an empty one.",
            m.Step(
                **common,
                **counters,
                seq=9,
                reward=1.0,
                terminated=False,
                truncated=True,
                policy_version=2,
                policy_stale=True,
                arrays=every_dtype,
            ),
        ),
        "step_bare": (
            "A step with nothing but the required fields filled, and a reward that is not a number.",
            m.Step(
                stream=STREAM,
                step=0,
                episode=0,
                episode_step=0,
                reward=math.nan,
                episode_return=math.nan,
                terminated=False,
                truncated=False,
            ),
        ),
        "episode_end": (
            "The end of an episode.",
            m.EpisodeEnd(
                **common,
                seq=3,
                episode=3,
                step=70000,
                length=256,
                episode_return=12.5,
                seconds=4.25,
                reason="truncated",
            ),
        ),
        "policy_graph": (
            "A linear layer with a rectifier, shifted by a constant; every type of argument.",
            m.PolicyGraph(**common, graph=graph(), arrays={"constant/c_shift": np.array([0.5, 0.25], "<f4")}),
        ),
        "policy_graph_recurrent": (
            "A sum over time: recurrent state, and a mask that the steps hold.",
            m.PolicyGraph(**common, graph=recurrent_graph()),
        ),
        "weights": (
            "The weights of that graph.",
            m.Weights(
                **common,
                seq=1,
                policy_version=2,
                step=69000,
                arrays={
                    "p_weight": np.arange(6, dtype="<f4").reshape(2, 3) / 8,
                    "p_bias": np.array([-1.0, 1.0], "<f4"),
                },
            ),
        ),
        "saliency_map": (
            "A map that is half refined, for two targets.",
            m.SaliencyMap(
                stream=OTHER,
                seq=17,
                time=TIME,
                **explained,
                method="perturbation",
                options={"sigma": 5.0, "stride": 4},
                targets=("actor", "critic"),
                refined=0.5,
                seconds=0.0125,
                forwards=128,
                replica_max_abs_diff=1e-06,
                arrays={
                    "heatmap/actor": np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]], "<f4"),
                    "grid/actor": np.array([[0.25, 1.0]], "<f4"),
                    "heatmap/critic": np.zeros((2, 3), "<f4"),
                    "grid/critic": np.zeros((1, 2), "<f4"),
                },
            ),
        ),
        "saliency_map_of_entries": (
            "Of a dict observation: a picture explained by the method chosen, a vector by that for vectors.",
            m.SaliencyMap(
                stream=OTHER,
                seq=18,
                time=TIME,
                **explained,
                method="rise",
                entry_methods={"body": "feature_perturbation"},
                entry_scales={"body": "magnitude"},
                scale="relative",
                targets=("actor",),
                refined=1.0,
                seconds=0.25,
                forwards=2064,
                arrays={
                    "heatmap/actor/eye": np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]], "<f4"),
                    "grid/actor/eye": np.array([[0.25, 1.0]], "<f4"),
                    "features/actor/body": np.array([0.5, 0.0, 2.0], "<f4"),
                },
            ),
        ),
        "saliency_map_outputs": (
            "By another version of the policy than the one that made the step, with what that computes for it.",
            m.SaliencyMap(
                stream=OTHER,
                seq=19,
                time=TIME,
                **{**explained, "policy_version": 7},
                method="perturbation",
                targets=("actor",),
                refined=1.0,
                seconds=0.0125,
                forwards=256,
                arrays={
                    "heatmap/actor": np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]], "<f4"),
                    "grid/actor": np.array([[0.25, 1.0]], "<f4"),
                    "output/logits": np.array([0.5, -0.5], "<f4"),
                    "output/value": np.array([2.25], "<f4"),
                },
            ),
        ),
        "saliency_map_of_target": (
            "Of one action, by its index, and of the policy's two choices at once.",
            m.SaliencyMap(
                stream=OTHER,
                seq=20,
                time=TIME,
                **explained,
                method="perturbation",
                target="chosen",
                targets=("chosen", "1"),
                titles={"chosen": "LEFT, 2 (chosen)", "1": "FIRE"},
                refined=1.0,
                seconds=0.25,
                forwards=16,
                arrays={
                    "features/chosen": np.array([0.5, 0.0], "<f4"),
                    "features/1": np.array([0.0, 2.0], "<f4"),
                },
            ),
        ),
        "explainer_targets": (
            "An explainer that offers targets, one of which is in use.",
            m.Explainer(
                stream=OTHER,
                seq=6,
                time=TIME,
                state="ready",
                method="perturbation",
                target="1",
                targets=(
                    m.TargetInfo(name="default", title="actor and critic"),
                    m.TargetInfo(name="choice:0", title="choice 0"),
                    m.TargetInfo(name="1", title="FIRE"),
                ),
            ),
        ),
        "explainer": (
            "An explainer at work.",
            m.Explainer(
                stream=OTHER,
                seq=5,
                time=TIME,
                state="ready",
                source=STREAM,
                policy_version=2,
                methods=(
                    m.MethodInfo(name="perturbation", title="Perturbation", source="Greydanus 2018", options=(option,)),
                ),
                method="perturbation",
                options={"sigma": 5.0},
                budget_ms=50.0,
                maps_per_second=12.5,
                missed=1,
                control="tcp://127.0.0.1:5592",
            ),
        ),
        "environments": (
            "How three environments do that share a stream; the second has not ended an episode.",
            m.Environments(
                **common,
                seq=12,
                shown=2,
                follow="best",
                arrays={
                    "episodes": np.array([3, 0, 5], np.int64),
                    "return": np.array([21.0, np.nan, 200.0]),
                    "running": np.array([4.0, 9.5, 0.0]),
                    "length": np.array([4, 10, 0], np.int64),
                },
            ),
        ),
        "watch": (
            "Request to show another environment.",
            m.Watch(stream=OTHER, seq=6, time=TIME, source=STREAM, environment=2),
        ),
        "heartbeat": (
            "An agent's heartbeat.",
            m.Heartbeat(**common, seq=60, step=70001, episode=3, steps_per_second=812.5, sent=3600, dropped=2),
        ),
        "heartbeat_recording": (
            "The heartbeat of an agent that records and has waited for its disk.",
            m.Heartbeat(**common, seq=61, step=70002, episode=3, sent=3660, recorded=70002, recording_wait=1.5),
        ),
        "bye": ("The end of a stream.", m.Bye(**common, reason="closed")),
        "ping": ("A request; it has no fields of its own.", m.Ping(stream=OTHER, seq=1, time=TIME)),
        "resend": (
            "A request for lost weights.",
            m.Resend(stream=OTHER, seq=2, time=TIME, kinds=("policy_graph", "weights")),
        ),
        "probe": (
            "A request for what the policy computes for two observations.",
            m.Probe(
                stream=OTHER,
                seq=5,
                time=TIME,
                source=STREAM,
                arrays={"observation": np.array([[0.0, 0.5, 1.0, -1.0], [0.25, 0.5, 1.0, -1.0]], "<f4")},
            ),
        ),
        "configure_target": (
            "A request that changes what is explained.",
            m.Configure(stream=OTHER, seq=4, time=TIME, target="choice:1"),
        ),
        "configure": (
            "A request that changes the method and one option and leaves the rest.",
            m.Configure(
                stream=OTHER, seq=3, time=TIME, method="rise", options={"masks": 512, "soft": True, "seed": None}
            ),
        ),
        "explain": (
            "A request to explain one step.",
            m.Explain(
                stream=OTHER,
                seq=4,
                time=TIME,
                **explained,
                policy_stale=True,
                arrays={"observation": every_dtype["observation"], "output/value": every_dtype["output/value"]},
            ),
        ),
        "explain_whole": (
            "A request that a later one does not replace.",
            m.Explain(
                stream=OTHER,
                seq=6,
                time=TIME,
                **explained,
                whole=True,
                arrays={"observation": every_dtype["observation"]},
            ),
        ),
        "evaluate": (
            "A request to compute outputs of two steps with two versions of the policy.",
            m.Evaluate(
                stream=OTHER,
                seq=5,
                time=TIME,
                source=STREAM,
                policy_versions=(1, 2),
                arrays={"step": np.array([70000, 70001], "<i8")},
            ),
        ),
        "outputs": (
            "What one version computes for two steps.",
            m.Outputs(
                stream=OTHER,
                seq=3,
                time=TIME,
                source=STREAM,
                policy_version=1,
                arrays={
                    "step": np.array([70000, 70001], "<i8"),
                    "output/logits": np.array([[0.5, -0.5], [1.0, 2.0]], "<f4"),
                    "output/value": np.array([-1.25, 0.5], "<f4"),
                },
            ),
        ),
        "reply": (
            "An answer that says what was wrong.",
            m.Reply(stream=OTHER, time=TIME, request=3, ok=False, problem="no method 'rise'; there is 'perturbation'"),
        ),
        "reply_probe": (
            "The answer to that: the outputs for each.",
            m.Reply(
                stream=STREAM,
                seq=1,
                time=TIME,
                request=5,
                arrays={"output/logits": np.array([[0.5, -0.5], [0.25, -0.25]], "<f4")},
            ),
        ),
        "index": (
            "Where two steps of a recording lie, and their values.",
            m.Index(
                **common,
                arrays={
                    "step/chunk": np.array([512, 512], "<u8"),
                    "step/offset": np.array([0, 4096], "<u8"),
                    "step/step": np.array([7, 8], "<i8"),
                    "array/output/value": np.array([-1.25, 0.5], "<f4"),
                },
            ),
        ),
    }


def recurrent_graph() -> g.Graph:
    """Return a graph whose state is the sum of the observations so far; a mask empties it before."""
    return g.Graph(
        inputs=(
            g.Input(name="observation", array="observation", dtype="float32", shape=(-1, 3)),
            g.Input(
                name="state", array="input/state", role="state", dtype="float32", shape=(1, -1, 3), next="state/sum"
            ),
            g.Input(name="mask", array="input/mask", role="state", dtype="float32", shape=(-1, 1)),
        ),
        nodes=(
            g.Node(name="rows", op="aten.select.int", args=(g.Ref("state"), 0, 0)),
            g.Node(name="kept", op="aten.mul.Tensor", args=(g.Ref("rows"), g.Ref("mask"))),
            g.Node(name="sum", op="aten.add.Tensor", args=(g.Ref("kept"), g.Ref("observation"))),
            g.Node(name="after", op="aten.unsqueeze.default", args=(g.Ref("sum"), 1)),
        ),
        outputs=(g.Output(name="logits", value=g.Ref("sum")), g.Output(name="state/sum", value=g.Ref("after"))),
    )


def graph() -> g.Graph:
    """Return a graph that uses every type of argument."""
    two = g.List((0, 1))
    return g.Graph(
        inputs=(g.Input(name="observation", array="observation", dtype="float32", shape=(-1, 3)),),
        parameters=(
            g.Tensor(name="p_weight", dtype="float32", shape=(2, 3)),
            g.Tensor(name="p_bias", dtype="float32", shape=(2,)),
        ),
        constants=(g.Tensor(name="c_shift", dtype="float32", shape=(2,)),),
        nodes=(
            g.Node(name="n", op="aten.sym_size.int", args=(g.Ref("observation"), 0)),
            g.Node(
                name="x", op="aten._to_copy.default", args=(g.Ref("observation"),), kwargs={"dtype": g.Dtype("float32")}
            ),
            g.Node(name="t", op="aten.permute.default", args=(g.Ref("p_weight"), g.List((1, 0)))),
            g.Node(name="y", op="aten.addmm.default", args=(g.Ref("p_bias"), g.Ref("x"), g.Ref("t"))),
            g.Node(name="low", op="aten.clamp.default", args=(g.Ref("y"), 0.0, g.Number(math.inf))),
            g.Node(
                name="copy",
                op="aten.clone.default",
                args=(g.Ref("low"),),
                kwargs={"memory_format": g.Enum("memory_format", "contiguous_format")},
            ),
            g.Node(name="shifted", op="aten.add.Tensor", args=(g.Ref("copy"), g.Ref("c_shift")), kwargs={"alpha": 1}),
            g.Node(name="gelu", op="aten.gelu.default", args=(g.Ref("shifted"),), kwargs={"approximate": "none"}),
            g.Node(
                name="sum", op="aten.sum.dim_IntList", args=(g.Ref("gelu"), g.List((1,)), False), kwargs={"dtype": None}
            ),
            g.Node(name="flipped", op="aten.flip.default", args=(g.Ref("gelu"), two)),
        ),
        outputs=(g.Output(name="logits", value=g.Ref("gelu")), g.Output(name="value", value=g.Ref("sum"))),
    )
