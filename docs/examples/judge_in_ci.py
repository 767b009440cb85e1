"""Let a model through a pipeline only if a scan finds it clean.

    python docs/examples/judge_in_ci.py MODEL.onnx CLEAN.onnx...

Ends with exit code 0 for a clean verdict and 1 for any other: what could not be judged is not let
through. A pipeline that lets inconclusive models pass trusts whoever can make a scan fail.
"""

import sys

from scanner import ScannerError, Verdict, scan


def main() -> None:
    """Scan one model, say why it passes or not, and set the exit code."""
    model, *references = sys.argv[1:]
    try:
        result = scan(model, references)
    except ScannerError as error:  # the request itself was wrong: a reference that is no model, say
        sys.exit(f"not scanned: {error}")
    print(f"{result.verdict.value}: {result.reason}")
    for warning in result.warnings:  # about the references: a verdict is as good as they are
        print(f"warning: {warning}")
    for failure in result.failures:
        print(f"not measured: {failure.sentence}")
    passed = result.verdict is Verdict.CLEAN and not result.failures
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
