# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every format of a report, read by what reads that format; with hostile names, too."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.report.data import digest
from ansible_collections.meshops.istio.plugins.module_utils.report.formats import FORMATS
from ansible_collections.meshops.istio.plugins.module_utils.report.markup import calendar, markdown, plain, tag, xml
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.plugins.module_utils.report.reading import cluster_of, report_of
from ansible_collections.meshops.istio.tests.unit.report.results import compared, faulty, from_files, hostile, many, result, several

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
EMPTY = report_of([])
FILES = report_of([cluster_of("west", from_files(compared()), "")])
REPORTS = {"several": several(), "hostile": hostile(), "empty": EMPTY, "one": report_of([cluster_of("west", faulty(), "")]), "files": FILES}


def made(report: Report, name: str) -> str:
    return FORMATS[name][1](report, digest(report))


@pytest.fixture(params=REPORTS, name="report")
def _report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_results_make_the_same_bytes_and_name_their_digest(report: Report, name: str) -> None:
    text = made(report, name)
    assert text == made(report, name)
    assert text.endswith("\n") and digest(report) in text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\u202e]", text)


# --- data


def test_json_is_as_the_schema_says(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the oldest environments have no jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(made(report, "json")))


def test_the_schema_refuses_what_is_no_report() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the oldest environments have no jsonschema")
    data = json.loads(made(several(), "json"))
    data["clusters"][0]["state"] = "fine"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_json_has_pem_only_where_it_was_asked_for() -> None:
    assert "BEGIN CERTIFICATE" not in made(several(), "json")
    report = report_of([cluster_of("west", result([], content=True), "")])
    assert json.loads(made(report, "json"))["certificates"] == []


# --- pipelines


def test_junit_counts_are_those_of_its_cases(report: Report) -> None:
    root = ElementTree.fromstring(made(report, "junit"))  # noqa: S314 (our own)
    suites = root.findall("testsuite")
    assert [one.get("name") for one in suites] == [plain(one.name).replace("\n", " ") for one in report.clusters]
    for scope in (root, *suites):
        cases = scope.findall(".//testcase")
        for attribute, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(scope.get(attribute, "-1")) == sum(case.find(element) is not None for case in cases), attribute
        assert int(scope.get("tests", "-1")) == len(cases)
        assert all(case.get("name") and case.get("classname") for case in cases)


def test_junit_tells_what_breaks() -> None:
    root = ElementTree.fromstring(made(several(), "junit"))  # noqa: S314 (our own)
    failed = [case.get("name", "") for case in root.iter("testcase") if case.find("failure") is not None]
    assert {"api.example.com", "status.example.com"} <= set(failed) and "shop.example.com" not in failed
    assert any(name.startswith("MIT0101 ") for name in failed)
    (error,) = root.iter("error")
    assert error.get("message") == "no answer from the API server"


def test_sarif_has_what_its_specification_requires(report: Report) -> None:
    log = json.loads(made(report, "sarif"))
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert ids == sorted(set(ids))
    for rule in driver["rules"]:
        assert re.fullmatch(r"https://\S+", rule["helpUri"])
        assert all(rule[each]["text"] for each in ("shortDescription", "fullDescription", "help")), "GitHub demands them"
    for one in run["results"]:
        assert one["message"]["text"] and one["level"] in ("none", "note", "warning", "error")
        assert ids[one["ruleIndex"]] == one["ruleId"]
        assert len(one["locations"]) == 1
        for location in (*one["locations"], *one["relatedLocations"]):
            assert re.fullmatch(r"[A-Za-z0-9._~%/-]+", location["physicalLocation"]["artifactLocation"]["uri"])
        assert [each["id"] for each in one["relatedLocations"]] == list(range(1, len(one["relatedLocations"]) + 1))
        for each in one.get("suppressions", ()):
            assert each["kind"] in ("inSource", "external")
    assert [one["executionSuccessful"] for one in run["invocations"]] == [not one.error for one in report.clusters]


def test_sarif_tells_one_finding_from_another() -> None:
    (run,) = json.loads(made(several(), "sarif"))["runs"]
    west = [one for one in run["results"] if one["properties"]["cluster"] == "west"]
    marks = [json.dumps(one["partialFingerprints"]) for one in west]
    assert len(marks) == len(set(marks)) > 3
    assert [one["suppressions"][0]["justification"] for one in west if "suppressions" in one] == ["known"]


def test_sarif_points_to_the_line_where_an_object_stands() -> None:
    """As GitHub's code scanning wants it: the first location, with a relative URI and a line from 1."""
    (run,) = json.loads(made(FILES, "sarif"))["runs"]
    (missing,) = [one for one in run["results"] if one["properties"]["code"] == "credential_missing"]
    place = missing["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "deploy/shop%20%26%20co.yaml"}, "region": {"startLine": 7}}
    assert missing["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "west/Gateway default/api"
    for one in run["results"]:
        for location in (*one["locations"], *one["relatedLocations"]):
            uri, region = location["physicalLocation"]["artifactLocation"]["uri"], location["physicalLocation"]["region"]
            assert not uri.startswith(("/", "..")) and "://" not in uri and region["startLine"] >= 1


def test_sarif_of_a_file_in_no_repository_is_a_uri() -> None:
    found = from_files(faulty(), "/srv/a b.yaml")
    (run,) = json.loads(made(report_of([cluster_of("west", found, "")]), "sarif"))["runs"]
    uris = {each["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"] for each in one["locations"]}
    assert "file:///srv/a%20b.yaml" in uris


def test_junit_names_the_file() -> None:
    root = ElementTree.fromstring(made(FILES, "junit"))  # noqa: S314 (our own)
    named = {(case.get("file"), case.get("line")) for case in root.iter("testcase") if case.get("name", "").startswith("MIT0101 ")}
    assert named == {("deploy/shop & co.yaml", "7")}


def test_people_see_files_and_what_is_new_and_gone() -> None:
    page = " ".join(" ".join(Page(made(FILES, "html")).text).split())
    assert "Gateway default/api (deploy/shop & co.yaml, line 7)" in page
    assert "Gone since the last time" in page and "the former one is missing" in page and "1 new, 1 gone" in page
    assert page.count(" new MIT") == 1
    text = made(FILES, "markdown")
    assert "### New problem: A credential is not where istiod looks for it\n" in text and "### Problem: " in text
    assert "## Gone since the last time" in text and "the former one is missing" in text
    assert "Gone since" not in made(several(), "html") + made(several(), "markdown")


def test_json_has_files_and_what_is_new_and_gone() -> None:
    (west,) = json.loads(made(FILES, "json"))["clusters"]
    assert [west["findings"][number]["code"] for number in west["compared"]["new"]] == ["credential_missing"]
    assert [one["evidence"] for one in west["compared"]["gone"]] == [["the former one is missing"]]
    (source,) = west["findings"][west["compared"]["new"][0]]["sources"]
    assert source == {"object": "Gateway default/api", "file": "deploy/shop & co.yaml", "line": 7}
    assert {one["compared"] for one in json.loads(made(several(), "json"))["clusters"]} == {None}


# --- a calendar


def test_the_calendar_is_read_by_a_strict_reader(report: Report) -> None:
    icalendar = pytest.importorskip("icalendar", reason="the oldest environments have no icalendar")
    text = made(report, "ics")
    events = icalendar.Calendar.from_ical(text).walk("VEVENT")
    used = [one for one in report.certificates if one.is_used]
    assert [event["UID"].split("@")[0] for event in events] == [one.fingerprint.replace(":", "") for one in used]
    assert [event["DTSTART"].dt for event in events] == [one.not_after for one in used]
    assert not any(event.errors for event in events)


def test_lines_of_the_calendar_are_short_and_end_as_they_must(report: Report) -> None:
    lines = made(report, "ics").encode().split(b"\r\n")
    assert lines[-1] == b"" and lines[0] == b"BEGIN:VCALENDAR" and lines[-2] == b"END:VCALENDAR"
    for line in lines:
        assert len(line) <= 75 and b"\n" not in line and b"\r" not in line
        line.decode()  # no character is cut


def test_the_calendar_says_what_breaks() -> None:
    unfolded = made(several(), "ics").replace("\r\n ", "")
    assert "SUMMARY:Certificate ends: login.example.com\r\n" in unfolded
    assert "Breaks: login.example.com\\nwest: Secret istio-system/login" in unfolded


# --- for people


class Page(HTMLParser):
    """What a page holds, and whether its elements are closed as they were opened."""

    VOID = ("meta", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._met(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._met(tag, attrs)

    def _met(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append((tag, given))
        self.ids += [given["id"]] if given.get("id") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_loads_nothing(report: Report) -> None:
    page = Page(made(report, "html"))
    assert len(page.ids) == len(set(page.ids))
    names = {name for name, __ in page.elements}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "audio", "video"}
    assert [given for name, given in page.elements if name == "script"] == [{}], "our own, and it is inline"
    for name, given in page.elements:
        assert not any(key.startswith("on") or key in ("src", "srcset", "style", "xlink:href") for key in given), (name, given)
        target = given.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in page.ids, target
        else:
            assert name == "a" and target.startswith("https://github.com/meshops/") if "href" in given else True
    style = made(report, "html").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_hostile_names_are_text() -> None:
    page = Page(made(hostile(), "html"))
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert made(hostile(), "html").count("<script>") == 1


def test_the_page_says_what_to_do() -> None:
    text = " ".join(" ".join(Page(made(several(), "html")).text).split())
    assert "3 problems" in text and "south" in text and "no answer from the API server" in text
    for name in ("api", "status", "old"):
        assert f"{name}.example.com" in text
    assert "Create it in istio-system first" in text


def test_ways_are_drawn_with_the_station_that_breaks() -> None:
    page = Page(made(report_of([cluster_of("west", faulty(), "")]), "html"))
    said = [given["aria-label"] or "" for name, given in page.elements if given.get("class") == "way"]
    assert "The way of api.example.com: Client broken, Gateway right, Certificate broken, Route right, Workload right" in said
    assert len(said) == len(several().clusters[2].hosts)


def test_a_large_page_stays_small() -> None:
    text = made(report_of([cluster_of("west", many(200), "")]), "html")
    assert text.count('class="way"') > 200
    assert len(text) < 200 * 6_000


def test_markdown_has_no_mark_that_a_name_made() -> None:
    text = made(hostile(), "markdown")
    assert "<script" not in re.sub(r"\\.", "", text)
    assert "](javascript" not in re.sub(r"\\.", "", text)
    assert all(line.count("|") % 5 in (0, 4) for line in re.sub(r"\\.", "", text).splitlines() if line.startswith("|"))


def test_markdown_says_what_to_do() -> None:
    text = made(several(), "markdown")
    assert text.startswith("# Gateway TLS: 3 problems\n")
    assert "### Problem: A credential is not where istiod looks for it (west)" in text
    assert "**To do:** " in text


# --- the one place that escapes


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (tag("p", "<b>&\"'"), "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"),
        (tag("a", "x", href='"><script>'), '<a href="&quot;&gt;&lt;script&gt;">x</a>'),
        (tag("p", tag("b", "1"), None, ["2", tag("i", "<")]), "<p><b>1</b>2<i>&lt;</i></p>"),
        (tag("input", hidden=True, disabled=False, data_x=None), "<input hidden>"),
        (xml("a", "]]>\x00\ud800", b=None), "<a>]]&gt;\ufffd\ufffd</a>"),
        (markdown("a|b\n# <x> [y](z) `q`"), "a\\|b \\# \\<x\\> \\[y\\]\\(z\\) \\`q\\`"),
        (calendar("a;b,c\\d\ne"), "a\\;b\\,c\\\\d\\ne"),
    ],
)
def test_escaping(written: Any, expected: str) -> None:
    assert written == expected
