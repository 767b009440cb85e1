"""Published attacks, one file each; to add one, write its file and a row here."""

import dataclasses
from collections.abc import Callable, Mapping

from trainers.attacks import (
    adaptive_blend,
    badnets,
    blended,
    bpp,
    evasive,
    ftrojan,
    input_aware,
    sig,
    wanet,
)
from trainers.attacks.base import Attack, Setting
from trainers.attacks.labels import LABELS
from trainers.errors import TrainerError

ATTACKS: Mapping[str, Callable[[Setting], Attack]] = {
    "clean": lambda _setting: Attack(),
    "badnets": badnets.build,
    "blended": blended.build,
    "sig": sig.build,
    "wanet": wanet.build,
    "input-aware": input_aware.build,
    "evasive": evasive.build,
    "adaptive-blend": adaptive_blend.build,
    "bpp": bpp.build,
    "ftrojan": ftrojan.build,
}

OPTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"badnets": badnets.OPTIONS}
"""Further settings of an attack and their values."""


@dataclasses.dataclass(frozen=True, slots=True)
class AttackSpec:
    """An attack as it is asked for: `NAME`, or `NAME:rate=0.01+labels=all-to-all`, either or both.

    `all-to-all` alone is short for `badnets:labels=all-to-all`. BadNets takes `side`, `place` and
    `pattern` besides.

    Attributes:
        name: Key of `ATTACKS`.
        rate: Share of the training images to poison; None takes the attack's own.
        labels: One of `LABELS`.
        options: The attack's own, by name, sorted; only those that were given.
    """

    name: str
    rate: float | None = None
    labels: str = "all-to-one"
    options: tuple[tuple[str, str], ...] = ()

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
            known = ", ".join((*ATTACKS, "all-to-all"))
            raise TrainerError(
                f"there is no attack called {name!r}", remedy=f"choose one of {known}"
            )
        given = dict(option.partition("=")[::2] for option in options.split("+") if option)
        rate, labels = given.pop("rate", None), given.pop("labels", "all-to-one")
        choices = OPTIONS.get(name, {})
        if not given.keys() <= choices.keys() or labels not in LABELS:
            own = f", and {', '.join(choices)}" if choices else ""
            raise TrainerError(
                f"the attack {text!r} cannot be read",
                remedy=f"write NAME:rate=0.01+labels=all-to-all, either or both{own}",
            )
        for option, value in given.items():
            if value not in choices[option]:
                raise TrainerError(
                    f"{value!r} is not a {option} for {name}",
                    remedy=f"choose one of {', '.join(choices[option])}",
                )
        share = None if rate is None else _share(rate)
        return cls(name, share, labels, tuple(sorted(given.items())))

    def __str__(self) -> str:
        """Return the attack as a part of a file name."""
        parts = [self.name]
        if self.labels != "all-to-one":
            short = self.name == "badnets" and self.labels == "all-to-all"
            parts = [self.labels] if short else [self.name, self.labels]
        parts += [value for _, value in self.options]
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
