"""What a person sees of the demonstration: one line for each phase and a table of the providers, alive or as text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from challenger.sim.report import Report, duration, ether

INTRODUCTION = "Ten providers run AI models for pay. Six cheat. The watcher is not told which."


@dataclass(frozen=True, slots=True)
class Row:
    """One provider: what it really does, how the watcher found its answers, and what became of them."""

    name: str
    kind: str
    answers: int
    drawn: int
    valid: int
    fraud: int
    unavailable: int
    waiting: int
    accused: int
    lost: int


@dataclass(frozen=True, slots=True)
class Frame:
    """``elapsed``: chain seconds since the first block of the demonstration."""

    block: int
    elapsed: int
    rows: Sequence[Row]


class Screen(Protocol):
    def phase(self, title: str, line: str) -> None:
        """What happens now, in one line."""

    def note(self, line: str) -> None:
        """Something worth saying inside a phase."""

    def show(self, frame: Frame) -> None: ...


class PlainScreen:
    """Lines for a log or a pipe; the table only at the end of the work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last: Frame | None = None
        console.print(Text(INTRODUCTION), soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last is not None and error is None:
            self._console.print(table(self._last.rows))

    def phase(self, title: str, line: str) -> None:
        self._line(f"{title}: {line}")

    def note(self, line: str) -> None:
        self._line(f"  {line}")

    def show(self, frame: Frame) -> None:
        self._last = frame

    def _line(self, text: str) -> None:
        at = time.monotonic() - self._started
        self._console.print(Text(f"{at:6.1f} s  {text}"), soft_wrap=True)


class LiveScreen:
    """The same on a terminal, drawn anew as things move."""

    def __init__(self, console: Console) -> None:
        self._started = time.monotonic()
        self._said: list[Text] = [Text(INTRODUCTION, style="bold"), Text()]
        self._frame: Frame | None = None
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._render, transient=False)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def phase(self, title: str, line: str) -> None:
        for earlier in self._said[2:]:
            earlier.stylize("dim")
        self._said.append(Text.assemble((f"{title:<9}", "bold cyan"), line))

    def note(self, line: str) -> None:
        self._said.append(Text.assemble(" " * 9, (line, "italic")))

    def show(self, frame: Frame) -> None:
        self._frame = frame

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [*self._said]
        if self._frame is not None:
            seconds = time.monotonic() - self._started
            head = Text.assemble(
                ("\nblock ", "dim"),
                str(self._frame.block),
                ("   chain time ", "dim"),
                duration(self._frame.elapsed),
                ("   here ", "dim"),
                f"{seconds:.0f} s",
                ("   commitments ", "dim"),
                str(sum(row.answers for row in self._frame.rows)),
            )
            parts += [head, table(self._frame.rows)]
        return Padding(Group(*parts), (0, 1))


def table(rows: Sequence[Row]) -> Table:
    drawn = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    drawn.add_column("provider", no_wrap=True)
    drawn.add_column("what it does", no_wrap=True)
    for heading in ("answers", "drawn", "valid", "fraud", "hidden", "open", "accused", "lost"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        honest = row.kind == "honest"
        drawn.add_row(
            Text(row.name),
            Text(row.kind, style="green" if honest else "yellow"),
            _number(row.answers),
            _number(row.drawn),
            _number(row.valid, "green"),
            _number(row.fraud, "red"),
            _number(row.unavailable, "magenta"),
            _number(row.waiting, "dim"),
            _number(row.accused, "red"),
            _number(row.lost, "bold red"),
        )
    return drawn


def _number(count: int, style: str = "") -> Text:
    return Text(str(count), style=style) if count else Text("·", style="dim")


def summary(report: Report, window: int, files: Sequence[tuple[str, str]], commands: Sequence[str]) -> RenderableType:
    """The end of the story; ``files`` and ``commands``: where the record is and what to look at next."""
    board, money = report.board, report.board.money
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="bold")
    facts.add_column()
    facts.add_row("caught", _of(len(board.caught), len(board.wrong), "false answers whose data could be had"))
    facts.add_row("", _of(len(board.ended_by_demand), len(board.withheld), "withheld outputs, ended by a demand"))
    missed = f"{len(board.missed)}" + (
        f", none of them drawn: {report.sampled} of {board.commitments} were" if report.undrawn else ""
    )
    facts.add_row("missed", Text(missed, style="" if board.missed else "green"))
    right = board.commitments - len(board.wrong) - len(board.withheld)
    facts.add_row(
        "false",
        Text(f"{len(board.false)} accusations; {right} answers were honest", style="red" if board.false else "green"),
    )
    if board.slack_min is not None and board.slack_median is not None:
        text = (
            f"{duration(board.slack_min)} at least, {duration(board.slack_median)} in the median, of {duration(window)}"
        )
        facts.add_row("slack", text)
    facts.add_row(
        "money",
        f"{ether(money.slashed)} ether slashed: {ether(money.bounties)} to the challenger, {ether(money.burnt)} burnt",
    )
    facts.add_row(
        "",
        f"{ether(money.fees_paid)} ether of fees earned by answers that stood, {ether(money.fees_returned)} returned",
    )
    facts.add_row("", f"{ether(money.held)} ether left in the market when all have fetched what is theirs")
    if report.holds:
        facts.add_row(
            "sampled",
            f"{report.sampled} of {board.commitments} drawn; {report.epochs} anchored epochs audited against the chain",
        )
        facts.add_row(
            "checked", Text("recomputed from chain events and planted labels alone: it agrees", style="green")
        )
    for line in report.broken:
        facts.add_row(Text("BROKEN", style="bold red"), Text(line, style="red"))
    look = Table.grid(padding=(0, 2, 0, 0))
    look.add_column(style="bold")
    look.add_column(overflow="fold")
    for name, where in files:
        look.add_row(name, Text(where))
    for number, command in enumerate(commands):
        look.add_row("next" if number == 0 else "", Text(command, style="cyan"))
    style = "green" if report.holds else "red"
    return Group(Panel(facts, border_style=style, expand=False, title="what happened", title_align="left"), look)


def _of(part: int, whole: int, what: str) -> Text:
    return Text(f"{part} of {whole} {what}", style="green" if part == whole else "yellow")
