"""Published attacks, one file each; to add one, write its file and a row here."""

import dataclasses
from collections.abc import Callable, Mapping

from trainers.attacks import badnets, blended, evasive, input_aware, sig, wanet
from trainers.attacks.base import Attack, Setting
from trainers.errors import TrainerError

ATTACKS: Mapping[str, Callable[[Setting], Attack]] = {
    "clean": lambda _setting: Attack(),
    "badnets": badnets.build,
    "blended": blended.build,
    "sig": sig.build,
    "wanet": wanet.build,
    "input-aware": input_aware.build,
    "evasive": evasive.build,
}


@dataclasses.dataclass(frozen=True, slots=True)
class AttackSpec:
    """An attack as it is asked for: `NAME`, or `NAME:rate=0.01`, `NAME:labels=all-to-all`, or both joined by `+`.

    `all-to-all` alone is short for `badnets:labels=all-to-all`.

    Attributes:
        name: Key of `ATTACKS`.
        rate: Share of the training images to poison; None takes the attack's own.
        labels: `all-to-one` or `all-to-all`.
    """

    name: str
    rate: float | None = None
    labels: str = "all-to-one"

    @classmethod
    def parse(cls, text: str) -> "AttackSpec":
        """Read an attack from the command line.

        Raises:
            TrainerError: No such attack, option or value.
        """
        name, _, options = (
            "badnets:labels=all-to-all" if text == "all-to-all" else text
        ).partition(":")
        if name not in ATTACKS:
            choices = ", ".join((*ATTACKS, "all-to-all"))
            raise TrainerError(
                f"there is no attack called {name!r}", remedy=f"choose one of {choices}"
            )
        given = dict(option.partition("=")[::2] for option in options.split("+") if option)
        rate, labels = given.pop("rate", None), given.pop("labels", "all-to-one")
        if given or labels not in ("all-to-one", "all-to-all"):
            raise TrainerError(
                f"the attack {text!r} cannot be read",
                remedy="write NAME:rate=0.01+labels=all-to-all, either or both",
            )
        return cls(name, None if rate is None else _share(rate), labels)

    def __str__(self) -> str:
        """Return the attack as a part of a file name."""
        parts = [self.name]
        if self.labels == "all-to-all":
            parts = [self.labels] if self.name == "badnets" else [self.name, self.labels]
        return "-".join([*parts, *([] if self.rate is None else [f"{self.rate:g}"])])


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise TrainerError(
            f"a poisoning rate of {text!r} is not a share",
            remedy="give a number above 0 and up to 1",
        )
    return value


CLEAN = AttackSpec("clean")
