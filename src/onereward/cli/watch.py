"""`onereward watch`: a run in the terminal while it is at work, from its `config.json` and `log.jsonl` alone."""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from onereward.store.rundir import RunDir
from onereward.train.progress import LogTail, Summary, summary_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

HELP = "show a training run in the terminal while it is at work"
EXAMPLE = "onereward watch runs/rl"

_BARS = "▁▂▃▄▅▆▇█"
_LEAST_RANGE = 0.1  # of a sparkline's height in P(yes), so that noise does not look like a trend
_SECONDS_BETWEEN_LOOKS = 1.0
_ALARMS_SHOWN = 5
_BAR_WIDTH = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and whether to stay."""
    parser.add_argument("run", metavar="RUN", help="run folder, which may still have to appear")
    parser.add_argument(
        "--once", action="store_true", help="print once and end, as with --json or where the output is no terminal"
    )


def run(args: argparse.Namespace) -> None:
    """Show the run until it is finished, or once."""
    from rich.console import Console

    folder, console = RunDir(args.run), Console()
    if not (args.once or args.json) and console.is_terminal:
        _follow(folder, console)
        return
    tail = LogTail(folder.log)
    tail.read()
    if not (folder.config_file.exists() or tail.lines):
        raise ValueError(
            f"{folder.path} holds no run yet: pass the --output of a training, or leave out --once to wait"
        )
    summary = summary_of(folder, tail.lines)
    if args.json:
        print(json.dumps(_without_nan(asdict(summary))))
    else:
        console.print(screen(summary, console.width))


def _follow(folder: RunDir, console: Any) -> None:
    """Draw it again every second until the run is finished; Ctrl-C ends it before."""
    from rich.live import Live
    from rich.text import Text

    tail = LogTail(folder.log)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            tail.read()
            if folder.config_file.exists() or tail.lines:
                summary = summary_of(folder, tail.lines)
                live.update(screen(summary, console.width), refresh=True)
                if summary.finished:
                    return
            else:
                live.update(Text(f"waiting for a run in {_plain(folder.path)}"), refresh=True)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _without_nan(values: Any) -> Any:
    """With null in the place of what JSON has no word for."""
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def screen(summary: Summary, width: int) -> "RenderableType":
    """All of a summary for a terminal of `width` columns; nothing from the files is read as markup or control codes."""
    from rich.console import Group

    parts: list[RenderableType] = [_head(summary), *_alarm_lines(summary)]
    if summary.cells:
        parts.append(_cell_table(summary, width))
    if summary.tasks:
        parts += [_task_table(summary), *_opposed_lines(summary)]
    return Group(*parts)


def _head(summary: Summary) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    of = f"{summary.step} of {summary.steps}" if summary.steps else f"{summary.step}"
    progress = [f"step {of}"]
    if summary.seconds is not None:
        progress.append(f"{_seconds(summary.seconds)} a step")
    if summary.finished:
        progress.append("finished")
    elif summary.remaining is not None:
        progress.append(f"{_seconds(summary.remaining)} left")
    if summary.age is not None and not summary.finished:
        progress.append(f"written {_seconds(summary.age)} ago")
    lines: list[RenderableType] = [Text(_plain(summary.run), style="bold"), Text(", ".join(progress))]
    if summary.steps:
        done = min(_BAR_WIDTH * summary.step // summary.steps, _BAR_WIDTH)
        lines.append(Text("━" * done, style="green").append("━" * (_BAR_WIDTH - done), style="bright_black"))
    for label, values in (("", summary.figures), ("seconds: ", summary.phases)):
        if values:
            named = [f"{_plain(name).replace('_', ' ')} {value:.3g}" for name, value in values.items()]
            lines.append(Text(label + ", ".join(named)))
    return Group(*lines)


def _alarm_lines(summary: Summary) -> "Iterator[Text]":
    from rich.text import Text

    for fired in summary.alarms[-_ALARMS_SHOWN:]:
        done = f" ({_plain(fired.action)})" if fired.action else ""
        yield Text(f"alarm at step {fired.step}: {_plain(fired.words)}{done}", style="bold red")
    if len(summary.alarms) > _ALARMS_SHOWN:
        yield Text(f"{len(summary.alarms) - _ALARMS_SHOWN} earlier alarms are in log.jsonl", style="red")


def _cell_table(summary: Summary, width: int) -> "Table":
    """A row a task and dimension; columns without any figure are left out."""
    from rich.text import Text

    columns = {
        "reward": [_fraction(cell.reward) for cell in summary.cells],
        "vs start": [_fraction(cell.win_rate) for cell in summary.cells],
        "held-out": [_fraction(cell.held_out) for cell in summary.cells],
        "clipped": [_fraction(cell.clipped) for cell in summary.cells],
        "grad": ["" if cell.gradient is None else f"{cell.gradient:.2g}" for cell in summary.cells],
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    table = _table("task", "dimension", numbers=[*columns])
    table.add_column("trend", no_wrap=True)
    bars = max(6, min(40, width - 25 - sum(max(len(name), 7) + 2 for name in columns)))
    for row, cell in enumerate(summary.cells):
        words = [Text(_plain(name).replace("_", " ")) for name in (cell.task, cell.dimension)]
        table.add_row(*words, *(values[row] for values in columns.values()), sparkline(cell.series, bars))
    return table


def _task_table(summary: Summary) -> "Table":
    from rich.text import Text

    figures = list(dict.fromkeys(name for task in summary.tasks for name in task.drift))
    heads = [_plain(name).replace("_", " ") for name in figures]
    table = _table("drift of", numbers=["distance", *heads])
    for task in summary.tasks:
        distance = "" if task.distance is None else f"{task.distance:.3g}"
        drift = [f"{task.drift[name]:+.3f}" if name in task.drift else "" for name in figures]
        table.add_row(Text(_plain(task.task)), distance, *drift)
    return table


def _opposed_lines(summary: Summary) -> "Iterator[Text]":
    """The two dimensions of each task whose gradients agree least: a negative cosine is one paying for the other."""
    from rich.text import Text

    for task in summary.tasks:
        if task.cosine:
            pair = min(task.cosine, key=lambda name: task.cosine[name])
            dimensions = _plain(pair).replace("|", " and ").replace("_", " ")
            yield Text(
                f"least agreeing gradients of {_plain(task.task)}: {dimensions}, cosine {task.cosine[pair]:+.2f}"
            )


def _table(*words: str, numbers: Sequence[str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in words:
        table.add_column(Text(name))
    for name in numbers:
        table.add_column(Text(name), justify="right")
    return table


def sparkline(series: Sequence[float], bars: int) -> str:
    """A series as at most `bars` blocks, each the mean of its share of the series, from the lowest mean to the highest.

    What is not finite is left out; a range below .1 is widened around its middle.
    """
    finite = [value for value in series if math.isfinite(value)]
    bars = min(bars, len(finite))
    edges = [index * len(finite) // bars for index in range(bars + 1)] if bars else [0]
    shares = [finite[start:end] for start, end in pairwise(edges)]
    means = [sum(share) / len(share) for share in shares]
    if not means:
        return ""
    height = max(max(means) - min(means), _LEAST_RANGE)
    low = (max(means) + min(means) - height) / 2
    heights = [int(round((mean - low) / height * len(_BARS), 6)) for mean in means]
    return "".join(_BARS[min(each, len(_BARS) - 1)] for each in heights)


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _seconds(seconds: float) -> str:
    """A duration in its two largest units."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days} d {hours} h" if days else f"{hours} h {rest:02d} min" if hours else f"{rest} min"


def _plain(text: object) -> str:
    """A string from a file, without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
