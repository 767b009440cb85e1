"""Functions are counted as if they were expanded, and none is."""

import models
import pytest
from hostile import attacks

from scanner.errors import UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.expansion import Expansion, check_nodes


def test_nodes_are_those_that_functions_make() -> None:
    bomb = attacks.function_bomb(8)
    Expansion(bomb, Limits()).check()
    with pytest.raises(UnsafeModelError, match="its functions expanded"):
        Expansion(bomb, Limits(nodes=2**8 - 1)).check()
    Expansion(models.function_relu(), Limits(nodes=20)).check()


def test_a_chain_of_calls_is_as_deep_wherever_it_is_met_first() -> None:
    for chain in (attacks.function_chain(40), attacks.function_chain_called_from_its_end(40)):
        Expansion(chain, Limits(depth=45)).check()
        with pytest.raises(UnsafeModelError, match="raise the setting `depth`"):
            Expansion(chain, Limits(depth=35)).check()


def test_a_limit_is_the_last_number_that_passes() -> None:
    check_nodes(5, Limits(nodes=5))
    with pytest.raises(UnsafeModelError, match="raise the setting `nodes`"):
        check_nodes(6, Limits(nodes=5))
