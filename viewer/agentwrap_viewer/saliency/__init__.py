"""Saliency maps of reinforcement-learning policies: which parts of an observation the actor and the critic depend on.

::

    from agentwrap_viewer.saliency import explain, refine, methods

    actor, critic = explain(policy, observation, target=("actor", "critic"))
    for saliency in refine(policy, observation, target="actor", budget_ms=16):
        show(saliency.heatmap, saliency.refined)

``Explanation`` is what both are made of: it computes chunk by chunk and can be looked at on the way. A method of your
own is one class, see ``agentwrap_viewer.saliency.method`` and ``….attribution``. Needs torch, numpy and scipy only, and
Captum for methods that take gradients.
"""

from . import (  # noqa: F401  they register themselves
    chosen_action,
    feature_perturbation,
    grad_cam,
    gradients,
    occlusion,
    perturbation,
    rise,
    sarfa,
)
from .api import explain, refine
from .attribution import GradientMethod
from .errors import SaliencyError, Unanswered
from .explanation import DEFAULT_METHODS, Explanation
from .layout import Layout, layout_of
from .maps import SaliencyMap
from .method import MaskMethod, Method, Option, PerturbingMethod, option
from .outputs import Outputs
from .registry import methods, register
from .request import Request
from .temporal import TemporalSaliency, explain_frames, explain_stack

__all__ = [
    "DEFAULT_METHODS",
    "Explanation",
    "GradientMethod",
    "Layout",
    "MaskMethod",
    "Method",
    "Option",
    "Outputs",
    "PerturbingMethod",
    "Request",
    "SaliencyError",
    "SaliencyMap",
    "TemporalSaliency",
    "Unanswered",
    "explain",
    "explain_frames",
    "explain_stack",
    "layout_of",
    "methods",
    "option",
    "refine",
    "register",
]
