"""Everything that a scan can be told, as one frozen value."""

import dataclasses
import enum


class Noise(enum.Enum):
    """Families of noise images (see `scanner.probes`)."""

    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"


class Device(enum.Enum):
    """Where the models run; `AUTO` takes CUDA where a device is really there."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure, on what, and where.

    Attributes:
        noise: Family of noise images.
        images: How many.
        seed: Of every random generator.
        input_range: Lowest and highest value of a valid input; None takes 0 and 1, or an integer type's own range
            (uint8, int8).
        input_shape: Shape of one input without its batch axis; needed where the model leaves it open.
        layer: Name of the value, node or activation to measure instead of the first.
        device: Where to run.
        threads: ONNX Runtime's intra-operator threads.
        detectors: Ids of the detectors to run; empty runs all.
        timeout: Seconds of wall-clock time for one model and its references.
    """

    noise: Noise = Noise.UNIFORM
    images: int = 200
    seed: int = 0
    input_range: tuple[float, float] | None = None
    input_shape: tuple[int, ...] | None = None
    layer: str | None = None
    device: Device = Device.AUTO
    threads: int = 1
    detectors: tuple[str, ...] = ()
    timeout: float = 600.0
