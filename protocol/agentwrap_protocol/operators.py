"""The operators that a policy graph may use (SPEC section 6): pure functions, and nothing else.

Named as PyTorch names them. They are the operators that PyTorch tags as *core*, those left out that draw random
numbers, change an argument, look at uninitialised memory or at raw storage, have an output whose shape depends on
values, or serve training alone. Whoever writes a graph refuses what is not here, and so does whoever runs one.
"""

from __future__ import annotations

_CORE = """
    abs.default acos.default acosh.default add.Scalar add.Tensor asin.default asinh.default atan.default atan2.default
    atanh.default bitwise_and.Scalar bitwise_and.Tensor bitwise_not.default bitwise_or.Scalar bitwise_or.Tensor
    bitwise_xor.Scalar bitwise_xor.Tensor ceil.default clamp.Tensor clamp.default cos.default cosh.default div.Scalar
    div.Scalar_mode div.Tensor div.Tensor_mode elu.default eq.Scalar eq.Tensor erf.default exp.default expm1.default
    floor.default fmod.Scalar fmod.Tensor ge.Scalar ge.Tensor gelu.default gt.Scalar gt.Tensor hardtanh.default
    isinf.default isnan.default le.Scalar le.Tensor leaky_relu.default log.default log10.default log1p.default
    log2.default logical_and.default logical_not.default logical_or.default logical_xor.default lt.Scalar lt.Tensor
    maximum.default minimum.default mul.Scalar mul.Tensor ne.Scalar ne.Tensor neg.default pow.Scalar pow.Tensor_Scalar
    pow.Tensor_Tensor reciprocal.default relu.default remainder.Scalar remainder.Tensor round.default rsqrt.default
    sigmoid.default sign.default sin.default sinh.default sqrt.default sub.Scalar sub.Tensor tan.default tanh.default
    trunc.default where.self

    _log_softmax.default _softmax.default amax.default amin.default any.default any.dim any.dims argmax.default
    argmin.default cumsum.default max.dim mean.default mean.dim min.dim prod.default prod.dim_int sort.default
    sum.dim_IntList topk.default var.correction var.dim

    _adaptive_avg_pool2d.default _adaptive_avg_pool3d.default _native_batch_norm_legit.no_stats
    _native_batch_norm_legit_no_training.default adaptive_avg_pool1d.default addmm.default avg_pool1d.default
    avg_pool2d.default avg_pool3d.default bmm.default convolution.default embedding.default
    max_pool2d_with_indices.default max_pool3d_with_indices.default mm.default native_group_norm.default
    native_layer_norm.default upsample_bilinear2d.vec upsample_nearest2d.vec

    alias.default cat.default clone.default constant_pad_nd.default copy.default diagonal.default expand.default
    fill.Scalar flip.default gather.default index.Tensor index_put.default index_select.default permute.default
    reflection_pad1d.default reflection_pad2d.default reflection_pad3d.default repeat.default replication_pad2d.default
    replication_pad3d.default scatter.src scatter.value scatter_add.default select.int select_scatter.default
    slice.Tensor slice_scatter.default split_with_sizes.default squeeze.dim squeeze.dims unsqueeze.default view.default

    _to_copy.default arange.start_step full.default full_like.default scalar_tensor.default
"""

# not tagged core, yet what PyTorch 2.13 leaves of common layers after decomposition
_BEYOND_CORE = """
    linalg_vector_norm.default
    adaptive_max_pool2d.default
"""  # the first: F.normalize, Tensor.norm, weight_norm; the second: AdaptiveMaxPool2d

#: Operators on tensors, e.g. ``aten.convolution.default``.
TENSOR_OPERATORS = frozenset(f"aten.{name}" for name in (_CORE + _BEYOND_CORE).split())

#: Helpers that compute lengths of axes from other lengths, and the one that picks a result of several.
SIZE_OPERATORS = frozenset(
    {
        "aten.sym_size.int",  # (tensor, axis): length of an axis
        "size.add",
        "size.sub",
        "size.mul",
        "size.floordiv",
        "size.mod",
        "size.max",
        "size.min",
        "getitem",  # (results, index): one result of an operator that gives several
    }
)

OPERATORS = TENSOR_OPERATORS | SIZE_OPERATORS
