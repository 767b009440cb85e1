"""Each endpoint exists in the child, takes what it declares and answers what it declares."""

import importlib
import json
import subprocess
import sys
import types
import typing

import pytest
from examples import identity

from scanner import protocol
from scanner.protocol import Job, Layer, LayerList, Source
from scanner.sandbox.endpoint import Endpoint, Progress
from scanner.settings import Device, Noise, Settings
from scanner.values import from_json, to_json

ENDPOINTS = {name: e for name, e in vars(protocol).items() if isinstance(e, Endpoint)}


def test_these_are_the_endpoints() -> None:
    assert set(ENDPOINTS) == {
        *("PREPARE", "IDENTIFY", "EXAMINE", "COMPARE"),
        *("CHECK", "PLAN", "DRAW", "LAYERS", "RULES", "DIAGNOSE", "REPAIR", "HAND_OVER"),
        *("READ_CLEAN", "READ_PART", "READ_HANDED", "SHOW_INPUT"),
    }


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_function_of_an_endpoint_has_the_types_that_it_declares(name: str) -> None:
    endpoint = ENDPOINTS[name]
    module, function = endpoint.function.split(":")
    found = getattr(importlib.import_module(module), function)
    assert isinstance(found, types.FunctionType)
    *given, answer = typing.get_type_hints(found).items()
    assert [kind for _, kind in given] == [endpoint.request, Progress]
    assert answer == ("return", endpoint.answer)


def test_the_functions_stay_out_of_the_callers_process() -> None:
    code = "import sys, scanner.pipeline; print('scanner.examine' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


def test_an_answer_survives_the_pipe() -> None:
    layer = Layer(
        value="v", operator="Relu", node="", position=3, quantisation=(), shape=("N", 4, 8, 8)
    )
    other = Layer(value="w", operator="SiLU", node="n", position=4, quantisation=("s",), shape=None)
    answer = LayerList(model=identity("m"), layers=(layer, other))
    assert protocol.LAYERS.read(json.loads(json.dumps(to_json(answer)))) == answer


def test_a_job_survives_the_pipe() -> None:
    settings = Settings(
        noise=Noise.GAUSSIAN,
        input_range=(-1, 1),
        input_shape=(3, 2, 2),
        device=Device.CPU,
        detectors=("x",),
    )
    job = Job(
        model=Source(name="a", path="/a"),
        references=(),
        records=(),
        settings=settings,
    )
    assert from_json(Job, json.loads(json.dumps(to_json(job)))) == job
