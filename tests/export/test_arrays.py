import numpy as np
import torch

from agentwrap_export.arrays import tensor_to_array


def test_tensors_of_all_kinds():
    assert tensor_to_array(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert tensor_to_array(torch.ones(2, dtype=torch.float16)).dtype == np.float16
    assert tensor_to_array(torch.ones((), requires_grad=True)).shape == ()
    assert tensor_to_array(torch.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]
