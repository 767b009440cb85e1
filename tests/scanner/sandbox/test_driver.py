"""The driver is asked once, and whatever it answers is taken as it is."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from scanner.sandbox import driver
from scanner.sandbox.driver import Answer


def library(*names: bytes, error: int = 0) -> SimpleNamespace:
    """Return NVIDIA's driver with cards of these names, or an error when it is started."""
    return SimpleNamespace(
        cuInit=lambda _flags: error,
        cuDeviceGetCount=lambda count: setattr(count._obj, "value", len(names)),
        cuDeviceGetName=lambda name, _size, number: setattr(name, "value", names[number]),
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (library(b"NVIDIA H100", b"second"), Answer(0, ("NVIDIA H100", "second"))),
        (library(), Answer(0, ())),
        (library(error=304), Answer(304, ())),
        (object(), Answer(0, ())),
    ],
)
def test_the_driver_is_asked_for_its_devices(
    found: object, expected: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: found)
    monkeypatch.setattr(sys, "platform", "linux")
    driver.start.cache_clear()
    try:
        assert driver.start() == expected
    finally:
        driver.start.cache_clear()


def test_a_system_without_a_driver_has_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    driver.start.cache_clear()
    try:
        assert driver.start() == Answer(0, ())
    finally:
        driver.start.cache_clear()
