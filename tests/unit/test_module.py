# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module starts and ends: real AnsibleModule, arguments as Ansible hands them over, the result as it is printed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common import warnings as ansible_warnings
from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import Interrupted, Outcome, Stopped
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Plan
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected

Act = Callable[[Call], dict[str, Any]]
Run = Callable[..., dict[str, Any]]

ERROR = Problem("key_mismatch", "private_key", "expected a, found b", "give c")
OTHER = Problem("expired", "certificate", "expected d, found e", "renew it")
WARNING = Problem("expires_soon", "certificate", "expected f", "renew it", "warning")
KEY = "-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs an `act` as a module and gives the result that Ansible would read."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def once(act: Act, spec: dict[str, Any] | None = None, *, rules: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        if "inject_invocation" in basic.PASS_VARS:  # ansible-core 2.21: the arguments are in a result only when the user wants them there
            arguments["_ansible_inject_invocation"] = True
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        ansible_warnings._global_warnings.clear()  # kept for the process, which usually is one module
        if hasattr(basic, "_ANSIBLE_PROFILE"):  # ansible-core 2.19
            monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
        with pytest.raises(SystemExit) as ended:
            run_module(spec or {}, act, **(rules or {}))
        printed = capsys.readouterr().out
        result: dict[str, Any] = json.loads(printed)
        assert ended.value.code == (1 if result.get("failed") else 0)
        return {**result, "printed": printed}

    yield once
    for number, handler in handlers.items():
        signal.signal(number, handler)


def warnings_in(result: dict[str, Any]) -> list[str]:
    return [warning if isinstance(warning, str) else warning["event"]["msg"] for warning in result.get("warnings", [])]


def raising(error: BaseException) -> Act:
    def act(_call: Call) -> dict[str, Any]:
        raise error

    return act


def plan(name: str) -> Plan:
    return Plan(GATEWAY.ref("n", name), "created", ("does not exist",), before=None, after={"name": name})


def test_a_call_knows_its_parameters(run: Run) -> None:
    seen: list[Call] = []

    def act(call: Call) -> dict[str, Any]:
        seen.append(call)
        return {"changed": False, "answer": 42}

    result = run(act, {"size": {"type": "int"}}, size="7", kubeconfig="/k", _ansible_check_mode=True, _ansible_diff=True)
    assert result["answer"] == 42 and result["changed"] is False
    [call] = seen
    assert (call.params["size"], call.params["kubeconfig"], call.check_mode, call.diff_mode) == (7, "/k", True, True)
    assert call.now.tzinfo is UTC
    run(act)
    assert (seen[1].check_mode, seen[1].diff_mode) == (False, False)


def test_rules_between_options(run: Run) -> None:
    spec: dict[str, Any] = {"a": {"type": "str"}, "b": {"type": "str"}}
    result = run(lambda call: {"changed": False}, spec, rules={"mutually_exclusive": [("a", "b")]}, a="1", b="2")
    assert result["failed"] and "mutually exclusive" in result["msg"]


def test_one_problem_is_one_sentence(run: Run) -> None:
    result = run(raising(Rejected(ERROR)))
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"] == str(ERROR)
    assert result["problems"] == [{"code": ERROR.code, "where": ERROR.where, "severity": "error"}], "its sentence stands once"
    assert "exception" not in result and "Traceback" not in result["printed"]


def test_several_problems_are_listed(run: Run) -> None:
    result = run(raising(Rejected([ERROR, OTHER])))
    assert result["msg"] == f"2 problems, nothing was changed:\n- {ERROR}\n- {OTHER}"
    assert [problem["code"] for problem in result["problems"]] == ["key_mismatch", "expired"]


def test_what_has_no_room_in_the_text_is_whole_in_the_result(run: Run) -> None:
    many = [Problem(f"code{number}", "where", f"message {number}", "remedy") for number in range(60)]
    result = run(raising(Rejected(many)))
    assert "and 10 more, in the result's `problems`" in result["msg"] and "message 49" in result["msg"]
    assert [problem["code"] for problem in result["problems"]] == [problem.code for problem in many]
    assert [problem["message"] for problem in result["problems"] if "message" in problem] == [f"message {n}" for n in range(50, 60)]


def test_judging_ends_with_errors_and_keeps_warnings(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.judge([WARNING, ERROR])
        raise AssertionError

    result = run(act)
    assert result["msg"] == str(ERROR) and warnings_in(result) == [str(WARNING)]


def test_warnings_and_notes_go_with_the_result(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.judge([WARNING])
        call.judge([ERROR], on_invalid="warn")
        call.notes += ["once", "once", "twice"]
        return {"changed": True}

    result = run(act)
    assert (result["changed"], result["notes"]) == (True, ["once", "twice"])
    assert warnings_in(result) == [str(WARNING), str(ERROR)]
    assert "notes" not in run(lambda call: {"changed": False})


def test_a_fleets_warnings_are_few_lines(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.judge(Problem("expires_soon", f"credentials[{number}]", "expected f", "renew it", "warning") for number in range(100))
        return {"changed": False}

    shown = warnings_in(run(act))
    assert len(shown) == 4 and shown[-1] == "97 more of the kind [expires_soon], the next one at credentials[3]"


def test_a_module_may_fail_with_a_result(run: Run) -> None:
    result = run(lambda call: {"failed": True, "msg": "not as expected", "changed": False, "status": 500})
    assert (result["failed"], result["msg"], result["status"]) == (True, "not as expected", 500)


def test_a_key_in_metadata_is_refused_before_anything_is_done(run: Run) -> None:
    result = run(raising(AssertionError()), {"labels": {"type": "dict"}}, labels={"a": KEY})
    assert [problem["code"] for problem in result["problems"]] == ["key_in_metadata"] and "c4n4ry" not in result["printed"]


def test_an_outcome_becomes_a_result(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        return call.finish(Outcome([plan("a"), Plan(GATEWAY.ref("n", "b"), "unchanged")], notes=["a note"]), name="x")

    quiet, loud = run(act), run(act, _ansible_diff=True)
    assert (quiet["changed"], quiet["name"], quiet["notes"]) == (True, "x", ["a note"]) and "diff" not in quiet
    assert loud["diff"] == [{"before_header": "Gateway n/a", "after_header": "Gateway n/a", "before": {}, "after": {"name": "a"}}]


@pytest.mark.parametrize(("applied", "half_done", "changed"), [(["a"], False, True), ([], True, True), ([], False, False)])
def test_what_an_interruption_left_is_told(run: Run, applied: list[str], half_done: bool, changed: bool) -> None:
    failed = plan("b")
    plans = [*map(plan, applied), failed, plan("c")]
    outcome = Outcome(plans, plans[: len(applied)], [(failed, ClusterError("no answer"))], [failed] if half_done else [], notes=["a note"])
    result = run(raising(Interrupted(outcome)))
    assert (result["failed"], result["changed"], result["notes"]) == (True, changed, ["a note"])
    assert "no answer" in result["msg"] and "Running again continues" in result["msg"]
    assert [one["name"] for one in result["applied"]] == applied
    assert [(one["name"], one["error"]) for one in result["failures"]] == [("b", "no answer")]
    assert [one["name"] for one in result["not_tried"]] == ["c"]


def test_a_cluster_that_says_no(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.notes.append("a note")
        raise ClusterError("permission denied: you may not")

    result = run(act)
    assert (result["msg"], result["changed"], result["notes"]) == ("permission denied: you may not", False, ["a note"])


def test_a_kubeconfig_that_is_none_is_one_sentence(run: Run) -> None:
    result = run(lambda call: {"changed": bool(call.connect())}, kubeconfig="/no/such/kubeconfig")
    assert result["msg"] == "kubeconfig: cannot read /no/such/kubeconfig; name an existing, readable file"
    assert "Traceback" not in result["printed"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_was_written(run: Run, number: signal.Signals) -> None:
    def act(_call: Call) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        raise AssertionError("not reached")

    result = run(act)
    assert (result["msg"], result["changed"]) == (f"stopped by {number.name} before anything was written", False)


def test_a_signal_after_writing_never_says_that_nothing_was_written(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.connect().wrote = True
        raise Stopped("SIGTERM")

    result = run(act, host="https://h", api_key="k")
    assert result["changed"] is True and "after it had begun to write; running again finishes what is left" in result["msg"]


def test_nor_where_the_module_calls_the_api_server_otherwise(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        cluster = call.connect(host="https://api.example.com")
        cluster.wrote = True
        call.notes.append(cluster.host)
        raise Stopped("SIGTERM")

    result = run(act, host="service.example.com", api_key="k")
    assert result["changed"] is True and result["notes"] == ["https://api.example.com"]


def test_a_second_signal_does_not_interrupt_the_telling_of_the_first(run: Run) -> None:
    def act(_call: Call) -> dict[str, Any]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    assert run(act)["msg"] == "stopped by SIGTERM before anything was written"


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes.config", "cryptography.x509", "urllib3", "yaml"])
def test_a_missing_library_is_a_sentence(run: Run, name: str) -> None:
    result = run(raising(ModuleNotFoundError(f"No module named {name!r}", name=name)))
    assert "Failed to import the required Python library (" + name.split(".")[0] + ")" in result["msg"]


def test_a_library_that_is_too_old_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("urllib3.HTTPHeaderDict")  # not in urllib3 1.26
    result = run(lambda call: {"found": call.connect().get(SECRET, "default", "a")}, host="https://127.0.0.1:1", api_key="token")
    assert "Failed to import the required Python library (urllib3)" in result["msg"]


def test_other_libraries_are_faults_of_our_own(run: Run) -> None:
    result = run(raising(ModuleNotFoundError("No module named 'requests'", name="requests")))
    assert (
        "unexpected error before anything was written: ModuleNotFoundError: No module named 'requests' (test_module.py, line"
        in result["msg"]
    )


def test_a_fault_of_our_own_is_not_hidden_and_tells_no_secret(run: Run) -> None:
    def act(call: Call) -> dict[str, Any]:
        call.connect().wrote = True
        call.notes.append("a note")
        raise ValueError(f"invalid literal for int(): {call.params['word']!r} \x1b[1m")

    result = run(act, {"word": {"type": "str", "no_log": True}}, word="c4n4ry", host="https://h", api_key="c4n4ry-token")
    assert (result["failed"], result["changed"], result["notes"]) == (True, True, ["a note"])
    assert "unexpected error after the module had begun to write: ValueError: invalid literal for int(): '********'" in result["msg"]
    assert "(test_module.py, line " in result["msg"] and "in act" in result.get("exception", "in act"), "newer Ansible asks for tracebacks"
    assert "c4n4ry" not in result["printed"] and "\x1b" not in result["printed"]


LOGIN = {"users": [{"name": "u", "user": {"token": "c4n4ry", "exec": {"command": "aws", "env": [{"name": "A", "value": "c4n4ry"}]}}}]}
PLACES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"key_path": {"type": "path", "no_log": False}}, {"key_path": KEY}),
    ({"certificate": {"type": "str"}}, {"certificate": f"some certificate\n{KEY}"}),
    ({"items": {"type": "list", "elements": "dict", "options": {"path": {"type": "path"}}}}, {"items": [{"path": KEY}]}),
    ({"items": {"type": "list", "elements": "dict", "options": {"key": {"type": "str", "no_log": True}}}}, {"items": [{"key": KEY}]}),
    (
        {"items": {"type": "list", "elements": "dict", "options": {"word": {"type": "str", "no_log": True}}}},
        {"items": [{"word": 'it\'s "c4n4ry"'}]},
    ),
    ({"key": {"type": "str", "no_log": True}}, {"key": KEY}),
    ({}, {"api_key": "c4n4ry"}),
    ({}, {"kubeconfig": LOGIN}),
    ({}, {"kubeconfig": json.dumps(LOGIN)}),
    ({}, {"kubeconfig": "users:\n- user: {token: c4n4ry}\n"}),
    ({}, {"kubeconfig": {"clusters": [{"cluster": {"proxy-url": "http://u:c4n4ry@h:1"}}]}}),
    ({}, {"proxy": "http://u:c4n4ry@h:1"}),
    ({}, {"host": "https://u:c4n4ry@h:1"}),
    ({"secret_headers": {"type": "dict", "no_log": True}}, {"secret_headers": '{"Authorization": "Bearer c4n4ry-c4n4ry"}'}),
]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(("spec", "arguments"), PLACES)
def test_a_secret_is_never_printed_nor_logged_wherever_it_was_given(
    run: Run, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Not in the result, not among the arguments that Ansible adds to it, not in the system's log, not when it fails."""
    logged: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(f"{msg} {log_args}"))
    given = list(texts(arguments))

    def told(call: Call) -> dict[str, Any]:
        call.judge([Problem("a", f"place {text}", "message", "remedy", "warning") for text in given])
        return {"changed": False, "params": {name: value for name, value in call.params.items() if value}}

    def failed(call: Call) -> dict[str, Any]:
        raise Rejected([Problem("a", f"place {text}", "message", "remedy") for text in given])

    for act in (told, failed):
        assert "c4n4ry" not in run(act, spec, **arguments)["printed"]
    assert sum("Invoked with" in line for line in logged) == 2 and "c4n4ry" not in "".join(logged)


def test_a_secret_within_another_uncovers_nothing_of_it(run: Run) -> None:
    """ansible-core 2.16 blanks them out in the order of a set, which is another one each time."""
    secrets = [f"{letter * 8}{number}{letter * 8}" for number, letter in enumerate("abcdefgh")]
    spec = {"keys": {"type": "list", "elements": "str", "no_log": True}}
    given = [*(str(number) for number in range(len(secrets))), *secrets]
    told = run(lambda __: {"failed": True, "changed": False, "msg": " ".join(secrets), "facts": secrets}, spec, keys=given)
    assert not any(letter * 8 in told["printed"] for letter in "abcdefgh")


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_of_a_lists_items_only_what_was_given_is_repeated(run: Run, ends: str) -> None:
    spec = {"items": {"type": "list", "elements": "dict", "options": {"a": {"type": "str"}, "b": {"type": "str"}}}, "c": {"type": "list"}}

    def act(call: Call) -> dict[str, Any]:
        assert call.params["items"] == [{"a": "1", "b": None}]
        return {"changed": False, "failed": ends == "badly", "msg": "m"}

    told = run(act, spec, items=[{"a": "1"}], c=["x", None])["invocation"]["module_args"]
    assert (told["items"], told["c"]) == ([{"a": "1"}], ["x", None])


def test_of_a_kubeconfig_only_the_logins_are_hidden(run: Run) -> None:
    result = run(lambda call: {"changed": False, "told": ["u", "aws", "/home/me/.kube/config"]}, kubeconfig=LOGIN)
    assert result["told"] == ["u", "aws", "/home/me/.kube/config"]
    assert result["invocation"]["module_args"]["kubeconfig"]["users"][0]["user"]["exec"]["command"] == "aws"


def test_no_result_holds_what_a_terminal_acts_upon(run: Run) -> None:
    """Of a failure Ansible prints all of it, and playbooks print what they registered."""
    result = run(lambda call: {"changed": False, "facts": [{"subject \x1b[1m": "CN=\x1b]0;OWNED\x07\n\tä"}]})
    assert result["facts"] == [{"subject \\x1b[1m": "CN=\\x1b]0;OWNED\\x07\n\tä"}]


def test_a_character_that_a_terminal_acts_upon_is_written_out(run: Run) -> None:
    """In refusals, warnings and notes; after secrets were blanked out, which may hold such characters."""

    def act(call: Call) -> dict[str, Any]:
        call.notes.append("note \x1b[1m")
        call.judge(
            [Problem("a", "where", "issuer \x1b]0;OWNED\x07", "remedy", "warning"), Problem("b", "where", "\u202e", "key c4n\x1b4ry")]
        )
        raise AssertionError

    result = run(act, {"key": {"type": "str", "no_log": True}}, key="c4n\x1b4ry")
    assert warnings_in(result) == ["where: issuer \\x1b]0;OWNED\\x07. Remedy. [a]"]
    assert result["msg"] == "where: \\u202e. Key ********. [b]" and result["notes"] == ["note \\x1b[1m"]
    assert run(lambda call: {"failed": True, "msg": "Server: \x1b[31m"})["msg"] == "Server: \\x1b[31m"


LONG_KEY = KEY.replace("c4n4ry", "c4n4ry" * 10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"unknown": LONG_KEY},
        {"items": [{"unknown": LONG_KEY}]},
        {"state": LONG_KEY},
        {"passphrase": "c4n4ry"},
        {"items": [{"token": "c4n4ry"}]},
        {"items": [[{"token": "c4n4ry"}]]},
        {"items": [["c4n4ry"]], "secret_headers": "Authorization c4n4ry"},
        {"unknown": 1, "proxy": "http://u:c4n4ry@h:1"},
        {"unknown": 1, "kubeconfig": {"users": [{"user": {"exec": {"args": ["c4n4ry"]}}}]}},
        {"proxy_headers": {"proxy_auth": "c4n4ry"}},
    ],
)
def test_a_key_in_an_option_that_does_not_take_one_is_not_repeated_by_ansibles_own_refusal(run: Run, arguments: dict[str, Any]) -> None:
    items = {"type": "list", "elements": "dict", "options": {"path": {"type": "path"}}}
    spec = {"items": items, "state": {"type": "str", "choices": ["present"]}}
    result = run(lambda call: {"changed": False}, spec, **arguments)
    assert result["failed"] and "c4n4ry" not in result["printed"]


@pytest.mark.parametrize("quoted", [repr, json.dumps, str.split])
def test_a_misplaced_key_is_hidden_however_it_is_quoted(run: Run, quoted: Callable[[str], Any]) -> None:
    def failed(call: Call) -> dict[str, Any]:
        raise Rejected(Problem("a", "host", f"found {quoted(call.params['host_name'])}", "remedy"))

    assert "c4n4ry" not in run(failed, {"host_name": {"type": "str"}}, host_name=LONG_KEY)["printed"]
