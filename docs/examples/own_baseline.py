"""Judge a model by its rank among clean models of your own recipe.

    python docs/examples/own_baseline.py SUSPECT.onnx CLEAN.onnx...

The clean models are measured once, and the measurements judge any number of suspects. With k
clean models no p-value is below 1/(k + 1): 19 are needed for 0.05, 99 for 0.01. `write_baseline`
keeps the measurements, as `scan calibrate CLEAN... --output FILE` does, and `read_baseline` loads
them.
"""

import sys

from scanner import Settings, calibrate, scan

# Baseline and scan must be measured alike: the same images, seed and budget.
SETTINGS = Settings(detectors=("head",), shipped_baselines=False)


def main() -> None:
    """Measure the clean models, then scan the suspect beside them."""
    suspect, *clean = sys.argv[1:]
    baseline = calibrate(clean, SETTINGS, name="mine", provenance="trained by us, seeds 0 to 18")
    print(f"{len(baseline.records)} clean models; p-values from 1/{len(baseline.records) + 1} up")
    result = scan(suspect, settings=SETTINGS, baseline=baseline)
    print(f"{result.verdict.value}: {result.reason}")
    for finding in result.findings:
        print(f"{finding.rule.name}: statistic {finding.statistic}, p = {finding.p_value}")


if __name__ == "__main__":
    main()
