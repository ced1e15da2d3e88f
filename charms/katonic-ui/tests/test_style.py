"""The colours: every text can be read on every ground, light and dark."""

import re
from pathlib import Path

import pytest
from katonic_ui.plot import plot, thinned

STYLE = Path(__file__).parents[1] / "app/katonic_ui/static/style.css"
PAIRS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE.read_text()
    )
}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return sum(a * b for a, b in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21. Source: WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "grounds", "least"),
    [
        ("text", ["ground", "surface", "sunk", "accent-soft"], 4.5),
        ("muted", ["ground", "surface", "sunk"], 4.5),
        ("accent", ["ground", "surface"], 4.5),
        ("accent-strong", ["ground", "surface", "sunk", "accent-soft"], 4.5),
        ("on-accent", ["accent", "accent-strong"], 4.5),
        ("good", ["surface", "good-soft"], 4.5),
        ("bad", ["ground", "surface", "bad-soft"], 4.5),
        ("edge", ["ground", "surface"], 3.0),
        *((f"series-{number}", ["surface"], 3.0) for number in range(1, 7)),
    ],
)
def test_what_is_written_can_be_read(scheme, front, grounds, least):
    for ground in grounds:
        seen = contrast(PAIRS[front][scheme], PAIRS[ground][scheme])
        assert seen >= least, f"{front} on {ground}: {seen:.2f}"


def test_the_style_has_no_colour_that_is_not_a_pair():
    rest = re.sub(r"light-dark\([^;]*\)", "", STYLE.read_text())
    assert not re.findall(r"#[0-9a-f]{3,8}\b(?=[; ,)])", rest)


# --- plots


def test_a_plot_has_a_line_for_each_run_with_numbers_within_its_frame():
    runs = [
        {"id": "a", "name": "one", "points": [[0, 1.0, 0], [10, 0.5, 0], [5, 0.75, 0]]},
        {"id": "b", "name": "", "points": [[0, float("nan"), 0], [3, None, 0]]},
        {"id": "c", "name": "three", "points": [[2, 0.25, 0]]},
    ]
    made = plot("loss", runs)
    assert [it.name for it in made.series] == ["one", "three"]
    numbers = [float(it) for one in made.series for it in re.findall(r"[\d.]+", one.path)]
    assert all(0 <= it <= made.width for it in numbers)
    assert made.series[0].last == 0.5
    assert [label for _, label in made.across] == ["0.2", "0.4", "0.6", "0.8", "1"]
    assert made.rows[0] == ("0", [1.0, None])


@pytest.mark.parametrize("value", [0, 1, -3.5, 1e-9, 1e12])
def test_a_plot_of_one_value_is_a_plot(value):
    made = plot("x", [{"id": "a", "name": "one", "points": [[7, value, 0]]}])
    assert made.series[0].last == value
    assert made.across


def test_a_plot_of_nothing_draws_nothing():
    assert plot("x", [{"id": "a", "name": "one", "points": []}]).series == ()


def test_of_too_many_points_the_peaks_are_kept():
    points = [(float(step), 1.0 if step == 777 else 0.0) for step in range(50_000)]
    kept = thinned(points)
    assert len(kept) < 1000
    assert (777.0, 1.0) in kept
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]


def test_of_too_many_runs_the_first_are_drawn():
    runs = [{"id": f"{n}", "name": f"r{n}", "points": [[0, n, 0]]} for n in range(9)]
    made = plot("x", runs)
    assert (len(made.series), made.left_out) == (6, 3)
