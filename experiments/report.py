"""Makes a report again, or compares directories: python -m experiments.report DIR.

For one directory, report.md, summary.csv and the figures are written anew beside its
rows. For several, or with `--out`, they go to a directory of their own. The report of
`experiments.tables` follows from runs in memory: its rows are compared as others are,
in a directory of their own, and its report stays as it is.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

from experiments import command
from experiments.reports import comparison, sources
from experiments.reports.metrics import METRICS
from experiments.reports.sources import Source
from experiments.settings import flags
from fedjax_private import runs
from fedjax_private.choices import Settings, one_of, setting
from fedjax_private.runs.directory import OWN_NAMES

USAGE = """Makes the report of a directory again, or compares several.

usage: python -m experiments.report DIR [DIR ...] [flags]"""


@dataclasses.dataclass(frozen=True)
class ReportConfig(Settings):
    """What to compare."""

    metric: str | None = setting(
        None,
        f"one of {', '.join(METRICS)} (default: the directory's, or accuracy)",
        one_of(*METRICS),
    )
    out: str | None = setting(
        None,
        "where the report goes (default: DIR itself, or runs/report-<timestamp> for "
        "several)",
    )


def report(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(USAGE, (ReportConfig,), argv, arguments="DIR")
    what = parsed[ReportConfig]
    if not parsed.arguments:
        parsed.fail("give a directory that train, sweep or tables wrote.")
    paths = list(dict.fromkeys(map(Path, parsed.arguments)))
    found = parsed.checked(lambda: [sources.read(path) for path in paths])
    out = parsed.checked(lambda: _out(what.out, found))
    usual = found[0].config.get("metric") if len(found) == 1 else None
    metric = METRICS[what.metric or usual or "accuracy"]
    rows = [row for source in found for row in source.rows]
    config, notes = sources.joined(found), sources.notes(found)
    rounds = [row for s in found for row in s.rounds] if len(rows) == 1 else []
    comparison.write(
        out,
        rows,
        config,
        notes,
        vary=sources.vary(found),
        metric=metric,
        rounds=rounds,
    )
    console = command.console()
    console.print(comparison.table(rows, metric, sources.vary(found)))
    command.say(console, f"written to {out}")
    return 0


def _out(asked: str | None, found: Sequence[Source]) -> Path:
    """Where the report goes; the directory is made ready.

    Raises:
        ValueError: it cannot be written, or holds what is not a report.
    """
    path = found[0].path
    again = asked is None or Path(asked).resolve() == path.resolve()
    if len(found) == 1 and again and found[0].command != "tables":
        return path
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    out = Path(asked) if asked else Path("runs") / f"report-{now}"
    others = [name for name in OWN_NAMES if name not in comparison.FILES]
    if any((out / name).exists() for name in others):
        raise ValueError(f"out={out} holds runs of its own: name another directory.")
    return runs.RunDirectory.create(out, overwrite=True).path


if __name__ == "__main__":
    command.main(report)
