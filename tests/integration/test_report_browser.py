# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a real browser, Debian's Chromium without a screen: shown, searched, printed, with bad names, and judged by axe-core."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.report.data import digest
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.plugins.module_utils.report.page import as_html
from ansible_collections.meshops.istio.plugins.module_utils.report.reading import cluster_of, report_of
from ansible_collections.meshops.istio.tests.unit.report.results import compared, from_files, hostile, many, several

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="there is no Chromium: apt-get install chromium chromium-driver")
VISIBLE = "return [...document.querySelectorAll(arguments[0])].filter(one => !one.hidden && one.getClientRects().length).map(one => one.innerText)"
PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    driver.set_script_timeout(240)  # axe-core takes seconds, and on a loaded machine a minute
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of pages by name."""
    reports: dict[str, Report] = {
        "several": several(),
        "compared": report_of([*several().clusters[:2], cluster_of("west", from_files(compared()), "")]),
        "hostile": hostile(),
        "many": report_of([cluster_of("west", many(2000), "west")]),
    }
    directory = tmp_path_factory.mktemp("pages")
    for name, report in reports.items():
        (directory / f"{name}.html").write_text(as_html(report, digest(report)), encoding="utf-8")
    return {name: (directory / f"{name}.html").as_uri() for name in reports}


def shown(browser: Any, address: str, size: tuple[int, int] = DESK, scheme: str = "light") -> Any:
    """The page, opened anew."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(address)
    return browser


def search(browser: Any, text: str = "", state: str = "", cluster: str = "") -> str:
    """What the page says of the search, once it is done."""
    script = """
        const done = arguments[3], find = document.getElementById("find"), cluster = document.getElementById("cluster")
        document.getElementById("search").value = arguments[0]
        document.getElementById("state").value = arguments[1]
        if (cluster) cluster.value = arguments[2]
        find.requestSubmit()
        requestAnimationFrame(() => setTimeout(() => done(document.getElementById("said").textContent)))
    """
    return str(browser.execute_async_script(script, text, state, cluster))


def visible(browser: Any, selector: str) -> list[str]:
    return [str(text) for text in browser.execute_script(VISIBLE, selector)]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_is_shown(browser: Any, pages: dict[str, str], size: tuple[int, int]) -> None:
    page = shown(browser, pages["several"], size)
    assert page.get_log("browser") == []
    assert visible(page, "h1") == ["3 problems"]
    first = page.execute_script("return document.querySelector('.finding').getBoundingClientRect().top")
    assert first < size[1], "the first thing to do is on the first screen"
    assert len(visible(page, ".finding.broken .do")) == 3
    assert page.execute_script("return document.documentElement.scrollWidth") <= size[0], "nothing has to be moved sideways"
    drawn = page.execute_script("return [...document.querySelectorAll('.row[open] .way')].map(one => one.getBoundingClientRect().width)")
    assert drawn and all(200 < width <= size[0] for width in drawn)


def test_dark_and_light_differ(browser: Any, pages: dict[str, str]) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert shown(browser, pages["several"]).execute_script(colour) != shown(browser, pages["several"], scheme="dark").execute_script(colour)


def test_it_is_searched_and_filtered(browser: Any, pages: dict[str, str]) -> None:
    page = shown(browser, pages["several"])
    everything = len(page.find_elements("css selector", "#hosts ~ .rows .row"))
    assert search(page, "login.example").endswith(" entries")
    assert [text.splitlines()[0] for text in visible(page, "#hosts ~ .rows .row")] == ["login.example.com"]
    ends = [text.splitlines()[0] for text in visible(page, "#certificates ~ .rows .row")]
    assert ends == ["login.example.com", "Issuer of a shop"], "its issuer's end breaks it, too"
    search(page, state="broken")
    assert {text.splitlines()[0] for text in visible(page, "#hosts ~ .rows .row")} == {
        f"{name}.example.com" for name in ("api", "old", "status")
    }
    number = next(
        option.get_attribute("value") for option in page.find_elements("css selector", "#cluster option") if option.text == "east"
    )
    search(page, cluster=number)
    assert visible(page, ".finding.broken") == []
    search(page, "nothing has this name")
    assert "No host matches." in visible(page, ".nothing")
    assert search(page) == ""
    assert len([one for one in page.find_elements("css selector", "#hosts ~ .rows .row") if not one.get_attribute("hidden")]) == everything


def test_a_slash_begins_a_search(browser: Any, pages: dict[str, str]) -> None:
    page = shown(browser, pages["several"])
    page.find_element("css selector", "body").send_keys("/")
    assert page.execute_script("return document.activeElement.id") == "search"


def test_it_is_readable_without_its_script(browser: Any, pages: dict[str, str]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = shown(browser, pages["several"])
        assert page.execute_script("return document.documentElement.className") == ""
        assert visible(page, "#find") == [], "what would not work is not there"
        assert len(visible(page, ".finding.broken .do")) == 3
        page.find_element("css selector", "#hosts ~ .rows .row:not([open]) summary, #hosts ~ .rows .group summary").click()
        assert len(visible(page, ".way")) > 3
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_is_printed_with_everything(browser: Any, pages: dict[str, str], tmp_path: Path) -> None:
    page = shown(browser, pages["several"])
    page.execute_script(
        "addEventListener('beforeprint', () => { window.closed_ones = document.querySelectorAll('details:not([open])').length })"
    )
    before = page.execute_script("return document.querySelectorAll('details:not([open])').length")
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})["data"])
    assert pdf.startswith(b"%PDF-") and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type/Page") > 2
    assert page.execute_script("return window.closed_ones") == 0
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") == before > 0


def test_bad_names_do_no_harm(browser: Any, pages: dict[str, str]) -> None:
    page = shown(browser, pages["hostile"])
    assert page.get_log("browser") == []
    assert page.execute_script(
        "return [document.scripts.length, document.images.length, document.querySelectorAll('iframe,object').length]"
    ) == [1, 0, 0]
    search(page, "<script>alert(1)</script>")
    assert visible(page, "#hosts ~ .rows .row")
    search(page, "*[x](javascript:1)")
    assert visible(page, "#hosts ~ .rows .row")


def test_two_thousand_credentials_are_still_searched(browser: Any, pages: dict[str, str]) -> None:
    page = shown(browser, pages["many"])
    assert len(page.find_elements("css selector", "#certificates ~ .rows .row")) > 2000
    assert search(page, "host-1234.example.com").startswith("2 of 4")
    assert [text.splitlines()[0] for text in visible(page, "#hosts ~ .rows .row")] == ["host-1234.example.com"]
    page.find_element("css selector", "#hosts ~ .rows .row:not([hidden]) > summary").click()
    assert len(visible(page, ".row[open]:not([hidden]) .way")) == 1
    search(page)


@pytest.mark.parametrize(
    ("name", "size", "scheme"), [("several", PHONE, "light"), ("compared", DESK, "dark")], ids=["phone, light", "compared, desk, dark"]
)
def test_it_is_accessible(browser: Any, pages: dict[str, str], name: str, size: tuple[int, int], scheme: str) -> None:
    pytest.importorskip("axe_selenium_python", reason="axe-core's package wants Python 3.12")
    page = shown(browser, pages[name], size, scheme)
    page.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.execute_script((files("axe_selenium_python") / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    told = [f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in found["violations"]]
    assert told == []
    assert len(found["passes"]) > 20, "axe-core looked at it"
