"""What a project has decided once: defaults of options, and what it allows for a time.

A policy is a file `scan.toml`, or the table `[tool.overactivation]` of a `pyproject.toml`: the one
that `--config` names, or the nearest in the working folder and above it. Its keys are options
without their dashes; what is typed comes first, then the environment, then the policy.
"""

import dataclasses
import datetime as dt
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scanner import jsonfile
from scanner.errors import UsageError
from scanner.results import ScanResult, Suppression, Verdict
from scanner.values import frozen

ENVIRONMENT = "OVERACTIVATION_"  # what the name of an option's environment variable starts with
_OWN = "scan.toml"
_SHARED = "pyproject.toml"
_TABLE = "overactivation"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class Allowed:
    """An entry of the allow-list.

    Attributes:
        sha256: Of the model that it is about; empty for any model.
        rule: What it allows: a rule, an observation (`rule/code`), or "model" for all findings.
        reason: Why.
        expires: The last day on which it holds.
    """

    sha256: str = ""
    rule: str = "model"
    reason: str
    expires: dt.date


@frozen
class Policy:
    """A policy file.

    Attributes:
        path: Of the file; None without one.
        options: Values of options, by the options' names without dashes in front.
        allowed: The allow-list.
    """

    path: Path | None = None
    options: Mapping[str, Any]
    allowed: tuple[Allowed, ...] = ()

    def fitting(self, name: str, *, many: bool, flag: bool) -> Any:
        """Return an option's value as it would be typed.

        Args:
            name: Of the option.
            many: Whether it takes several values.
            flag: Whether it takes none, and is there or not.

        Raises:
            UsageError: The value is of another kind.
        """
        value = self.options[name]
        if flag and isinstance(value, bool):
            return value
        items = value if isinstance(value, list) else [value]
        plain = all(isinstance(i, str | int | float) and not isinstance(i, bool) for i in items)
        if self.path is not None and not (plain and isinstance(value, list) == many):
            wanted = "a list" if many else "yes or no" if flag else "one text or number"
            form = "[...]" if many else "true" if flag else "..."
            raise _wrong(self.path, f"{name!r} takes {wanted}", f"write it as in {name} = {form}")
        return list(map(str, items)) if many else str(value)

    def applied(self, result: ScanResult, today: dt.date) -> ScanResult:
        """Return a result with what the policy allows of it; nothing of it is taken away."""
        entries = [a for a in self.allowed if a.expires >= today and _concerns(a, result)]
        made = tuple(
            Suppression(rule=a.rule, reason=a.reason, expires=a.expires.isoformat())
            for a in entries
        )
        # A result that was saved under this policy holds them already.
        new = tuple(entry for entry in made if entry not in result.suppressions)
        return dataclasses.replace(result, suppressions=(*result.suppressions, *new))

    def expired(self, today: dt.date) -> Iterator[str]:
        """Yield a sentence for each entry that no longer holds."""
        for entry in self.allowed:
            if entry.expires < today:
                about = entry.sha256[:12] or entry.rule
                yield f"{self.path}: what is allowed of {about} expired on {entry.expires}"

    def unknown(self, rules: Collection[str]) -> Iterator[str]:
        """Yield a sentence for each entry about a rule that no scan has.

        Args:
            rules: Ids of rules that there are.
        """
        known = {"model", "verdict", *rules}
        for entry in self.allowed:
            rule = entry.rule.partition("/")[0]
            if rule not in known:
                meant = _meant(rule, known) or "'scan detectors' lists them"
                yield f"{self.path}: {entry.rule!r} in 'allow' is about no rule; {meant}"


def _concerns(entry: Allowed, result: ScanResult) -> bool:
    """Whether an entry is about a model, and about something that was found in it."""
    if entry.sha256 and entry.sha256 != result.model.sha256:
        return False
    found = set() if result.verdict is Verdict.CLEAN else {"model", "verdict"}
    for finding in result.findings:
        found |= {finding.rule.id, *(f"{finding.rule.id}/{o.code}" for o in finding.observations)}
    return entry.rule in found


def find(named: Path | None, start: Path) -> Path | None:
    """Return the policy file that is named, or else the nearest in a folder or above it."""
    if named is not None:
        return named
    for folder in (start, *start.parents):
        for name in (_OWN, _SHARED):
            path = folder / name
            is_there = os.path.isfile(path)  # noqa: PTH113 - Path.is_file may raise
            if is_there and (name == _OWN or _has_table(path)):
                return path
    return None


def _has_table(path: Path) -> bool:
    try:
        return f"[tool.{_TABLE}" in jsonfile.read(path).decode().replace("[[", "[")
    except ValueError:
        return False  # somebody else's file, which nobody asked us to read


def read(path: Path | None, options: Collection[str]) -> Policy:
    """Read a policy.

    Args:
        path: The file; None is the empty policy.
        options: Names that options have, without dashes in front.

    Raises:
        UsageError: The file cannot be read, or says something that means nothing.
    """
    if path is None:
        return Policy(options={})
    import tomllib  # noqa: PLC0415 - few calls have a policy

    try:
        # The null device is the usual word for none.
        data = {} if str(path) == os.devnull else tomllib.loads(jsonfile.read(path).decode())
    except jsonfile.UnreadableError as error:
        raise UsageError(
            f"the policy {str(path)!r} {error}", remedy="name another file with --config"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is not valid TOML ({error})", "correct it") from error
    if path.name == _SHARED:
        data = _table(path, _table(path, data, "tool"), _TABLE)
    entries = data.pop("allow", [])
    for name in data:
        if name not in options:
            remedy = _meant(name, options) or "'scan config' lists the options"
            raise _wrong(path, f"there is no option {name!r}", remedy)
    if not isinstance(entries, list):
        raise _wrong(path, "'allow' is no list of tables", "write [[allow]] above each entry")
    return Policy(path=path, options=data, allowed=tuple(_entry(path, e) for e in entries))


def _table(path: Path, data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise _wrong(path, f"{name!r} is no table", f"write [tool.{_TABLE}] above the options")
    return found


def _entry(path: Path, data: Any) -> Allowed:
    if not isinstance(data, dict) or not data.keys() <= {"sha256", "rule", "reason", "expires"}:
        raise _wrong(
            path, "an entry of 'allow' has other keys", "use sha256, rule, reason and expires"
        )
    sha256, rule = str(data.get("sha256", "")).lower(), str(data.get("rule", ""))
    if not sha256 and not rule:
        raise _wrong(path, "an entry of 'allow' is about nothing", "give it a sha256 or a rule")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise _wrong(path, f"{sha256!r} is not a SHA-256", "write its 64 hexadecimal digits")
    if not str(data.get("reason", "")).strip():
        raise _wrong(path, "an entry of 'allow' has no reason", "say why it is allowed")
    try:
        expires = dt.date.fromisoformat(str(data.get("expires", "")))
    except ValueError as error:
        raise _wrong(
            path, "an entry of 'allow' has no date of expiry", "write it as in expires = 2030-12-31"
        ) from error
    return Allowed(sha256=sha256, rule=rule or "model", reason=str(data["reason"]), expires=expires)


def _wrong(path: Path, problem: str, remedy: str) -> UsageError:
    return UsageError(f"the policy {str(path)!r}: {problem}", remedy=remedy)


def unknown_variables(environment: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each variable that looks like an option's, and is none.

    Args:
        environment: Names of variables.
        known: Those that are options'.
    """
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT) and name not in known:
            meant = _meant(name, known) or "'scan config' lists the options"
            yield f"{name} in the environment stands for no option; {meant}"


def _meant(name: str, known: Collection[str]) -> str:
    """Return a question after the name that a misspelt one is close to; empty without one."""
    import difflib  # noqa: PLC0415 - only for a name that is misspelt

    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def named_file(arguments: Sequence[str]) -> Path | None:
    """Return the file that `--config` names among arguments that are not parsed yet."""
    for number, word in enumerate(arguments):
        if word == "--config" and number + 1 < len(arguments):
            return Path(arguments[number + 1])
        if word.startswith("--config="):
            return Path(word.removeprefix("--config="))
    return None
