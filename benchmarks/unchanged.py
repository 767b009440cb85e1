"""Does a change leave every number alone? `python benchmarks/unchanged.py COMMIT`.

Scans every sample, alone and beside the clean sample of its data set, with the code of COMMIT
and with the code of this working tree, and compares the results. Words, keys and layout may
differ between the two; what was measured may not:

* the verdict, the score, the index, the target class, and the clean models that judged;
* of every finding the verdict, the statistic, the p-value and the figures in its sentence;
* every other number of a finding that is not whole, and every array, wherever in the finding it
  stands. Whole numbers are left out: a class's id or a count of rows comes and goes with the
  layout. So do copies: a number that was stated twice may be stated once. A number that is new
  says nothing of those that were there.

Prints what differs and exits with 1 if anything does. Only the standard library is imported.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
RELATIVE = 1e-9  # tolerance; results are the same to the last bit on one machine
DIGITS = 12  # significant digits by which numbers are looked up before the tolerance decides
ANSWERED = (0, 1, 2, 3)  # exit codes of the command `scan`; 2 where one was refused, on both sides
DECIMAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
TOP = ("verdict", "score", "index", "target_class")
ARRAY = 64  # characters from which a string is an array in base64 and not a word

Result = Mapping[str, Any]
Figure = tuple[str, float | str]  # where it stands in the result, and a number or an array


def scans(only: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield a name and the arguments of each scan, from the manifest of the samples."""
    manifest = json.loads((SAMPLES / "manifest.json").read_text(encoding="utf-8"))
    for model in manifest["models"]:
        name = Path(model["file"]).stem
        if only and name not in only:
            continue
        suspect, clean = f"samples/{model['file']}", f"samples/{model['dataset']}-clean.onnx"
        yield f"{name} alone", (suspect,)
        if suspect != clean:
            yield f"{name} beside {Path(clean).stem}", (suspect, "--reference", clean)


def scan(tree: Path, arguments: Sequence[str]) -> Result:
    """Scan with the code of a working tree and return the JSON result.

    Raises:
        RuntimeError: The command gave no result.
    """
    done = subprocess.run(
        [sys.executable, "-m", "scanner", *arguments, "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in ANSWERED or not done.stdout:
        raise RuntimeError(f"{tree}: scan {' '.join(arguments)}: {done.stderr}")
    result: Result = json.loads(done.stdout)
    return result


def differences(before: Result, after: Result) -> Iterator[str]:
    """Yield a sentence for each thing in which two results differ."""
    for field in TOP:
        yield from _unlike(field, before.get(field), after.get(field))
    yield from _unlike("reason", *(_figures(r["reason"]) for r in (before, after)))
    yield from _unlike("calibration", *(_figures(r["calibration"] or "") for r in (before, after)))
    yield from _unlike("models", *(_models(result) for result in (before, after)))
    yield from _unlike("skips", *(sorted(s["rule"] for s in r["skips"]) for r in (before, after)))
    yield from _unlike("failures", *(_failures(result) for result in (before, after)))
    old, new = ({f["rule"]["id"]: f for f in result["findings"]} for result in (before, after))
    yield from _unlike("findings", sorted(old), sorted(new))
    for rule in old.keys() & new.keys():
        for field in ("verdict", "statistic", "p_value"):
            yield from _unlike(f"{rule}: {field}", old[rule][field], new[rule][field])
        yield from _unlike(f"{rule}: reason", *(_figures(f[rule]["reason"]) for f in (old, new)))
        yield from _unlike(f"{rule}: observations", *(_observed(f[rule]) for f in (old, new)))
        missing = _only_in(list(numbers(old[rule])), list(numbers(new[rule])))
        if missing:
            shown = ", ".join(f"{path} = {content}" for path, content in missing[:5])
            yield f"{rule}: {len(missing)} figures are lost, such as {shown}"


def numbers(data: Any, path: str = "") -> Iterator[Figure]:
    """Yield (path, content) of every number that is not whole, and of every array."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            yield from numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list):
        for index, inner in enumerate(data):
            yield from numbers(inner, f"{path}[{index}]")
    elif (isinstance(data, float) and not data.is_integer()) or (
        isinstance(data, str) and len(data) >= ARRAY and " " not in data
    ):
        yield path, data


def _only_in(one: Sequence[Figure], other: Sequence[Figure]) -> list[Figure]:
    """Return what only the first holds; of equal numbers one is enough."""
    known = {_rounded(content) for _, content in other}
    missing = {_rounded(content): (path, content) for path, content in one}
    suspects = [figure for key, figure in missing.items() if key not in known]
    # Two numbers within the tolerance may round apart.
    return [figure for figure in suspects if not any(_alike(figure[1], c) for _, c in other)]


def _rounded(content: float | str) -> str:
    return content if isinstance(content, str) else f"{content:.{DIGITS}g}"


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= RELATIVE * max(abs(one), abs(other))
    return bool(one == other)


def _unlike(what: str, one: Any, other: Any) -> Iterator[str]:
    if not _alike(one, other):
        yield f"{what}: {one} before, {other} after"


def _figures(sentence: str) -> list[float]:
    return sorted(map(float, DECIMAL.findall(VERSION.sub("", sentence))))


def _models(result: Result) -> list[str]:
    return [f"{m['sha256']} {m['architecture']}" for m in (result["model"], *result["references"])]


def _failures(result: Result) -> list[str]:
    return sorted(f"{f['rule']}: {f['error']['type']}" for f in result["failures"])


def _observed(finding: Result) -> list[str]:
    return sorted(f"{o['code']} ({o['severity']})" for o in finding["observations"])


def compare(tree: Path, only: Sequence[str], options: Sequence[str], jobs: int) -> int:
    """Print what differs between another tree's results and ours; return how many scans differ."""
    chosen = list(scans(only))
    if not chosen:
        raise SystemExit(f"there is no sample {' or '.join(only)}")
    differing = 0
    with ThreadPoolExecutor(jobs) as pool:
        pairs = [
            [pool.submit(scan, side, (*arguments, *options)) for side in (tree, ROOT)]
            for _, arguments in chosen
        ]
        for (name, _), pair in zip(chosen, pairs, strict=True):
            found = list(differences(*(side.result() for side in pair)))
            differing += bool(found)
            print(f"{'DIFFERS' if found else 'same   '}  {name}", flush=True)
            for sentence in found:
                print(f"         {sentence}", flush=True)
    return differing


def main() -> None:
    """Scan with both trees; exit with 1 where anything measured differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("commit", help="the commit to compare this working tree with")
    parser.add_argument("--only", nargs="+", default=(), help="names of samples; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="scans to run side by side")
    own, options = sys.argv[1:], []
    if "--" in own:  # what follows goes to every scan: -- --detector head
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    chosen = parser.parse_args(own)
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), chosen.commit], check=True)
        try:
            differing = compare(tree, chosen.only, options, chosen.jobs)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    print(f"{differing} scans differ" if differing else "nothing that was measured differs")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
