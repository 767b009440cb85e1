"""An endpoint's function gets its request as its own annotation says, and answers in JSON."""

from typing import Any

import pytest

from scanner.limits import Limits
from scanner.sandbox.endpoint import Endpoint, Progress, Step, carry_out
from scanner.values import to_json


def double(limits: Limits, progress: Progress) -> tuple[Limits, ...]:
    progress(Step(done=1, total=2))
    return (limits, limits)


DOUBLE: Endpoint[Limits, tuple[Limits, ...]] = Endpoint(
    function="anywhere:double", request=Limits, answer=tuple[Limits, ...]
)


def test_values_go_in_and_come_out() -> None:
    seen: list[Step] = []
    limits = Limits(nodes=7)
    answer = carry_out(double, to_json(limits), seen.append)
    assert answer == [to_json(limits)] * 2
    assert DOUBLE.read(answer) == (limits, limits)
    assert seen == [Step(done=1, total=2)]


@pytest.mark.parametrize("request_", [None, {"nodes": 0}, {"other": 1}], ids=repr)
def test_a_request_of_another_type_does_not_reach_the_function(request_: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        carry_out(double, request_, lambda _: None)


@pytest.mark.parametrize("answer", [None, 1, [1], [None], {"nodes": 1}], ids=repr)
def test_an_answer_of_another_type_is_refused(answer: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        DOUBLE.read(answer)
