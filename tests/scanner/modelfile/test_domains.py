"""Two names, one operator set; any other name stands for itself."""

import onnx
import pytest

from scanner.modelfile.domains import STANDARD_DOMAINS, canonical


@pytest.mark.parametrize("domain", STANDARD_DOMAINS)
def test_the_standard_operators_have_two_names(domain: str) -> None:
    assert canonical(domain) == onnx.defs.ONNX_DOMAIN == ""


def test_another_domain_keeps_its_name() -> None:
    assert canonical("ai.onnx.ml") == "ai.onnx.ml"
