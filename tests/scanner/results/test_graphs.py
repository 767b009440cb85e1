"""A canonical graph reads only what is made before."""

import pytest

from scanner.results import CanonicalGraph, CanonicalNode
from scanner.values import UnfitError, from_json, to_json


def graph(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> CanonicalGraph:
    node = CanonicalNode(
        operator="Relu", name="relu", inputs=inputs, outputs=1, attributes={}, numbers={}
    )
    return CanonicalGraph(
        fingerprint="0" * 16, inputs=("N,3",), nodes=(node,), outputs=outputs, habits={}
    )


def test_it_survives_json() -> None:
    whole = graph((0,), (1,))
    assert from_json(CanonicalGraph, to_json(whole)) == whole


@pytest.mark.parametrize(("inputs", "outputs"), [((1,), (1,)), ((0,), (2,))])
def test_what_is_not_there_cannot_be_read(
    inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"made after it|nothing makes"):
        graph(inputs, outputs)
    data = to_json(graph((0,), (1,)))
    data["outputs"] = [7]
    with pytest.raises(UnfitError, match="nothing makes"):
        from_json(CanonicalGraph, data)
