# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What handshakes and proxies show beside the objects, and one host's way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.diagnose import diagnose
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.explain import Explainer
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.observed import Handshake, HeldCredential, Observed, Refused
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.view import MeshView
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import decode
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import EGRESS_SET, INGRESS_SET, SERVER, replaced
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW, Manifest, everything, pair, without

GATE = next(item for item in INGRESS_SET if item["kind"] == "Gateway")
SERVED_BY = GATEWAY.ref(GATE["metadata"]["namespace"], GATE["metadata"]["name"])
SECRET_REF = SECRET.ref("istio-system", "httpbin-credential")
RIGHT = read_chain(decode(SERVER)["tls.crt"], where="")[0].fingerprint
OTHER = RIGHT[::-1]


def shaken(served: str | None = RIGHT, **more: Any) -> Observed:
    return Observed((Handshake(SERVED_BY, "spec.servers[0]", "httpbin.example.com", "192.0.2.1:443", (SECRET_REF,), served, **more),))


def held(fingerprint: str | None, in_use: bool = True) -> Observed:
    return Observed(held=(HeldCredential("gateway-0", SECRET_REF, fingerprint, in_use),))


CASES: dict[str, Observed] = {
    "gateway_not_reached": shaken(None, failure="connection_refused", reached=False),
    "no_certificate_served": shaken(None, failure="connection_reset"),
    "another_certificate_served": shaken(OTHER),
    "credential_not_delivered": held(None),
    "proxy_holds_another": held(OTHER),
    "credential_refused_by_proxy": held(RIGHT, in_use=False),
    "update_refused": Observed(refused=(Refused("gateway-0", "listener 0.0.0.0_443", "duplicate filter chain"),)),
}


BY_OTHER_OBJECTS = ("deleted_credential_served",)
CASES["deleted_credential_served"] = shaken()


@pytest.mark.parametrize(("code", "observed"), [(code, one) for code, one in CASES.items() if code not in BY_OTHER_OBJECTS])
def test_what_is_seen_is_told(code: str, observed: Observed) -> None:
    found = diagnose(everything(INGRESS_SET), now=NOW, observed=observed)
    assert [one.code for one in found.findings] == [code]


@pytest.mark.parametrize("observed", [None, Observed(), shaken(), held(RIGHT)])
def test_what_is_right_is_not(observed: Observed | None) -> None:
    assert diagnose(everything(INGRESS_SET), now=NOW, observed=observed).findings == ()


def test_a_secret_that_is_missing_is_told_once() -> None:
    """The proxy waits for what does not exist: that it does not exist is what is wrong."""
    found = diagnose(everything(without(INGRESS_SET, "Secret", "httpbin-credential")), now=NOW, observed=held(None))
    assert [one.code for one in found.findings] == ["credential_missing"]


def test_a_secret_that_is_gone_and_served_all_the_same() -> None:
    found = diagnose(everything(without(INGRESS_SET, "Secret", "httpbin-credential")), now=NOW, observed=CASES["deleted_credential_served"])
    assert [one.code for one in found.findings] == ["credential_missing", "deleted_credential_served"]


# --- one host's way


def stages(items: list[Manifest], host: str = "httpbin.example.com", observed: Observed | None = None) -> tuple[str, list[tuple[str, str]]]:
    taken = everything(items)
    found = diagnose(taken, now=NOW, observed=observed)
    told = Explainer(MeshView(taken, now=NOW, observed=observed), found.findings).explain(host)
    return told["verdict"], [(stage["stage"], stage["state"]) for stage in told["stages"]]


def test_everything_on_the_way_is_right() -> None:
    verdict, way = stages(INGRESS_SET, observed=shaken())
    assert verdict == "Everything on its way is right", way
    assert [name for name, __ in way] == ["server", "gateway", "credential", "route", "destination", "handshake"]
    assert {state for __, state in way} == {"right"}


def test_the_stage_that_breaks_is_named() -> None:
    verdict, way = stages(without(INGRESS_SET, "Secret", "httpbin-credential"))
    assert verdict.startswith("It breaks at: credential. Secret istio-system/httpbin-credential does not exist")
    assert ("route", "right") in way
    verdict, __ = stages(replaced(INGRESS_SET, pair("httpbin-credential", "elsewhere.example.com")))
    assert verdict.startswith("It breaks at: credential") and "does not cover httpbin.example.com" in verdict
    verdict, __ = stages(replaced(INGRESS_SET, pair("httpbin-credential", "httpbin.example.com", days=(-20, -1))))
    assert verdict.startswith("It breaks at: credential")
    verdict, __ = stages([item for item in INGRESS_SET if item["kind"] != "VirtualService"])
    assert verdict.startswith("It breaks at: route")
    verdict, __ = stages(INGRESS_SET, observed=shaken(None, failure="connection_reset"))
    assert verdict.startswith("It breaks at: handshake")


def test_a_host_that_nobody_serves() -> None:
    verdict, way = stages(INGRESS_SET, "nobody.example.com")
    assert way == [("server", "broken")] and "no Gateway serves nobody.example.com" in verdict


def test_an_egress_service() -> None:
    host = next(str(item["spec"]["hosts"][0]) for item in EGRESS_SET if item["kind"] == "ServiceEntry")
    verdict, way = stages(EGRESS_SET, host)
    assert {"the external service", "server of the gateway", "TLS of the gateway to outside", "client credential"} <= {
        name for name, __ in way
    }
    assert verdict == "Everything on its way is right", way
    secret = next(item["metadata"]["name"] for item in EGRESS_SET if item["kind"] == "Secret")
    verdict, __ = stages(without(EGRESS_SET, "Secret", secret), host)
    assert verdict.startswith("It breaks at: client credential")
