"""Types of inner values, as far as inference tells them."""

import models
from onnx import TensorProto, helper

from scanner.graph.core.shapes import ValueType, value_types


def test_every_value_of_the_plain_network_has_a_type() -> None:
    types = value_types(models.plain())
    assert types["convolved"] == ValueType(TensorProto.FLOAT, ("N", 4, 8, 8))
    assert types["logits"] == ValueType(TensorProto.FLOAT, ("N", 3))


def test_an_open_dimension_without_a_name_is_a_question_mark() -> None:
    model = models.plain(input_shape=(None, 1, 8, 8))
    assert value_types(model)["image"].shape == ("?", 1, 8, 8)


def test_a_value_of_unknown_rank_is_left_out() -> None:
    node = helper.make_node("Strange", ["image"], ["logits"], domain="somewhere")
    model = models.build([node], {}, domains=[helper.make_opsetid("somewhere", 1)])
    assert value_types(model).keys() == {"image"}


def test_where_types_contradict_one_another_the_files_own_are_left() -> None:
    model = models.plain()
    claimed = helper.make_tensor_value_info("activated", TensorProto.INT64, [1])
    model.graph.value_info.append(claimed)
    assert value_types(model)["activated"] == ValueType(TensorProto.INT64, (1,))
