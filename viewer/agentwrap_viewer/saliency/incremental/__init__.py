"""Evaluates a policy graph under many masks of one image, computing only what each mask changes.

A mask changes a part of the image, and each layer of a convolutional network lets that part grow a little. What lies
outside is the same as without the mask and is computed once, for all masks together: incremental view maintenance, as
Nakandala, Kumar, Papakonstantinou do it for occlusion (SIGMOD 2019, "Incremental and Approximate Inference for Faster
Occlusion-based Deep CNN Explanations"). Two things go further here. The first layer is linear, so that it sees mask and
image apart: what one input pixel adds to an output pixel is computed once for all masks, and no perturbed image is ever
built. And windows are not cut to one size for all masks, but to as many sizes as pay.

``geometry`` says where maps differ, ``values`` what is known of a value before it is computed; ``image``, ``maps``,
``patches`` and ``flat`` hold the rules for operators, ``plan`` applies them to a graph, ``evaluator`` keeps plans;
``changes`` multiplies what differs in bfloat16, where that is asked for.
"""

from .changes import refusal
from .evaluator import Incremental

__all__ = ["Incremental", "refusal"]
