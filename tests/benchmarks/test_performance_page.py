"""The page of performance: its tables and pictures follow from what was measured."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import curves, performance_page
from benchmarks.svg import Chart

TRACKED, SLOTS = (100, 1_000), (1, 2)
FOUND = curves.Found(
    curves.Size(tracked=TRACKED, slots=SLOTS),
    curves.Whole(processor_ms=30, redis_ms=0.5, redis_bytes=2048, requests=2),
    {100: 1.0, 1_000: 1.5},
    {
        n: curves.Callbacks(redis_bytes=1024, redis_commands=15, web_ms=0.7, redis_ms=0.1)
        for n in TRACKED
    },
    {
        (n, slots): curves.Stops(
            late_p50_ms=2, late_p99_ms=6, per_s=1000, workers_ms=0.75, redis_ms=0.25
        )
        for n in TRACKED
        for slots in SLOTS
    },
)


@pytest.fixture
def page(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(performance_page.PAGE.read_text())
    return page


def test_the_page_gets_its_tables_between_its_marks_and_keeps_the_rest(page):
    before = page.read_text()
    performance_page.write(FOUND, page)
    once = page.read_text()
    assert "| 100 | 2 | 2.0 | 6.0 | 1,000 | 0.75 | 0.25 |" in once
    assert "| a claim | 1.50 x |" in once
    performance_page.write(FOUND, page)
    assert page.read_text() == once
    outside = re.compile(r"(<!-- (\w+): begin -->).*?(<!-- \2: end -->)", re.DOTALL)
    assert outside.sub("", once) == outside.sub("", before)


def test_the_page_without_its_marks_is_left_alone_and_named(page):
    page.write_text("# Performance\n")
    with pytest.raises(ValueError, match="lacks the marks <!-- curves: begin -->"):
        performance_page.write(FOUND, page)
    assert page.read_text() == "# Performance\n"


def test_sizes_are_calculated_from_what_was_measured():
    sizes = performance_page.parts(FOUND)["sizes"]
    # 300 recordings of five minutes begin one a second: 1,000 at once begin 3.33.
    assert "| 1,000 | 3.33 | 0.10 | 1,000.0 KiB | 16.5 GiB | 64.0 Mbit/s | 6.67 | 2 |" in sizes
    assert "| stops | 0.250 | 4,000 |" in sizes
    assert "| 5,000 calls on 20 accounts end | 5.0 s | 5.0 s | 5.0 s |" in sizes
    assert "| 5,000 calls on 100 accounts end | 1.0 s | 5.0 s | 5.0 s |" in sizes


def test_every_picture_of_the_page_is_drawn_with_its_lines_axes_and_units(page):
    performance_page.write(FOUND, page)
    shown = re.findall(r"!\[[^]]+\]\((performance/\w+\.svg)\)", page.read_text())
    assert len(shown) == len(performance_page.charts(FOUND)) >= 5
    for name in shown:
        words = [e.text for e in ET.parse(page.parent / name).iter() if e.text]
        assert {"100", "1,000", "calls that are tracked"} <= set(words), name
        assert {"ms", "bytes", "commands"} & set(words), name
    assert {Path(name).name for name in shown} == {
        path.name for path in (page.parent / "performance").iterdir()
    }


def test_a_line_is_drawn_to_scale_and_names_do_not_cover_each_other():
    drawing = Chart(
        title="a < b", x_label="x", y_label="ms", xs=(10, 100), lines={"one": (0, 5), "two": (5, 5)}
    ).svg()
    root = ET.fromstring(drawing)
    lines = [e.get("points") for e in root.iter() if e.tag.endswith("polyline")]
    assert lines == ["60.0,270.0 490.0,40.0", "60.0,40.0 490.0,40.0"]
    heights = [float(e.get("y")) for e in root.iter() if e.text in {"one", "two"}]
    assert abs(heights[0] - heights[1]) >= 14
