"""Small feed-forward networks as ONNX, written node by node.

torch's own exporter needs 14 s for its first network and a second for each further one; these graphs are
four kinds of nodes, and need milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Linear = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight (out, in) and bias (out,), as torch has them."""

OPSET = 17
IR_VERSION = 8


def feed_forward(
    layers: Sequence[Linear],
    *,
    input_name: str,
    output_name: str,
    normalise: bool = False,
    residual: bool = False,
    within: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> bytes:
    """Return an ONNX file: linear layers with ReLU between them, float32 (n, in) to (n, out), n free.

    Parameters
    ----------
    normalise
        Whether rows come out with Euclidean length 1 (a zero row stays zero).
    residual
        Whether the input ends with `out` further columns that are added to the last layer's output.
    within
        Lowest and highest value by input column, (in,) each: what is beyond counts as the bound.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []
    columns, width = layers[0][0].shape[1], layers[-1][0].shape[0]
    at = input_name
    if residual:
        constants += [
            numpy_helper.from_array(np.array([place], dtype=np.int64), name)
            for name, place in (("start", 0), ("middle", columns), ("end", columns + width), ("axis", 1))
        ]
        nodes += [
            helper.make_node("Slice", [input_name, "start", "middle", "axis"], ["columns"]),
            helper.make_node("Slice", [input_name, "middle", "end", "axis"], ["added"]),
        ]
        at = "columns"
    if within is not None:
        constants += [
            numpy_helper.from_array(np.ascontiguousarray(bound, dtype=np.float32), name)
            for name, bound in zip(("low", "high"), within, strict=True)
        ]
        nodes += [
            helper.make_node("Max", [at, "low"], ["raised"]),
            helper.make_node("Min", ["raised", "high"], ["within"]),
        ]
        at = "within"
    for number, (weight, bias) in enumerate(layers):
        last = number == len(layers) - 1
        constants += [
            numpy_helper.from_array(np.ascontiguousarray(weight, dtype=np.float32), f"weight{number}"),
            numpy_helper.from_array(np.ascontiguousarray(bias, dtype=np.float32), f"bias{number}"),
        ]
        out = output_name if last and not (normalise or residual) else f"linear{number}"
        nodes.append(helper.make_node("Gemm", [at, f"weight{number}", f"bias{number}"], [out], transB=1))
        at = out
        if not last:
            nodes.append(helper.make_node("Relu", [at], [f"relu{number}"]))
            at = f"relu{number}"
    if residual:
        nodes.append(helper.make_node("Add", [at, "added"], ["sum" if normalise else output_name]))
        at = "sum"
    if normalise:
        constants.append(numpy_helper.from_array(np.array(1e-12, dtype=np.float32), "least"))
        nodes += [
            helper.make_node("ReduceL2", [at], ["length"], axes=[1], keepdims=1),
            helper.make_node("Max", ["length", "least"], ["divisor"]),
            helper.make_node("Div", [at, "divisor"], [output_name]),
        ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "feed_forward",
        [value(input_name, TensorProto.FLOAT, ["n", columns + (width if residual else 0)])],
        [value(output_name, TensorProto.FLOAT, ["n", width])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
