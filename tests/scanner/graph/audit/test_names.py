"""Names that exporters do not write, and descriptions of what there is not."""

import time
from collections.abc import Callable, Iterator

import onnx
import pytest
from models import plain
from onnx import TensorProto, helper

from scanner.graph.audit.names import OddNames, strays, unused_domains
from scanner.graph.audit.places import places
from scanner.modelfile.nested import Contents
from scanner.results import Observation


def told(change: Callable[[onnx.ModelProto], None]) -> Iterator[Observation]:
    model = plain()
    change(model)
    odd = OddNames()
    for place in places(Contents(model)):
        if isinstance(place.held, str):
            odd.look(place, place.held)
    yield from odd.told()
    yield from strays(model.graph)


def _long_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "n" * 2000


def _long_comment(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].doc_string = "prose " * 400


def _line_break(model: onnx.ModelProto) -> None:
    model.producer_name = "pytorch\nrm"


def _stray(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info("elsewhere", TensorProto.FLOAT, [1])
    model.graph.value_info.append(value)


def _licence(model: onnx.ModelProto) -> None:
    model.doc_string = model.graph.node[0].doc_string = "A licence,\nof some length.\n" * 200
    model.metadata_props.add(key="licence", value="A licence,\nof some length.\n" * 200)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda _model: None, []),
        (_licence, []),
        (_long_name, ["long-text"]),
        (_long_comment, ["long-text"]),
        (_line_break, ["control-characters"]),
        (_stray, ["stray-values"]),
    ],
)
def test_it_is_told(change: Callable[[onnx.ModelProto], None], codes: list[str]) -> None:
    assert [o.code for o in told(change)] == codes


def test_many_operator_sets_take_no_long_time() -> None:
    imported = [f"a.b{number}" for number in range(20_000)]
    before = time.process_time()
    assert list(unused_domains(imported, frozenset(imported))) == []
    assert time.process_time() - before < 2
