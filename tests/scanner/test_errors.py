"""Every error crosses a process boundary unchanged, and is one sentence."""

import pickle

import pytest

from scanner import errors
from scanner.errors import ErrorData, ScannerError, ValueNotFoundError

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ScannerError)]


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not ValueNotFoundError])
def test_round_trip(kind: type[ScannerError]) -> None:
    error = kind("something is wrong", remedy="mend it", node="n")
    again = ScannerError.from_dict(error.to_dict())
    assert type(again) is kind
    assert str(again) == "something is wrong; mend it."
    assert again.details == {"node": "n"}


def test_a_missing_value_names_its_neighbours() -> None:
    error = ValueNotFoundError("conv_1", ["conv1", "pool", "dense"])
    assert str(error).endswith("did you mean 'conv1'?")
    assert type(ScannerError.from_dict(error.to_dict())) is ValueNotFoundError


def test_an_unknown_kind_stays_a_scanner_error() -> None:
    data = ErrorData(type="Strange", problem="p", remedy="r", details={})
    assert type(ScannerError.from_dict(data)) is ScannerError


def test_an_error_crosses_a_process_boundary_as_it_is() -> None:
    error = errors.ValueNotFoundError("activate", ["activated"])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is errors.ValueNotFoundError
    assert (str(again), again.details) == (str(error), error.details)


def test_details_may_bear_any_name() -> None:
    data = ErrorData(type="UsageError", problem="p", remedy="r", details={"problem": 1, "self": 2})
    assert ScannerError.from_dict(data).details == {"problem": 1, "self": 2}
