"""A Loop is refused where nothing can end it before too many trips."""

import pytest
from hostile import attacks

from scanner.errors import UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.loops import check_loops


def test_a_loop_that_the_model_ends_itself_passes() -> None:
    model = attacks.endless_loop(2**62)
    model.graph.node[0].attribute[0].g.node[0].op_type = "Not"
    check_loops(model.graph, Limits())
    check_loops(attacks.endless_loop(1000).graph, Limits())


def test_trips_of_nested_loops_multiply() -> None:
    graph = attacks.nested_loops().graph
    check_loops(graph, Limits(trips=10**40))
    with pytest.raises(UnsafeModelError, match="raise the setting `trips`"):
        check_loops(graph, Limits())
