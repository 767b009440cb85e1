"""Everything that a scan can be told, as one frozen value."""

import dataclasses
import enum
from pathlib import Path

from scanner.errors import UsageError
from scanner.limits import MIB, Limits
from scanner.values import LARGEST_INTEGER, LARGEST_NUMBER, brief, frozen


class Noise(enum.Enum):
    """Families of noise images (see `scanner.instruments.probes`)."""

    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"
    CONSTANT = "constant"
    LOW_FREQUENCY = "low-frequency"
    SHUFFLED = "shuffled"


class Device(enum.Enum):
    """Where the models run; `AUTO` takes CUDA where a device is really there."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Budget(enum.Enum):
    """How much work the searching detectors may do (see `EFFORTS`)."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


@frozen
class Effort:
    """What a budget allows for one model and one detector.

    The counts decide, so that a result is the same on a slow machine; the seconds end what would
    not end.

    Attributes:
        images: Images that a trigger must flip.
        steps: Most gradient steps per class.
        restarts: Starting points of each search.
        seconds: Time after which no class gets further steps: of the processor, per thread, or of
            the clock on CUDA.
    """

    images: int
    steps: int
    restarts: int
    seconds: float


KEEP_ACCURACY = 0.98
"""Share of a model's answers to clean images that a repair leaves as they are."""
INPUT_ALPHA = 0.01
"""Share of clean inputs that may stand out, as STRIP's authors set their threshold."""
_LEAST_TIMEOUT = 600.0
_TIMES = 8  # times the budget's seconds: a large model's search may take half of that
_LARGEST_MISS = 0.5  # a model called clean that misses more says less than a coin
_MOST_SECONDS = 1e9  # some thirty years; more is no time that a clock can be set to
_MOST_IMAGES = 1_000_000  # of noise: each has a figure of its own in the result
_LARGEST_COUNT = LARGEST_INTEGER // 2  # so that a count and what is added to it cross to a child
# Memory of one thread's stack, and of how many sessions of ONNX Runtime: a whole scan holds eight
# at a time, each with threads of its own. Where there is no memory for another thread's stack, ONNX
# Runtime waits for ever for the thread that it could not start.
_STACK, _SESSIONS = 8 * MIB, 16
EFFORTS = {
    Budget.QUICK: Effort(images=32, steps=100, restarts=1, seconds=60),
    Budget.STANDARD: Effort(images=64, steps=250, restarts=1, seconds=300),
    Budget.THOROUGH: Effort(images=64, steps=500, restarts=3, seconds=1800),
}
_KINDS: dict[str, type[enum.Enum]] = {"noise": Noise, "budget": Budget, "device": Device}


@frozen
class Settings:
    """What to measure, on what, and where.

    Attributes:
        noise: Family of noise images.
        images: How many, at most a million.
        seed: Of every random generator.
        input_range: Lowest and highest value of a valid input; None finds them in the file and the
            images (`scanner.instruments.input_range`), and takes 0 and 1 where nothing tells.
        input_shape: Shape of one input without its batch axis; needed where the model leaves it
            open.
        layer: Name of the value, node or activation to measure instead of the first.
        logits: Name of the value that holds the logits; None finds it.
        budget: How much work the searching detectors may do; like `noise` and `device` a member, or
            its word.
        classes: Classes to search triggers for; empty takes all.
        images_file: An .npz or .npy file of clean images. A relative path is one from the working
            folder of whoever makes the settings.
        images_folder: A folder of clean images; the same.
        device: Where to run.
        threads: ONNX Runtime's intra-operator threads; 0 takes one per core for a model that is so
            large that they pay, and one for any other.
        detectors: Ids of the detectors to run; empty runs all.
        alpha: Level of the test: the share of clean models that may be called suspicious.
        miss: The share of backdoored networks that may stand out no further than a model that is
            called clean, where only networks of other recipes judge it.
        shipped_baselines: Whether a baseline that comes with the package may be used where it fits.
        timeout: Seconds of wall-clock time for one model and its references; None takes ten
            minutes, or eight times what the budget allows them, whichever is longer.
        limits: What a model may ask of this machine besides.
        require_isolation: Refuse to scan where this machine lacks a part of the isolation.
        unconfined: Leave the process that opens models its rights: for models that are trusted,
            where NVIDIA's driver does not start without them.
    """

    noise: Noise = Noise.UNIFORM
    images: int = 200
    seed: int = 0
    input_range: tuple[float, float] | None = None
    input_shape: tuple[int, ...] | None = None
    layer: str | None = None
    logits: str | None = None
    budget: Budget = Budget.QUICK
    classes: tuple[int, ...] = ()
    images_file: str | None = None
    images_folder: str | None = None
    device: Device = Device.AUTO
    threads: int = 0
    detectors: tuple[str, ...] = ()
    alpha: float = 0.05
    miss: float = 0.1
    shipped_baselines: bool = True
    timeout: float | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    require_isolation: bool = False
    unconfined: bool = False

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        return brief(self, *(field.name for field in dataclasses.fields(self)))

    def __post_init__(self) -> None:
        """Refuse what no scan could be made with, and settle where images lie.

        Raises:
            UsageError: A setting has a value that means nothing.
        """
        self._settle_paths()
        self._read_words()
        for name, least in (("images", 1), ("seed", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"Settings.{name} is {getattr(self, name)}",
                    remedy=f"give at least {least}",
                )
        if self.images > _MOST_IMAGES:
            raise UsageError(
                f"the setting `images` is {self.images:,}, and each noise image takes its time",
                remedy=f"give at most {_MOST_IMAGES:,} (200 are usual)",
            )
        if not 0 < self.alpha < 1:
            raise UsageError(
                f"the setting `alpha` is {self.alpha:g}", remedy="give a share between 0 and 1"
            )
        if not 0 <= self.miss <= _LARGEST_MISS:
            raise UsageError(
                f"the setting `miss` is {self.miss:g}",
                remedy=f"give a share between 0 and {_LARGEST_MISS:g}",
            )
        if self.require_isolation and self.unconfined:
            raise UsageError(
                "the settings `require_isolation` and `unconfined` exclude one another",
                remedy="leave one of them out",
            )
        for name in ("detectors", "classes", "input_shape", "input_range"):
            if isinstance(value := getattr(self, name), str | int):
                raise UsageError(
                    f"Settings.{name} is {value!r}, and a sequence is wanted",
                    remedy=f"write it as in ({value!r},)",
                )
        self._refuse_what_cannot_cross()
        if self.threads > self.most_threads:
            raise UsageError(
                f"the setting `threads` is {self.threads}, and the stacks of so many may take all "
                "the memory that a scan is allowed",
                remedy=f"give at most {self.most_threads}, or raise the setting `memory`",
            )

    def _settle_paths(self) -> None:
        """Make paths mean the same to the process that reads them: it has another folder."""
        for name in ("images_file", "images_folder"):
            if (named := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(Path(named).absolute()))

    def _read_words(self) -> None:
        """Take the words of the command line as well as members of an enumeration."""
        for name, kind in _KINDS.items():
            word = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(word))
            except ValueError as error:
                known = ", ".join(repr(member.value) for member in kind)
                raise UsageError(
                    f"Settings.{name} is {word!r}", remedy=f"give one of {known}"
                ) from error

    def _refuse_what_cannot_cross(self) -> None:
        """Refuse numbers that no message to a child can hold: it would look as if a model did that.

        Raises:
            UsageError: There is one.
        """
        counts: dict[str, tuple[int, ...]] = {
            **{name: (getattr(self, name),) for name in ("seed", "threads")},
            "classes": self.classes,
            "input_shape": self.input_shape or (),
            **{f.name: (getattr(self.limits, f.name),) for f in dataclasses.fields(self.limits)},
        }
        for name, values in counts.items():
            if any(value > _LARGEST_COUNT for value in values):
                quoted = f"`{name}`"
                raise UsageError(
                    f"the setting {quoted} holds a number of more than 62 bits",
                    remedy="give a smaller one",
                )
        if any(not abs(end) <= LARGEST_NUMBER for end in self.input_range or ()):
            raise UsageError(
                "the setting `input_range` has an end that is no finite number",
                remedy="give the lowest and the highest value of a valid input",
            )
        if self.input_range is not None and not self.input_range[0] < self.input_range[-1]:
            raise UsageError(
                f"the setting `input_range` is {self.input_range}",
                remedy="give the lowest and the highest value of a valid input, in this order",
            )
        if self.timeout is not None and not 0 < self.timeout <= _MOST_SECONDS:
            raise UsageError(
                f"the setting `timeout` is {self.timeout:g}",
                remedy=f"give seconds, more than 0 and at most {_MOST_SECONDS:g}",
            )

    @property
    def most_threads(self) -> int:
        """How many threads a model may be run by within the limit on memory."""
        return max(1, self.limits.memory // (_STACK * _SESSIONS))

    def deadline(self, models: int) -> float:
        """Return the seconds of wall-clock time for so many models, suspect and references."""
        return (
            max(_LEAST_TIMEOUT, _TIMES * models * self.effort.seconds)
            if self.timeout is None
            else self.timeout
        )

    @property
    def has_images(self) -> bool:
        """Whether there are clean images of the user's."""
        return self.images_file is not None or self.images_folder is not None

    @property
    def effort(self) -> Effort:
        """What the budget allows."""
        return EFFORTS[self.budget]
