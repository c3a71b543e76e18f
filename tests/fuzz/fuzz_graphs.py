"""Graphs that no speechgru model has, with the right hash in the header."""

import json
import random
from collections.abc import Callable

import onnx
from fuzz_mutations import mutated_bytes
from onnx import TensorProto, helper

from speechgru.modelfile.onnx import with_header


def mutated_graph(rng: random.Random, content: bytes) -> bytes:
    """An exported model, whose graph was changed in one to three places."""
    model = onnx.load_from_string(content)
    header = json.loads(model.metadata_props[0].value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHANGES)(rng, model.graph)
    changed = model.SerializeToString()
    if rng.random() < 0.3:
        changed = mutated_bytes(rng, changed)
    try:
        return with_header(changed, header)
    except ValueError:  # no protobuf message any more
        return changed


def _operator(rng: random.Random, graph: onnx.GraphProto) -> None:
    _node(rng, graph).op_type = rng.choice(_OPERATORS)


def _rewire(rng: random.Random, graph: onnx.GraphProto) -> None:
    """An input of a node comes from elsewhere, perhaps from further on."""
    node = _node(rng, graph)
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "x"])


def _drop(rng: random.Random, graph: onnx.GraphProto) -> None:
    nodes = graph.node
    if nodes:
        del nodes[rng.randrange(len(nodes))]


def _attribute(rng: random.Random, graph: onnx.GraphProto) -> None:
    """A number of an attribute, or an attribute of another type."""
    found = [value for node in graph.node for value in node.attribute]
    if not found:
        return
    value = rng.choice(found)
    if value.ints:
        value.ints[rng.randrange(len(value.ints))] = rng.choice(_INTEGERS)
    elif rng.random() < 0.7:
        value.i = rng.choice(_INTEGERS)
    else:
        value.CopyFrom(helper.make_attribute(value.name, rng.choice(_VALUES)))


def _shape(rng: random.Random, graph: onnx.GraphProto) -> None:
    """A size of a weight, an input or an output."""
    if rng.random() < 0.5 and graph.initializer:
        dims = rng.choice(graph.initializer).dims
        if dims:
            dims[rng.randrange(len(dims))] = rng.choice(_INTEGERS)
        else:
            dims.append(rng.choice(_INTEGERS))
        return
    dims = rng.choice([*graph.input, *graph.output]).type.tensor_type.shape.dim
    if dims:
        dims[rng.randrange(len(dims))].dim_value = rng.choice(_INTEGERS)


def _type(rng: random.Random, graph: onnx.GraphProto) -> None:
    values = [*graph.input, *graph.output]
    rng.choice(values).type.tensor_type.elem_type = rng.randrange(0, 20)


def _weights(rng: random.Random, graph: onnx.GraphProto) -> None:
    """Sizes among the weights are integers; other weights become NaN or huge."""
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    if tensor.data_type == TensorProto.INT64:
        count = max(1, len(tensor.raw_data) // 8)
        numbers = [rng.choice(_INTEGERS) for _ in range(count)]
        tensor.raw_data = b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)
    else:
        tensor.raw_data = rng.choice((b"\xff", b"\x7f\x00", b"")) * len(tensor.raw_data)


def _constant(rng: random.Random, graph: onnx.GraphProto) -> None:
    """A tensor of any size, which the file does not hold, instead of a node's input."""
    name = f"constant{len(graph.node)}"
    size = [rng.choice(_INTEGERS) for _ in range(rng.randint(1, 3))]
    graph.initializer.append(
        helper.make_tensor(f"{name}-size", TensorProto.INT64, [len(size)], size)
    )
    node = _node(rng, graph)
    graph.node.insert(0, helper.make_node("ConstantOfShape", [f"{name}-size"], [name]))
    if node.input:
        node.input[rng.randrange(len(node.input))] = name


def _elsewhere(rng: random.Random, graph: onnx.GraphProto) -> None:
    """Weights in another file, a device or a pipe."""
    if graph.initializer:
        tensor = rng.choice(graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("/dev/zero", "../x", "")))


def _subgraph(rng: random.Random, graph: onnx.GraphProto) -> None:
    """A branch, a loop or a scan with a copy of some nodes."""
    inner = helper.make_graph(list(graph.node[:3]), "inner", [], list(graph.output[:1]))
    kind = rng.choice(("If", "Loop", "Scan", "SequenceMap"))
    names = ["then_branch", "else_branch"] if kind == "If" else ["body"]
    node = helper.make_node(kind, [rng.choice(graph.input).name], ["subgraph"])
    node.attribute.extend(helper.make_attribute(name, inner) for name in names)
    if kind == "Scan":
        node.attribute.append(helper.make_attribute("num_scan_inputs", rng.choice(_INTEGERS)))
    graph.node.insert(rng.randint(0, len(graph.node)), node)


def _name(rng: random.Random, graph: onnx.GraphProto) -> None:
    rng.choice([*graph.input, *graph.output]).name = rng.choice(("", "\x1b[2J", "x" * 10_000, "é"))


def _node(rng: random.Random, graph: onnx.GraphProto) -> onnx.NodeProto:
    return rng.choice(graph.node) if graph.node else onnx.NodeProto()


_CHANGES: tuple[Callable[[random.Random, onnx.GraphProto], None], ...] = (
    *(_operator, _rewire, _drop, _attribute, _shape, _type, _weights, _constant, _elsewhere),
    *(_subgraph, _name),
)
_INTEGERS = (0, 1, -1, 2, 7, 100, 10_000, 10**6, 10**9, 2**31 - 1, 2**31, 2**62, -(2**63))
_VALUES = (0, 2**62, 1e30, "text", [2**40] * 4, [0.5], helper.make_tensor("t", 1, [1], [1.0]))
_OPERATORS = ("Loop", "Tile", "Expand", "Range", "MatMul", "Conv", "GRU", "Reshape", "Einsum",
              "Pad", "Concat", "Identity", "RandomNormal", "NonZero", "Cast", "", "\x1b[2J",
              "Resize", "OneHot", "Gather", "Split", "StringConcat", "DFT", "STFT")  # fmt: skip
