"""What inference would list is bounded from above, whatever it can know of a value."""

from typing import Any

import onnx
import pytest
from hostile.long_lists import LISTED
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs, helper

from scanner.modelfile.bounds import FOLLOWED, HIDDEN, MOST_NUMBERS, Bounds


def test_every_operator_that_passes_numbers_on_is_known() -> None:
    """A new version of onnx may follow numbers through more operators."""
    passing = {s.name for s in defs.get_all_schemas_with_history() if _passes(s)}
    assert passing - FOLLOWED == set()


def _passes(schema: Any) -> bool:
    if schema.has_data_propagation_function:
        return True
    expanded = schema.has_function and not schema.has_type_and_shape_inference_function
    return expanded and any(node.op_type in FOLLOWED for node in schema.function_body.node)


@pytest.mark.parametrize("name", LISTED)
def test_a_long_list_is_hidden_where_numbers_are_followed(name: str) -> None:
    model = LISTED[name]()
    assert Bounds(model).unbounded or Bounds(model).excess
    found = Bounds(model, hide=True, follow=True)
    assert found.numbers <= MOST_NUMBERS
    assert any(node.domain == HIDDEN for node in _nodes(model.graph))
    assert not Bounds(model, follow=True).unbounded


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for body in inner for node in _nodes(body))]


def test_a_tile_by_a_row_of_numbers_is_seen() -> None:
    """PyTorch's older exporter writes the repeats of one axis as a OneHot: 1, but for one place."""
    nodes = [
        helper.make_node("OneHot", ["place", "rank", "values"], ["row"]),
        helper.make_node("Reshape", ["row", "minus"], ["repeats"]),
        helper.make_node("Tile", ["image", "repeats"], ["tiled"]),
    ]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8]),
        helper.make_tensor_value_info("values", TensorProto.INT64, [2]),
    ]

    def hidden(rank: int) -> list[bool]:
        lists = {"place": [1], "minus": [-1], "rank": [rank]}
        constants = [
            helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in lists.items()
        ]
        output = helper.make_empty_tensor_value_info("tiled")
        model = helper.make_model(helper.make_graph(nodes, "g", inputs, [output], constants))
        Bounds(model, hide=True)
        return [node.domain == HIDDEN for node in model.graph.node]

    assert hidden(4) == [False, False, False]
    assert hidden(4000) == [False, False, True]


ELEMENTWISE = st.sampled_from(["Add", "Mul", "Max", "Concat", "Sub"])
STEPS = st.lists(st.tuples(ELEMENTWISE, st.integers(0, 9), st.integers(0, 9)), max_size=12)
SHAPES = st.lists(st.lists(st.sampled_from([0, 1, 1, 2, 7]), max_size=2), min_size=1, max_size=4)


@settings(deadline=None)
@given(SHAPES, STEPS, st.integers(0, 15))
@example([[1, 7], [7, 1]], [("Max", 0, 1)], 2)  # a row and a column make a matrix
@example([[7, 0], [7]], [("Concat", 0, 0)], 2)
def test_no_known_list_is_longer_than_its_bound(
    shapes: list[list[int]], steps: list[tuple[str, int, int]], flat: int
) -> None:
    """Any mixture of shapes: a list that inference knows holds no more than the bound says."""
    nodes = [
        helper.make_node("ConstantOfShape", [f"s{i}"], [f"v{i}"]) for i, shape in enumerate(shapes)
    ]
    for kind, one, other in steps:
        names = [f"v{one % len(nodes)}", f"v{other % len(nodes)}"]
        options: dict[str, Any] = {"axis": 0} if kind == "Concat" else {}
        nodes.append(helper.make_node(kind, names, [f"v{len(nodes)}"], **options))
    nodes.append(helper.make_node("Reshape", [f"v{flat % len(nodes)}", "minus"], ["flat"]))
    nodes += [
        helper.make_node("Identity", [node.output[0]], [f"{node.output[0]} again"])
        for node in list(nodes)
    ]
    output = helper.make_empty_tensor_value_info("flat")
    lists = {"minus": [-1], **{f"s{i}": shape for i, shape in enumerate(shapes)}}
    constants = [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in lists.items()]
    graph = helper.make_graph(nodes, "g", [], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    bounds = Bounds(model)
    known = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*known.graph.value_info, *known.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 1 and sizes[0].HasField("dim_value"):
            assert sizes[0].dim_value <= bounds.values[value.name].listed
