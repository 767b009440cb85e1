"""`scan --explain-plan`: what a scan would do with a model, before anything long starts."""

from collections.abc import Iterator, Sequence

from scanner.cli import options
from scanner.cli.about import listing_report
from scanner.cli.delivery import targets
from scanner.cli.output import Output
from scanner.cli.wording import in_options
from scanner.limits import MIB
from scanner.report import Listing
from scanner.report.escape import printable
from scanner.report.table import TableReport
from scanner.results import PlannedStage, ScanPlan
from scanner.values import to_json

_COLUMNS = ("stage", "detectors", "classes", "images", "steps", "seconds", "MiB")
_LONGEST = 2000  # characters of a sentence
_MINUTES = 120.0  # longer is told in minutes


def explain(files: Sequence[str], chosen: options.ScanOptions) -> None:
    """Print the plan of each model in the format that was asked for.

    Raises:
        ScannerError: A model cannot be opened, or the format cannot show a plan.
    """
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    wanted = targets(chosen.format or (), chosen.output)
    shown = [(listing_report(target.report.name, "plans"), target.path) for target in wanted]
    settings = options.settings(chosen)
    call = options.filled(chosen, options.Call)
    references, baseline = len(call.get("references", [])), "baseline" in call
    plans = [
        pipeline.plan(file, settings, references=references, baseline=baseline) for file in files
    ]
    for report, path in shown:
        with Output(path) as page:
            report.render_listing(_listing(plans), page)
            if isinstance(report, TableReport):
                for plan in plans:
                    page.write("".join(f"{line}\n" for line in facts(plan, references)))


def _listing(plans: Sequence[ScanPlan]) -> Listing:
    several = len(plans) > 1
    rows = [
        (*([plan.model.path] if several else []), *_cells(number, stage))
        for plan in plans
        for number, stage in enumerate(plan.stages, start=1)
    ]
    return Listing(
        subject="plans",
        columns=(*(["model"] if several else []), *_COLUMNS),
        rows=rows,
        numeric=_COLUMNS[2:],
        data=list(map(to_json, plans)) if several else to_json(plans[0]),
    )


def _cells(number: int, stage: PlannedStage) -> tuple[str, ...]:
    counts = (stage.classes, stage.images, stage.steps or None)
    return (
        f"{number}. {stage.does}",
        ", ".join(stage.rules),
        *("" if count is None else f"{count:,}" for count in counts),
        "not known" if stage.seconds is None else f"{stage.seconds:,.1f}",
        "" if stage.memory is None else f"{stage.memory / MIB:,.0f}",
    )


def facts(plan: ScanPlan, references: int) -> Iterator[str]:
    """Yield what stands below the table, in sentences."""
    model = printable(plan.model.path)
    many = f"{plan.classes:,} classes, " if plan.classes is not None else ""
    threads = f"{plan.threads} thread{'s' if plan.threads != 1 else ''}"
    yield f"{model}: {many}{threads}; {_time(plan.seconds)} for what is timed above, at the most"
    if references:
        one = "the reference takes" if references == 1 else f"each of {references} references takes"
        whole = _time((1 + references) * plan.seconds)
        yield f"{one} about as long again, together {whole}"
    yield f"the scan ends after {_time(plan.deadline)} in any case (--timeout)"
    for sentence in plan.skips:
        yield f"skipped: {printable(in_options(sentence), _LONGEST)}"


def _time(seconds: float) -> str:
    if seconds > _MINUTES:
        return f"{seconds / 60:,.0f} minutes"
    return f"{seconds:,.1f} seconds"
