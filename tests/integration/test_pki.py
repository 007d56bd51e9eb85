# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pki role: what it issues and when, and that nobody else has or gets the keys."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from .conftest import Mesh, Run
from .test_playbooks import OLDEST, include

PKI = {
    "pki_authorities": [
        {"name": "root", "subject": {"O": "example Inc.", "CN": "root"}},
        {"name": "below", "issuer": "root", "subject": {"CN": "below"}, "key_type": "ECC"},
        {"name": "other", "subject": {"CN": "other"}, "key_type": "ECC"},
    ],
    "pki_certificates": [
        {"name": "server", "authority": "below", "subject": {"CN": "s.example.com"}, "sans": ["DNS:s.example.com", "IP:192.0.2.1"]},
        {"name": "client", "authority": "other", "subject": {"CN": "client"}, "purpose": "client", "key_type": "ECC"},
    ],
}


@pytest.fixture(scope="module")
def issued(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role makes for `PKI` where there is nothing: it is made once, since RSA keys take their time."""
    directory = tmp_path_factory.mktemp("issued") / "pki"
    mesh.playbook([include("pki", **{"pki_directory": str(directory), **PKI})]).ok()
    return directory


@pytest.fixture
def begun(pki: Any, issued: Path) -> Any:
    """Like `pki`, where the role has run before."""
    shutil.copytree(issued, pki.directory)
    return pki


@pytest.fixture
def pki(mesh: Mesh, tmp_path: Path) -> Any:
    """Runs the role for `PKI`, with some variables changed."""

    def run(*arguments: str, venv: Path | None = None, **changes: Any) -> Run:
        return mesh.playbook([include("pki", **{"pki_directory": str(tmp_path / "pki"), **PKI, **changes})], *arguments, venv=venv)

    run.directory = tmp_path / "pki"  # type: ignore[attr-defined]
    return run


def certificates(directory: Path, name: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((directory / f"{name}.crt").read_bytes())


def names_of(chain: list[x509.Certificate]) -> list[str | bytes]:
    return [certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for certificate in chain]


def serials(directory: Path) -> dict[str, int]:
    return {name: certificates(directory, name)[0].serial_number for name in ("root", "below", "other", "server", "client")}


def changed_entry(of: str, which: str, /, **changes: Any) -> list[dict[str, Any]]:
    return [{**entry, **changes} if entry["name"] == which else entry for entry in PKI[of]]


def test_pki_issues_chains_that_verify_and_keys_that_only_the_owner_reads(issued: Path) -> None:
    directory = issued
    leaf, *intermediates = certificates(directory, "server")
    assert names_of(intermediates) == ["below"]
    assert names_of(certificates(directory, "below")) == ["below", "root"]
    store = Store(certificates(directory, "root"))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("s.example.com"))
    assert len(verifier.verify(leaf, intermediates)) == 3
    assert certificates(directory, "client")[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    found = serials(directory)
    assert len(set(found.values())) == len(found)
    for key in directory.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(list(directory.glob("*.key"))) == 5


def test_pki_issues_nothing_that_is_not_due_and_goes_on_issuing_what_is(pki: Any, mesh: Mesh) -> None:
    pki(pki_renew_before_days=5, pki_certificates=changed_entry("pki_certificates", "server", days=10)).ok()
    first = serials(pki.directory)
    assert pki(pki_renew_before_days=5).ok().changed == []
    # ten days are left of it: due with 30
    assert any("Keep a certificate: server" in name for name in pki("--check").ok().changed)
    assert serials(pki.directory) == first
    assert pki().ok().changed
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"server"}
    assert pki(venv=OLDEST).ok().changed == []


def test_pki_issues_anew_what_a_new_authority_signed_and_nothing_else(begun: Any) -> None:
    pki = begun
    first = serials(pki.directory)
    (pki.directory / "root.key").unlink()
    pki().ok()
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"root", "below", "server"}
    # the same key, another certificate
    changed = changed_entry("pki_authorities", "other", subject={"CN": "another"})
    pki(pki_authorities=changed).ok()
    third = serials(pki.directory)
    assert {name for name in first if second[name] != third[name]} == {"other", "client"}
    assert pki(pki_authorities=changed).ok().changed == []


def test_pki_follows_the_variables(begun: Any) -> None:
    pki = begun
    first = serials(pki.directory)
    pki(pki_certificates=changed_entry("pki_certificates", "server", sans=["DNS:t.example.com"])).ok()
    second = serials(pki.directory)
    assert {name for name in first if first[name] != second[name]} == {"server"}
    names = certificates(pki.directory, "server")[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["t.example.com"]


def test_pki_removes_its_own_files_only(begun: Any) -> None:
    pki = begun
    (pki.directory / "mine.txt").write_text("kept")
    pki(pki_state="absent").ok()
    assert [path.name for path in pki.directory.rglob("*") if path.is_file()] == ["mine.txt"]
    (pki.directory / "mine.txt").unlink()
    assert pki(pki_state="absent").ok()
    assert not pki.directory.exists()
    assert pki(pki_state="absent").ok().changed == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pki_certificates": changed_entry("pki_certificates", "server", authority="nobody")}, "Found authority nobody"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", sans=[])}, "clients no longer look at the common name"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", days=30)}, "it would be renewed in every run"),
        ({"pki_certificates": changed_entry("pki_certificates", "server", name="root")}, "a name that is used once"),
        ({"pki_authorities": list(reversed(PKI["pki_authorities"]))}, "stands above it"),
        ({"pki_certificates": [{"name": "server"}]}, "authority"),
    ],
)
def test_pki_names_what_is_wrong_with_its_variables(pki: Any, changes: dict[str, Any], named: str) -> None:
    done = pki(**changes)
    assert done.code != 0
    assert named in str(done.failed)
    assert not pki.directory.exists()


# --- whose the keys are

ONE = {"pki_authorities": [{"name": "root", "subject": {"CN": "root"}, "key_type": "ECC"}], "pki_certificates": []}


def others(run: Run) -> list[str]:
    """The warnings of keys that others could read."""
    found = [record["result"] for record in run.records if record["task"].endswith("Warn of keys that others could read")]
    return [item["msg"] for result in found for item in result.get("results", []) if "msg" in item and not item.get("skipped")]


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_pki_warns_of_a_key_that_others_could_read(pki: Any, mode: int) -> None:
    pki(**ONE).ok()
    key = pki.directory / "root.key"
    key.chmod(mode)
    for arguments in (["--check"], []):
        (warning,) = others(pki(*arguments, **ONE).ok())
        assert f"{key} had mode {mode:04o}" in warning and "take it as known" in warning and "Delete the file and run again" in warning
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = pki(**ONE).ok()
    assert others(again) == [] and again.changed == []


def test_pki_warns_of_the_file_to_which_a_key_is_linked(pki: Any, tmp_path: Path) -> None:
    """The link has a mode too, which says nothing."""
    pki(**ONE).ok()
    real = tmp_path / "elsewhere.key"
    (pki.directory / "root.key").rename(real)
    (pki.directory / "root.key").symlink_to(real)
    assert others(pki(**ONE).ok()) == []
    real.chmod(0o644)
    assert len(others(pki(**ONE).ok())) == 1


def of_somebody_else(tmp_path: Path) -> Path:
    """A directory of another user."""
    if os.geteuid():
        return Path("/")
    path = tmp_path / "foreign"
    path.mkdir(mode=0o755)
    os.chown(path, 65534, 65534)
    return path


@pytest.mark.parametrize("linked", [False, True])
def test_pki_refuses_a_directory_of_somebody_else(pki: Any, tmp_path: Path, linked: bool) -> None:
    directory = foreign = of_somebody_else(tmp_path)
    if linked:
        directory = tmp_path / "link"
        directory.symlink_to(foreign)
    before = (foreign.stat().st_mode, sorted(foreign.iterdir()))
    for arguments in ([], ["--check"]):
        run = pki(*arguments, pki_directory=str(directory), **ONE)
        assert run.code != 0 and f"{directory} (uid {foreign.stat().st_uid}): expected to belong to the user" in run.failed[0]["msg"]
        assert f"chown -R {os.geteuid()} {directory}" in run.failed[0]["msg"]
    assert (foreign.stat().st_mode, sorted(foreign.iterdir())) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["root.key", "issued"])
def test_pki_refuses_a_key_and_a_directory_below_of_somebody_else(pki: Any, name: str) -> None:
    pki(**ONE).ok()
    os.chown(pki.directory / name, 65534, 65534)
    run = pki(**ONE)
    assert run.code != 0 and f"{pki.directory}/{name} (uid 65534): expected to belong" in run.failed[0]["msg"]


@pytest.mark.parametrize(
    ("which", "name", "state"),
    [
        ("pki_authorities", "../escape", "present"),
        ("pki_authorities", "..", "absent"),
        ("pki_certificates", "a/b", "present"),
        ("pki_certificates", "/tmp/escape", "absent"),
    ],
)
def test_pki_refuses_names_that_lead_out_of_the_directory(pki: Any, tmp_path: Path, which: str, name: str, state: str) -> None:
    more = {"authority": "root", "sans": ["DNS:a"]} if which == "pki_certificates" else {}
    run = pki(pki_state=state, **{**ONE, which: [*ONE[which], {"name": name, "subject": {"CN": "x"}, **more}]})
    assert run.code != 0 and f"{name}: expected a name that can be a file's" in str(run.failed), run.output
    assert not list(tmp_path.rglob("*.key")) and not list(tmp_path.rglob("*.crt"))
