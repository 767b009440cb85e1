"""Stack traces against themselves."""

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
