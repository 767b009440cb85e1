"""`scan calibrate`: measure clean models once, to judge others by their rank among them."""

from typing import Annotated

import typer

from scanner.cli import options
from scanner.cli.output import Bar, Output, note

_Models = Annotated[
    list[str], typer.Argument(metavar="CLEAN", help="Clean ONNX files, or folders of them.")
]


@options.takes_options
def calibrate(models: _Models, chosen: options.CalibrateOptions) -> None:
    """Measure clean models of one recipe once, so that scans can rank a model among them."""
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help
    from scanner.judging.population import write_baseline  # noqa: PLC0415 - as above

    settings = options.settings(chosen)
    with Output(chosen.output) as out:
        with Bar(quiet=chosen.quiet) as bar:
            baseline = pipeline.calibrate(
                options.files("CLEAN", models),
                settings,
                name=chosen.name or chosen.output.stem,
                provenance=chosen.provenance,
                progress=bar.counting,
            )
        out.write(write_baseline(baseline))
    count = len(baseline.records)
    if not chosen.quiet:
        note(f"{chosen.output}: {count} clean models; p-values from 1/{count + 1} up")
