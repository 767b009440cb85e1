"""What a gradient step of a model costs here: measured with a few steps, not guessed.

The time of a small model's step is mostly that of its calls, so as many images are timed together
as a glance allows. Its memory is seen too (`scanner.instruments.memory`); where the system does not
tell, nothing is predicted, and a step that fails for want of memory is taken in halves
(`scanner.instruments.differentiable`).
"""

import time
from collections.abc import Callable

from scanner.instruments import memory, runtime
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.settings import Device, Settings
from scanner.values import frozen

_GLANCE = 0.25  # seconds that the timed step may take, where one image takes less
_PROBED = 4  # images of a large model's step that is timed, and whose memory is seen

# The processor's clock may tick no more than a hundred times a second.
_TICKS, _REPEATS = 0.03, 8


@frozen
class Pace:
    """What a gradient step costs.

    Attributes:
        seconds: For each of its images: of the processor, or of the clock on CUDA.
        lag: Seconds on the clock for each of these; None where steps are too short to tell.
        need: What it takes of memory; None where that is not known.
        most: Images that may be in one run, by the memory that is allowed; None for any number.
    """

    seconds: float
    lag: float | None = None
    need: memory.Need | None = None
    most: int | None = None

    def expected(self, images: int) -> int | None:
        """Return the most bytes that the process holds with so many images in a step."""
        if self.need is None:
            return None
        return self.need.expected(min(images, self.most or images))


def threads(settings: Settings) -> int:
    """Return by how much a search's clock is faster than the wall's: each thread has its own."""
    on_cpu = runtime.resolve_device(settings.device) is Device.CPU
    return max(1, settings.threads) if on_cpu else 1


def clock(settings: Settings) -> Callable[[], float]:
    """Return the clock of a search.

    On the CPU it is processor time, so that a busy machine does not change a result; on CUDA, the
    wall's.
    """
    on_cpu = runtime.resolve_device(settings.device) is Device.CPU
    return time.process_time if on_cpu else time.monotonic


def measured(
    model: Differentiable, images: Floats, settings: Settings, *, told: bool = False
) -> Pace:
    """Time a step of one image, then one of more, and see what memory that takes.

    Args:
        model: The classifier.
        images: Those of a search, (n, *shape).
        settings: The device, and the memory that is allowed.
        told: Whether a person reads it: a step that is over before the clock ticks is then timed
            several times. To choose a search it need only be known as short.
    """
    now = clock(settings)
    model.evaluate(images[:1], 0)  # the first run is slower
    one = _timed(model, images[:1], now)
    fixed = model.fixed_batch or 1
    count = min(len(images), max(fixed, int(_GLANCE / max(one, 1e-9)), 1))
    large = one * len(images) > _GLANCE
    size = max(count, min(_PROBED, len(images)) if large else count)
    start = time.monotonic()
    spent = _timed(model, images[:size], now, most=_REPEATS if told else 1)
    # A step in which the processor's clock hardly moved may look large by the tick before it.
    lag = (time.monotonic() - start) / spent if large and spent >= _TICKS else None
    if not (large or told):
        return Pace(seconds=spent / size)
    need = memory.seen(model, images[:size])
    most = need.most(settings.limits.memory) if need and large else None
    return Pace(seconds=spent / size, lag=lag, need=need, most=most)


def _timed(model: Differentiable, images: Floats, now: Callable[[], float], most: int = 1) -> float:
    """Return the seconds of a step, the mean of up to `most` until the clock has moved."""
    start, runs = now(), 0
    while not runs or (runs < most and now() - start < _TICKS):
        model.evaluate(images, 0)
        runs += 1
    return max(0.0, now() - start) / runs
