# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation's writes on a model of server-side apply: at no time a mixed pair, at any time a way back, nothing left after the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.credentials import Wanted, refs
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import LAYOUTS, Layout, read_as_istiod, secrets
from ansible_collections.meshops.istio.plugins.module_utils.istio.rotation_marker import ANNOTATION, Marker, current, marker_of, previous
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import Ref
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit
from ansible_collections.meshops.istio.plugins.module_utils.rotation.transaction import (
    Rotation,
    is_same,
    restored_view,
    under_way,
    unfinished,
    wave_problems,
    waves,
)
from ansible_collections.meshops.istio.plugins.module_utils.rotation.writes import (
    cleaned,
    content_before,
    finishing,
    restoring,
    switching,
    touching,
)
from ansible_collections.meshops.istio.tests.unit.cluster.test_cluster_credentials import FULL, Server, codes, plan, wanted

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
MARKER = Marker("r1", "nobody", "me@here", NOW, NOW.replace(hour=13))
NEW = {part: b"new " + value for part, value in FULL.items()}


def switched(server: Server, layout: Layout, *, keep: bool = True) -> tuple[Wanted, list[Ref]]:
    new = wanted(layout, parts=NEW)
    unit = plan(server, new)
    server.carry_out(switching(unit, dict(server.objects), MARKER, keep=keep))
    return new, [ref for __, ref in refs(new)]


def rotation(new: Wanted) -> Rotation:
    return Rotation(new, [], refs=tuple(ref for __, ref in refs(new)))


def first(layout: Layout) -> Server:
    server = Server()
    server.carry_out(plan(server, wanted(layout, parts=FULL)))
    return server


def contents(server: Server) -> dict[str, dict[str, bytes]]:
    return {ref.name: current(secret) for ref, secret in server.objects.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_old_state_travels_with_the_new_one(layout: Layout) -> None:
    server = first(layout)
    before = contents(server)
    new, own = switched(server, layout)
    assert contents(server) == secrets(new.credential)
    assert content_before(server.objects, own) == before
    assert all(marker_of(secret) == MARKER for secret in server.objects.values())
    for secret in server.objects.values():
        assert not any(key.startswith("previous.") for key in read_as_istiod({**current(secret), **previous(secret)}).keys)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_after_the_proof_nothing_is_left(layout: Layout) -> None:
    server = first(layout)
    new, own = switched(server, layout)
    server.carry_out(finishing(own, dict(server.objects)))
    for ref, secret in server.objects.items():
        assert server.data(ref.name) == secrets(new.credential)[ref.name]
        assert marker_of(secret) is None
        assert ANNOTATION not in (secret["metadata"].get("annotations") or {})
    assert not any(each.changed for each in plan(server, new).plans)  # a second run has nothing to do


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_way_back(layout: Layout) -> None:
    server = first(layout)
    before = contents(server)
    __, own = switched(server, layout)
    server.carry_out(restoring(own, dict(server.objects)))
    assert {ref.name: server.data(ref.name) for ref in server.objects} == before
    assert not any(marker_of(secret) for secret in server.objects.values())
    assert not any(each.changed for each in plan(server, wanted(layout, parts=FULL)).plans)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_did_not_exist_is_deleted_on_the_way_back(layout: Layout) -> None:
    server = Server()
    __, own = switched(server, layout)
    assert server.objects
    server.carry_out(restoring(own, dict(server.objects)))
    assert not server.objects


def test_of_a_revoked_key_nothing_is_kept() -> None:
    server = first("tls")
    __, own = switched(server, "tls", keep=False)
    assert all(not previous(secret) for secret in server.objects.values())
    assert not restoring(own, server.objects).plans


def test_a_key_of_somebody_else_stays() -> None:
    server = first("generic")
    (ref,) = server.objects
    metadata = {"name": ref.name, "namespace": ref.namespace}
    server.apply({"metadata": metadata, "type": "Opaque", "data": {"note": "eA=="}}, "another")
    new, own = switched(server, "generic")
    server.carry_out(finishing(own, dict(server.objects)))
    assert server.data(ref.name) == {**secrets(new.credential)[ref.name], "note": b"x"}


def test_touching_changes_no_content() -> None:
    server = first("tls")
    (ref,) = server.objects
    before = server.data(ref.name)
    server.carry_out(touching(ref, server.objects[ref], "2026-11-27T12:00:00Z"))
    assert server.data(ref.name) == before
    switched(server, "tls")
    held = server.data(ref.name)
    server.carry_out(touching(ref, server.objects[ref], "2026-11-27T12:00:03Z"))
    assert server.data(ref.name) == held and marker_of(server.objects[ref]) == MARKER


# --- what a run left that was killed -----------------------------------------------------------------------------------------


def test_an_unfinished_rotation_is_recognised() -> None:
    server = first("split")
    new, __ = switched(server, "split")
    one = rotation(new)
    assert unfinished(one, server.objects) == MARKER
    assert is_same(one, server.objects, secrets(new.credential))
    assert not is_same(one, server.objects, secrets(wanted("split", parts=FULL).credential))
    # planned as if nothing were unfinished there is nothing to write
    view = cleaned(server.objects)
    again = plan(_with(server, view), new)
    assert codes(again) == [] and not any(each.changed for each in again.plans)


def _with(server: Server, objects: object) -> Server:
    other = Server()
    other.objects = objects  # type: ignore[assignment]
    return other


def test_check_mode_sees_it_as_undone() -> None:
    server = first("tls")
    before = contents(server)
    __, own = switched(server, "tls")
    view = restored_view(own, server.objects)
    assert {ref.name: current(secret) for ref, secret in view.items()} == before


def test_another_run_keeps_away_as_long_as_it_may_live() -> None:
    server = first("tls")
    new, __ = switched(server, "tls")
    one = rotation(new)
    assert [problem.code for problem in under_way([one], server.objects, NOW)] == ["rotation_under_way"]
    assert not under_way([one], server.objects, MARKER.until)


def test_a_marker_that_cannot_be_read_is_one_of_a_run_that_has_ended() -> None:
    server = first("tls")
    new, __ = switched(server, "tls")
    for secret in server.objects.values():
        secret["metadata"]["annotations"][ANNOTATION] = "{"
    one = rotation(new)
    assert not under_way([one], server.objects, NOW)
    assert unfinished(one, server.objects)


def test_the_marker_says_everything() -> None:
    made = replace(MARKER, created=True)
    assert marker_of({"metadata": {"annotations": {ANNOTATION: made.text()}}}) == made


# --- waves -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (0, "20%", []),
        (1, "20%", [1]),
        (2, "20%", [1, 1]),
        (10, "20%", [1, 2, 2, 2, 2, 1]),
        (10, "100%", [1, 9]),
        (10, "4", [1, 4, 4, 1]),
        (3, "1%", [1, 1, 1]),
    ],
)
def test_a_canary_and_then_waves(count: int, size: str, expected: list[int]) -> None:
    rotations = [rotation(wanted(name=f"x{number}")) for number in range(count)]
    made = list(waves(rotations, size))
    assert [len(wave) for wave in made] == expected
    assert [one for wave in made for one in wave] == rotations


@pytest.mark.parametrize("text", ["0", "-1", "101%", "0%", "many", "", "1.5"])
def test_waves_that_cannot_be(text: str) -> None:
    assert [problem.code for problem in wave_problems(text)] == ["invalid_request"]


@pytest.mark.parametrize("text", ["1", "50", "1%", "100%"])
def test_waves_that_can_be(text: str) -> None:
    assert wave_problems(text) == []


def test_units_without_a_change_stay_as_they_are() -> None:
    server = first("tls")
    unit = plan(server, wanted("tls", parts=FULL))
    assert switching(unit, server.objects, MARKER, keep=True) == unit
    assert isinstance(unit, Unit)
