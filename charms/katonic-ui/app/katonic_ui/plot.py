"""A metric over steps, as what an SVG draws: no style in it, no script."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 900, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 886, 14, 284
MOST_RUNS, MOST_POINTS, MOST_ROWS = 6, 400, 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One run's line.

    Attributes:
        path: What the pen draws, an SVG path.
        end: Where the line ends.
    """

    name: str
    path: str
    end: Point
    last: float


@dataclass(frozen=True)
class Plot:
    """A metric's plot.

    Attributes:
        across: The lines across, each with its value, and `down` the marks of steps.
        rows: The same as numbers: a step, and the value of each series there.
        left_out: How many runs are not drawn.
    """

    key: str
    series: Sequence[Series]
    across: Sequence[tuple[float, str]]
    down: Sequence[tuple[float, str]]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    description: str
    left_out: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    bottom: int = BOTTOM


def plot(key: str, runs: Iterable[Any]) -> Plot:
    """Return the plot of what the API says of a metric: the first runs with any number."""
    found = [(it["name"] or it["id"], _points(it["points"])) for it in runs]
    drawn = [(name, points) for name, points in found if points]
    left_out, drawn = len(drawn[MOST_RUNS:]), drawn[:MOST_RUNS]
    if not drawn:
        return Plot(key, (), (), (), (), "", 0)
    everything = [it for _, points in drawn for it in points]
    steps = _scale([it[0] for it in everything], LEFT, RIGHT, whole=True)
    values = _scale([it[1] for it in everything], BOTTOM, TOP)
    series = [
        Series(
            name=name,
            path="M" + "L".join(f"{steps(x):.1f} {values(y):.1f}" for x, y in thinned(points)),
            end=(round(steps(points[-1][0]), 1), round(values(points[-1][1]), 1)),
            last=points[-1][1],
        )
        for name, points in drawn
    ]
    said = (f"{name}: from {p[0][1]:.4g} to {p[-1][1]:.4g} in {len(p)} steps" for name, p in drawn)
    return Plot(
        key=key,
        series=series,
        across=[(round(values(it), 1), f"{it:.6g}") for it in values.ticks],
        down=[(round(steps(it), 1), f"{it:.6g}") for it in steps.ticks],
        rows=_rows([points for _, points in drawn]),
        description="; ".join(said) + ".",
        left_out=left_out,
    )


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return no more points than one can see, the lowest and the highest of each stretch kept."""
    if len(points) <= MOST_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / MOST_POINTS)
    kept = [points[0]]
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda it: it[1]), max(part, key=lambda it: it[1])})
    return [*kept, points[-1]]


class _scale:  # noqa: N801 - it is called like a function
    """Leads from values to where they are drawn."""

    def __init__(
        self, values: Sequence[float], begin: float, end: float, whole: bool = False
    ) -> None:
        low, high = min(values), max(values)
        if low == high:
            room = abs(low) / 10 or 1
            low, high = low - (0 if whole else room), high + (1 if whole else room)
        step = _step((high - low) / 5)
        if whole:
            step = max(step, 1)
        else:
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        first = math.ceil(low / step)
        self.ticks = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
        self._low, self._unit, self._begin = low, (end - begin) / (high - low), begin

    def __call__(self, value: float) -> float:
        """Return where the value is drawn."""
        return self._begin + (value - self._low) * self._unit


def _step(rough: float) -> float:
    """Return the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(it * power for it in (1, 2, 5, 10) if it * power >= rough * 0.999)


def _points(points: Iterable[Any]) -> list[Point]:
    """Return the last finite value of each step, in the order of steps."""
    found: dict[float, float] = {}
    for step, value, *_ in points:
        if isinstance(value, int | float) and math.isfinite(value):
            found[float(step)] = float(value)
    return sorted(found.items())


def _rows(series: Sequence[Sequence[Point]]) -> list[tuple[str, Sequence[float | None]]]:
    known = [dict(points) for points in series]
    steps = sorted({step for it in known for step in it})
    every = math.ceil(len(steps) / MOST_ROWS)
    shown = sorted({*steps[::every], steps[-1]})
    return [(f"{step:g}", [it.get(step) for it in known]) for step in shown]
