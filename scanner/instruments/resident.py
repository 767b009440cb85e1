"""A search's state stays on the device: one graph's outputs are its next inputs.

A step reads one set of buffers and writes another, and the next step goes the other way. Nothing is
allocated between two steps and nothing comes back to the host until it is asked for. Sizes and
addresses never change, so that on CUDA each of the two ways is captured once as a CUDA graph and
replayed; where ONNX Runtime cannot capture a graph (an operator that runs on the CPU, control flow)
its kernels are started one by one as ever.

On the CPU the same code runs on the CPU's own buffers, which is how it is tested.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from scanner.errors import DeviceError, UnsupportedModelError, WorkerLimitError
from scanner.graph.gradient.step_graphs import Place
from scanner.instruments import runtime
from scanner.instruments.runtime import Buffer
from scanner.settings import Device

Array = npt.NDArray[Any]


class Seat:
    """Buffers of one search at a time, twice for what a step changes.

    Args:
        session: The step graph.
        places: Its inputs.
        shared: Buffers that all seats have in common.
        number: Of this seat, from 0.
    """

    def __init__(
        self,
        session: runtime.Session,
        places: Mapping[str, Place],
        shared: Mapping[str, Buffer],
        number: int,
    ) -> None:
        self.occupant: object = None
        self._session, self._way = session, 0
        own = {name: place for name, place in places.items() if name not in shared}
        self.state = [name for name, place in own.items() if place.written]
        first = {name: session.buffer(p.shape, p.dtype) for name, p in own.items()}
        others = {name: session.buffer(own[name].shape, own[name].dtype) for name in self.state}
        second = {**first, **others}
        self._sets = (first, second)
        self._bindings = [
            session.binding(
                {place.read: {**read, **shared}[name] for name, place in places.items()},
                {p.written: written[name] for name, p in places.items() if p.written},
            )
            for read, written in ((first, second), (second, first))
        ]
        self._graphs = (2 * number + 1, 2 * number + 2)

    def step(self) -> None:
        """Take one step; nothing comes back.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on it.
        """
        self._session.run_bound(self._bindings[self._way], self._graphs[self._way])
        self._way = 1 - self._way

    def read(self, name: str) -> Array:
        """Return a part of the state."""
        return self._sets[self._way][name].read()

    def write(self, name: str, array: Array) -> None:
        """Set a part of the state, or of what stays as it is."""
        self._sets[self._way][name].write(array)


class Bench:
    """A step graph in the memory of a device, with seats for searches.

    Args:
        session: The graph.
        places: Its inputs by the names that the search knows them by.
        shared: What stays as it is and is the same for all searches, by name.
        seats: How many searches may be there at a time.
    """

    def __init__(
        self,
        session: runtime.Session,
        places: Mapping[str, Place],
        shared: Mapping[str, Array],
        seats: int,
    ) -> None:
        self.session = session
        held = {name: session.buffer(places[name].shape, places[name].dtype) for name in shared}
        for name, array in shared.items():
            held[name].write(array)
        self.seats = [Seat(session, places, held, number) for number in range(seats)]


def opened(
    data: bytes,
    places: Mapping[str, Place],
    shared: Mapping[str, Array],
    seats: int,
    how: tuple[Device, int],
) -> Bench:
    """Return a step graph on a device, captured where that is possible.

    Args:
        data: The graph's bytes.
        places: As in `Bench`.
        shared: As in `Bench`.
        seats: As in `Bench`.
        how: The device, and the threads.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses the graph, or fails on it.
        WorkerLimitError: It needs more memory than there is.
    """

    def load(*, captured: bool) -> Bench:
        session = runtime.open_session(data, *how, captured=captured)
        return _tried(Bench(session, places, shared, seats))

    return _captured_or_not(load, runtime.resolve_device(how[0]))


def _captured_or_not(load: Callable[..., Bench], device: Device) -> Bench:
    """Return what was captured, or, where that fails, what was not."""
    if device is Device.CPU:
        return load(captured=False)
    try:
        return load(captured=True)
    except (DeviceError, UnsupportedModelError, WorkerLimitError):
        return load(captured=False)


def _tried(bench: Bench) -> Bench:
    """Return a bench of which each seat has gone both ways, so that what fails does so at once.

    What the buffers hold by then nobody reads: a search that sits down writes its own.
    """
    for seat in bench.seats:
        seat.step()
        seat.step()
    return bench
