"""The report in a real browser: what a reader sees, points at, clicks, types and prints.

Without Chromium these tests are skipped, and fail where ``CI`` is ``true``. Screenshots are kept
in the folder that ``QWAVE_SCREENSHOTS`` names, else in the test's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwave.report import (
    Column,
    Section,
    Table,
    front_png,
    study_html,
)
from qwave.scores import FrontPoint, Interval

from .browser import Page, find_chromium, running_browser
from .samples import make_point, make_points, many_points, write_report

pytestmark = pytest.mark.slow

LONG = "int1+" * 30 + "fp32, (" + ", ".join(["640"] * 20) + "), " + "Verylongclassname" * 8
LABEL = """[...document.querySelectorAll('.hoverlayer .hovertext')].map((label) => ({
  lines: [...label.querySelectorAll('tspan.line')].map((line) => line.textContent),
  box: label.getBoundingClientRect().toJSON(),
}))"""
LIVE = "document.querySelector('.chart.is-live')"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    executable = find_chromium()
    if executable is None:
        message = "no Chromium: install it, on Debian with `apt-get install chromium`"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running_browser(executable, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    browser.size(1400)
    browser.media()
    yield browser
    assert browser.problems == []


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("QWAVE_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = front_png(
        many_points(), title="esc10", reference_accuracy=0.9, size_budget_bytes=20_000_000
    )
    return write_report(tmp_path_factory.mktemp("report"), many_points(), picture=picture)


def long_points() -> list[FrontPoint]:
    return [
        make_point(
            p.number,
            is_front=p.is_front,
            accuracy=p.accuracy,
            label=f"{LONG} <b>{p.number}</b>",
            configuration={f"model.{'x' * 80}": LONG, "train.epochs": p.number},
        )
        for p in make_points()
    ]


def write_odd(folder: Path, kind: str) -> Path:
    if kind == "none":
        return write_report(folder, [], importances={}, choices={}, commands={}, summary={})
    if kind == "one":
        return write_report(folder, [make_point(0)], importances={})
    if kind == "many":
        return write_report(folder, many_points(2000))
    return write_report(
        folder,
        long_points(),
        title=LONG,
        notes=[LONG, f"'{LONG}' & <i>others</i>"],
        summary={LONG: LONG},
        commands={LONG: LONG},
        importances={"accuracy": {LONG: Interval(0.4, 0.2, 0.6)}},
    )


def open_live(page: Page, file: Path) -> None:
    page.open(file)
    page.wait_for(LIVE)


def mark_places(page: Page) -> list[tuple[float, float]]:
    """Where the marks are in the window, after scrolling the chart to its middle."""
    page.run("document.querySelector('.chart').scrollIntoView({ block: 'center' })")
    places = page.run(
        """[...document.querySelectorAll('#qwave-front .points path')].map((mark) => {
          const box = mark.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        })"""
    )
    return [(x, y) for x, y in places]


def hovered(page: Page, place: tuple[float, float]) -> dict[str, Any]:
    """The one label that appears where the mouse is put."""
    page.move(2, 2)
    page.wait_for("!document.querySelector('.hoverlayer .hovertext')")
    page.move(*place)
    page.wait_for("document.querySelector('.hoverlayer .hovertext')")
    labels = page.run(LABEL)
    assert len(labels) == 1
    return dict(labels[0])


def is_shown(page: Page, selector: str) -> bool:
    """Whether an element takes room and can be seen."""
    return bool(
        page.run(
            f"""(() => {{
              const element = document.querySelector({selector!r});
              return element.getClientRects().length > 0
                && getComputedStyle(element).visibility === 'visible';
            }})()"""
        )
    )


def centre(page: Page, selector: str) -> tuple[float, float]:
    x, y = page.run(
        f"""(() => {{
          const element = document.querySelector({selector!r});
          element.scrollIntoView({{ block: 'nearest' }});
          const box = element.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )
    return x, y


def test_headline_picture_and_table_stand_before_plotly_runs(page: Page, report: Path) -> None:
    # Without frames to draw, the page's script never comes to start Plotly.
    hold = "window.held = []; window.requestAnimationFrame = (run) => window.held.push(run);"
    script = page.call("Page.addScriptToEvaluateOnNewDocument", source=hold)["identifier"]
    page.open(report)
    page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    assert page.run("typeof Plotly") == "undefined"
    assert page.run("document.querySelector('.lead').textContent").endswith(".")
    assert page.run("document.querySelector('.chart img').naturalWidth") == 1600
    for selector in (".lead", ".chart img", "tbody tr", ".bars", ".notes"):
        assert is_shown(page, selector), selector
    page.run("document.querySelector('tr[data-point]').focus()")
    page.press("Enter")
    assert is_shown(page, "#panel")
    page.press("Escape")

    tops = "[...document.querySelectorAll('h1, h2')].map((h) => h.getBoundingClientRect().top)"
    before = page.run(tops)
    page.run("window.held.splice(0).forEach((run) => run())")
    page.run("window.held.splice(0).forEach((run) => run())")
    page.wait_for(LIVE)
    assert page.run(tops) == before, "the page jumps when the chart takes the picture's place"
    assert not is_shown(page, ".chart img")
    assert is_shown(page, "#qwave-front .main-svg")


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (700, 500), (390, 844), (320, 568)])
def test_every_mark_has_a_label_of_six_to_eight_lines(
    page: Page, report: Path, width: int, height: int
) -> None:
    page.size(width, height)
    open_live(page, report)
    places = mark_places(page)
    assert len(places) == 60
    # Each of the front, and of the others some.
    for place in [*places[-8:], *places[:-8:7]]:
        label = hovered(page, place)
        assert 6 <= len(label["lines"]) <= 8, label
        text = "\n".join(label["lines"])
        for word in ("accuracy ", "95 % interval ", "size ", " bytes)", "expert", "trial "):
            assert word in text, label
        box = label["box"]
        assert box["left"] >= 0, (place, box)
        assert box["right"] <= width, (place, box)
        assert box["bottom"] > box["top"] + 60, (place, box)


def test_a_label_with_long_names_appears_too(page: Page, tmp_path: Path) -> None:
    file = write_odd(tmp_path, "long")
    for width in (1400, 390):
        page.size(width)
        open_live(page, file)
        label = hovered(page, mark_places(page)[-1])
        assert len(label["lines"]) == 8, label
        assert label["lines"][1].endswith("…")
        assert label["box"]["right"] <= width


def test_a_click_opens_the_panel_of_the_point(page: Page, report: Path) -> None:
    open_live(page, report)
    place = mark_places(page)[-1]
    lines = hovered(page, place)["lines"]
    page.click(*place)
    page.wait_for("!document.getElementById('panel').hidden")
    title = page.run("document.getElementById('panel-title').textContent")
    number = int(title.removeprefix("Trial ").split(":")[0])
    assert lines[0] in title
    point = many_points()[number]
    text = page.run("document.getElementById('panel').innerText")
    for fact in (point.digest, point.mlflow_run_id, f"quant.bits\n{number + 1}", *lines[1:-1]):
        assert fact in text, fact
    assert f"qwave export {number} --sweep esc10 --store '/a b'" in text
    assert "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'" in text
    assert page.run("document.querySelector('#panel a').href") == (
        f"http://127.0.0.1:5000/#/experiments/7/runs/{point.mlflow_run_id}"
        "?workflowType=machine_learning"
    )
    # The chart gives way to the panel and marks the point.
    page.wait_for(
        "document.querySelector('#qwave-front .main-svg').getBoundingClientRect().right"
        " <= document.getElementById('panel').getBoundingClientRect().left"
    )
    page.click(*centre(page, "#panel [data-close]"))
    assert not is_shown(page, "#panel")


def test_the_panel_works_by_keyboard(page: Page, report: Path) -> None:
    open_live(page, report)
    page.run("document.querySelectorAll('tr[data-point]')[1].focus()")
    page.press("Enter")
    assert is_shown(page, "#panel")
    assert page.run("document.activeElement.id") == "panel"
    first = page.run("document.getElementById('panel-title').textContent")
    assert first == "Trial 1: int2, 8"
    # Its first stop is the way to the next smaller file, its second to the next larger one.
    for _ in range(2):
        page.press("Tab")
    page.press("Enter")
    sizes = sorted((p.size_bytes, p.number) for p in many_points())
    following = sizes[sizes.index((4000, 1)) + 1][1]
    title = page.run("document.getElementById('panel-title').textContent")
    assert title.startswith(f"Trial {following}: ")
    page.press("Escape")
    assert not is_shown(page, "#panel")
    assert page.run("document.activeElement.dataset.point") == "1"


def test_commands_are_copied_with_and_without_the_newer_clipboard(
    page: Page, report: Path
) -> None:
    open_live(page, report)
    page.run(
        "document.addEventListener('copy', () => { window.copied = String(getSelection()); })"
    )
    page.run("document.querySelector('tr[data-point]').click()")
    for _ in range(2):
        page.click(*centre(page, "#panel [data-part=export] button"))
        page.wait_for(
            "document.querySelector('#panel [data-part=export] button').textContent === 'Copied'"
        )
        page.wait_for(
            "document.querySelector('#panel [data-part=export] button').textContent === 'Copy'"
        )
        page.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    assert page.run("window.copied") == "qwave export 0 --sweep esc10 --store '/a b'"


@pytest.mark.parametrize("kind", ["plain", "none", "one", "many", "long"])
def test_no_page_is_wider_than_its_window(
    page: Page, report: Path, tmp_path: Path, kind: str
) -> None:
    file = report if kind == "plain" else write_odd(tmp_path, kind)
    for width in (1400, 390, 320):
        page.size(width)
        page.open(file)
        if kind != "none":
            page.wait_for(LIVE)
        assert page.run("document.documentElement.scrollWidth") <= width
        if kind != "none":
            page.run("document.querySelector('tr[data-point]').click()")
            assert page.run(OVERFLOW) <= 0
            assert page.run("panel.scrollWidth - panel.clientWidth") <= 0


def test_rows_are_cards_on_a_telephone(page: Page, report: Path) -> None:
    def headings() -> list[str]:
        found = page.run(
            """[...document.querySelectorAll('tr[data-point] td')].slice(0, 8).map(
              (cell) => getComputedStyle(cell, '::before').content)"""
        )
        return [text.strip('"') for text in found]

    open_live(page, report)
    assert set(headings()) == {"none"}
    assert is_shown(page, "thead")
    page.size(390)
    page.wait_for("matchMedia('(max-width: 640px)').matches")
    assert headings()[1:5] == ["accuracy", "size", "experts", "trial"]
    assert not is_shown(page, "thead")
    # Nothing of a heading is cut.
    assert page.run(
        """[...document.querySelectorAll('h1, h2, h3, .lead, .gtitle, .xtitle, .ytitle')].every(
          (title) => title.getBoundingClientRect().right <= 390
            && title.getBoundingClientRect().left >= 0)"""
    )


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour ``rgb(...)`` (WCAG 2)."""
    channels = [int(word) / 255 for word in colour[4:-1].split(",")[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


COLOURS = """(() => {
  const style = (selector) => getComputedStyle(document.querySelector(selector));
  return {
    page: style('body').backgroundColor, text: style('body').color,
    muted: style('figcaption').color, link: style('tr[data-point] td.model').color,
    chart: style('#qwave-front .main-svg').backgroundColor,
    tick: style('#qwave-front .xtick text').fill,
    mark: getComputedStyle([...document.querySelectorAll('.points path')].at(-1)).fill,
  };
})()"""


def test_dark_mode_reaches_the_page_and_the_chart_and_both_can_be_read(
    page: Page, report: Path
) -> None:
    open_live(page, report)
    light = page.run(COLOURS)
    page.media(scheme="dark")
    page.wait_for(
        "getComputedStyle(document.querySelector('#qwave-front .main-svg')).backgroundColor"
        " === getComputedStyle(document.body).backgroundColor"
    )
    dark = page.run(COLOURS)
    assert light["page"] == light["chart"] == "rgb(255, 255, 255)"
    assert luminance(dark["page"]) < 0.02
    assert dark["chart"] == dark["page"]
    assert light["mark"] != dark["mark"]
    for colours in (light, dark):
        for name in ("text", "muted", "link", "tick"):
            values = sorted(luminance(colours[key]) for key in (name, "page"))
            contrast = (values[1] + 0.05) / (values[0] + 0.05)
            assert contrast >= 4.5, (name, colours)


def test_print_shows_the_picture_and_the_panel(
    page: Page, report: Path, screenshots: Path
) -> None:
    open_live(page, report)
    page.run("document.querySelector('tr[data-point]').click()")
    page.media(scheme="dark", medium="print")
    assert is_shown(page, ".chart img")
    assert page.run("getComputedStyle(document.querySelector('.chart img')).filter") == "none"
    assert not is_shown(page, "#qwave-front")
    assert not is_shown(page, ".command button")
    assert page.run("getComputedStyle(panel).position") == "static"
    assert luminance(page.run("getComputedStyle(document.body).color")) < 0.1
    page.media()
    content = page.pdf(screenshots / "report.pdf")
    assert content.startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_screenshots(page: Page, report: Path, screenshots: Path, width: int, scheme: str) -> None:
    page.size(width)
    page.media(scheme=scheme)
    open_live(page, report)
    content = page.screenshot(screenshots / f"report_{width}_{scheme}.png")
    assert content.startswith(b"\x89PNG")
    hovered(page, mark_places(page)[-3])
    page.screenshot(screenshots / f"report_{width}_{scheme}_hover.png", is_whole=False)
    page.run("document.querySelector('tr[data-point]').click()")
    page.screenshot(screenshots / f"report_{width}_{scheme}_panel.png", is_whole=False)


def test_the_page_of_a_study_is_a_page_of_the_same_kind(
    page: Page, tmp_path: Path, screenshots: Path
) -> None:
    table = Table(
        tuple(Column(f"measure {i}", "share") for i in range(9)),
        (tuple(Interval(0.5, 0.4, 0.6) for _ in range(9)),) * 3,
    )
    picture = front_png(
        make_points(), reference_accuracy=0.9, size_budget_bytes=10**7, title="a front"
    )
    file = tmp_path / "study.html"
    file.write_text(
        study_html(
            title="The front, confirmed",
            summary={"study": LONG},
            sections=[Section("a", "What came out", "Text.\n\nMore.", table, picture)],
            commands={"browse": LONG},
        ),
        encoding="utf-8",
    )
    for width in (1400, 390):
        for scheme in ("light", "dark"):
            page.size(width)
            page.media(scheme=scheme)
            page.open(file)
            assert page.run("document.documentElement.scrollWidth") <= width
            is_dark = luminance(page.run("getComputedStyle(document.body).backgroundColor")) < 0.02
            assert is_dark == (scheme == "dark")
            page.screenshot(screenshots / f"study_{width}_{scheme}.png")
