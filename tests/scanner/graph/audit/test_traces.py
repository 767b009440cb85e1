"""Stack traces against themselves."""

import numpy as np
import pytest
from models import plain

from scanner.graph.audit import traces
from scanner.modelfile.nested import Contents


def told(lines: list[int], text: str = "return self.relu(x)") -> list[str]:
    model = plain()
    for line in lines:
        value = f'File "net.py", line {line}, in forward\n    {text.format(line)}'
        model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=value)
    return [o.code for o in traces.observe(Contents(model))]


def test_one_text_at_many_lines_is_told() -> None:
    assert told(list(range(20, 60))) == ["forged-traces"]


def test_a_program_is_none() -> None:
    assert told(list(range(20, 60)), "x = self.conv{}(x)") == []
    assert told([20, 31, 47] * 20) == []


def codes(*lines: str) -> list[str]:
    model = plain()
    model.graph.node[0].doc_string = "\n".join(lines)
    return [o.code for o in traces.observe(Contents(model))]


@pytest.mark.parametrize(
    "style", ['File "net.py", line {}, in forward', "/lib/net.py({}): forward", "x # net.py:{}:8"]
)
def test_lines_behind_the_end_of_any_file(style: str) -> None:
    assert codes(*(style.format(31_000 + 997 * n) for n in range(8))) == ["odd-traces"]
    assert codes(*(style.format(100 + 9 * n) for n in range(8))) == []


def test_most_lines_of_a_file_in_no_order() -> None:
    lines = np.random.default_rng(1).integers(0, 256, 200).tolist()
    assert codes(*(f"net.py({line}): forward" for line in lines)) == ["odd-traces"]
    assert codes(*(f"net.py({line}): forward" for line in sorted(lines))) == []


def test_blank_lines_take_no_time() -> None:
    assert codes(" \n\t" * 100_000 + "line 1") == []
