"""Graphs that no speechgru model has, with the header of one, are refused before they run."""

import json
from time import monotonic

import onnx
import pytest
from onnx import TensorProto, helper
from refusals import refused

from speechgru.backends.onnx import load_onnx
from speechgru.errors import DataError
from speechgru.modelfile.onnx import with_header


def graph_of(content: bytes, change) -> bytes:
    """The model with another graph and the right hash."""
    model = onnx.load_from_string(content)
    change(model.graph)
    header = json.loads(model.metadata_props[0].value)
    return with_header(model.SerializeToString(), header)


def rename_input(graph):
    graph.input[0].name = "sounds"


def surplus_input(graph):
    graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def no_output(graph):
    del graph.output[1:]


def state_of_any_size(graph):
    graph.input[1].type.tensor_type.shape.dim[1].dim_param = "N"


def huge_state(graph):
    graph.input[1].type.tensor_type.shape.dim[1].dim_value = 2**40


def another_state(graph):
    graph.input[-1].type.tensor_type.shape.dim[1].dim_value = 25


def unknown_operator(graph):
    graph.node[5].op_type = "Nonsense"


def integers(graph):
    graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def no_nodes(graph):
    del graph.node[:]


def weights_elsewhere(graph):
    tensor = next(t for t in graph.initializer if len(t.raw_data) > 1_000)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def weights_of_an_attribute_elsewhere(graph):
    value = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="/dev/zero")
    graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=value))


def endless_loop(graph):
    body = helper.make_graph(
        [helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("before", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("after", TensorProto.BOOL, [])],
    )
    graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    graph.node.append(helper.make_node("Loop", ["", "yes"], [], body=body))


def loop_inside_a_branch(graph):
    inner = helper.make_graph([helper.make_node("Loop", ["", ""], [])], "inner", [], [])
    graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    graph.node.append(helper.make_node("If", ["yes"], [], then_branch=inner, else_branch=inner))


def graphs_within_graphs(graph):
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(10):
        node = helper.make_node("If", ["yes"], [], then_branch=inner)
        inner = helper.make_graph([node], "inner", [], [])
    graph.node.append(node)


def operator_of_another_domain(graph):
    graph.node.append(helper.make_node("Anything", ["samples"], ["x"], domain="com.microsoft"))


def million_nodes(graph):
    graph.node.extend([helper.make_node("Identity", ["samples"], ["x"])] * 30_000)


def huge_constant(graph):
    """100 GB, though the file has ten bytes of it."""
    graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [25 * 10**9]))
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["huge"]))


def sizes_beyond_64_bits(graph):
    """onnxruntime reports what it cannot even count by its default logger, in colour."""
    tensor = next(t for t in graph.initializer if t.data_type == TensorProto.INT64 and t.dims)
    tensor.dims[0] = 2**62


def many_large_constants(graph):
    """None of them alone is too much."""
    for i in range(40):
        graph.initializer.append(helper.make_tensor(f"n{i}", TensorProto.INT64, [1], [10**7 + i]))
        graph.node.insert(0, helper.make_node("ConstantOfShape", [f"n{i}"], [f"large{i}"]))


def doubled_again_and_again(graph):
    last = "samples"
    for i in range(40):
        graph.node.append(helper.make_node("Concat", [last, last], [f"twice{i}"], axis=0))
        last = f"twice{i}"
    use(graph, last)


def hours_of_work(graph):
    """Products of matrices that fit into memory, one after another."""
    for name, size in (("n", [3_000, 3_000]),):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [2], size))
    graph.node.append(helper.make_node("ConstantOfShape", ["n"], ["m"]))
    last = "m"
    for i in range(5_000):
        graph.node.append(helper.make_node("MatMul", ["m", last], [f"product{i}"]))
        last = f"product{i}"
    use(graph, last)


def use(graph, name):
    """Let the output depend on a tensor, by what is always 0."""
    first = graph.output[0].name
    (node,) = (node for node in graph.node if first in node.output)
    node.output[list(node.output).index(first)] = "before"
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [name], ["least"], keepdims=0),
            helper.make_node("Sub", ["least", "least"], ["nothing"]),
            helper.make_node("Add", ["before", "nothing"], [first]),
        ]
    )


@pytest.mark.parametrize(
    "change",
    [
        rename_input,
        surplus_input,
        no_output,
        state_of_any_size,
        huge_state,
        another_state,
        unknown_operator,
        integers,
        no_nodes,
        weights_elsewhere,
        weights_of_an_attribute_elsewhere,
        endless_loop,
        loop_inside_a_branch,
        graphs_within_graphs,
        operator_of_another_domain,
        million_nodes,
        huge_constant,
        sizes_beyond_64_bits,
        many_large_constants,
        doubled_again_and_again,
    ],
    ids=lambda change: change.__name__,
)
def test_other_graphs_are_refused(path, capfd, change):
    path.write_bytes(graph_of(path.read_bytes(), change))
    assert len(refused(path, capfd)) < 300


@pytest.mark.slow
def test_a_graph_that_takes_too_long_is_refused(path):
    path.write_bytes(graph_of(path.read_bytes(), hours_of_work))
    started = monotonic()
    with pytest.raises(DataError, match=r"takes over (10 s|512 MB) for a few steps"):
        load_onnx(path)
    assert monotonic() - started < 20


def test_functions_are_refused(path, capfd):
    model = onnx.load(path)
    model.functions.append(helper.make_function("own", "F", [], [], [], []))
    path.write_bytes(model.SerializeToString())
    assert "functions or training steps" in refused(path, capfd)
