"""Progress on stderr, where a person watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """A bar with rate and time left; nothing where stderr is no terminal or `quiet` is set.

    `total` counts bytes or rows, by `unit`.
    """

    def __init__(self, what: str, total: int, *, unit: Literal["bytes", "rows"], quiet: bool = False) -> None:
        self._bar = None if quiet or not sys.stderr.isatty() else _bar(unit)
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, detail="")

    def advance(self, amount: int, detail: str = "") -> None:
        """So much more is done; `detail` says what it was."""
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, detail=detail[-40:])

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(unit: str) -> rich.progress.Progress:
    from rich import progress
    from rich.console import Console

    amount: tuple[progress.ProgressColumn, ...] = (
        progress.MofNCompleteColumn(),
        _rate_column(),
    )
    if unit == "bytes":
        amount = (progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn())
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *amount,
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


def _rate_column() -> rich.progress.ProgressColumn:
    """Rows a second; rich itself has only bytes."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f}/s" if speed else "-/s")

    return RateColumn()
