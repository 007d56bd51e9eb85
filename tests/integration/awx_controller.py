# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for AWX's API, since AWX needs containers: keeps objects as its REST API v2 does (24.6), and notes every request that writes.

It refuses what AWX refuses, as far as the role could ask for it: names that are taken, relations to what is not there, surveys, answers that no
template prompts for, two credentials of a type, rules of schedules. Fields that it does not know are ignored, as AWX ignores them; a test looks for those.
It runs no job.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dateutil.rrule import rrulestr

TOKEN = "token-of-the-tests"
SINGULAR = {
    "organizations": "organization",
    "execution_environments": "execution_environment",
    "credential_types": "credential_type",
    "credentials": "credential",
    "notification_templates": "notification_template",
    "projects": "project",
    "inventories": "inventory",
    "inventory_sources": "inventory_source",
    "hosts": "host",
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "workflow_job_template_nodes": "workflow_job_template_node",
    "workflow_approval_templates": "workflow_approval_template",
    "schedules": "schedule",
}
PLURAL = {one: many for many, one in SINGULAR.items()}
RUNNABLE = ("projects", "inventory_sources", "job_templates", "workflow_job_templates", "workflow_approval_templates")
RELATIONS = {
    **{one: many for one, many in PLURAL.items() if one != "workflow_approval_template"},
    **{"default_environment": "execution_environments", "source_project": "projects", "webhook_credential": "credentials"},
    "signature_validation_credential": "credentials",
}
ASK = ("limit", "job_type", "tags", "skip_tags", "variables", "verbosity", "diff_mode", "credential", "inventory", "execution_environment")
ASK_MORE = ("forks", "job_slice_count", "timeout", "scm_branch", "labels", "instance_groups")
PROMPTED = {"limit": "limit", "job_type": "job_type", "job_tags": "tags", "inventory": "inventory", "extra_data": "variables"}
COMMON = {"name": "", "description": ""}
TEMPLATE = {
    **COMMON,
    "organization": None,
    "inventory": None,
    "extra_vars": "",
    "survey_enabled": False,
    "allow_simultaneous": False,
    "limit": "",
}
LAUNCH = {"extra_data": {}, "inventory": None, "limit": None, "job_type": None, "job_tags": None, "skip_tags": None, "diff_mode": None}
FIELDS: dict[str, dict[str, Any]] = {
    "organizations": COMMON,
    "execution_environments": {**COMMON, "organization": None, "image": "", "pull": "", "credential": None},
    "credential_types": {**COMMON, "kind": "cloud", "managed": False, "inputs": {}, "injectors": {}},
    "credentials": {**COMMON, "organization": None, "credential_type": None, "inputs": {}},
    "notification_templates": {**COMMON, "organization": None, "notification_type": "", "notification_configuration": {}, "messages": None},
    "projects": {
        **{
            **COMMON,
            "organization": None,
            "scm_type": "",
            "scm_url": "",
            "scm_branch": "",
            "credential": None,
            "default_environment": None,
        },
        **{"scm_update_on_launch": False, "scm_update_cache_timeout": 0, "scm_clean": False, "scm_revision": "", "timeout": 0},
    },
    "inventories": {**COMMON, "organization": None, "kind": "", "host_filter": None, "variables": "", "pending_deletion": False},
    "inventory_sources": {
        **COMMON,
        "inventory": None,
        "source": "",
        "source_vars": "",
        "limit": "",
        "update_cache_timeout": 0,
        "verbosity": 1,
    },
    "hosts": {**COMMON, "inventory": None, "enabled": True, "variables": ""},
    "job_templates": {
        **TEMPLATE,
        **{"job_type": "run", "project": None, "playbook": "", "execution_environment": None, "forks": 0, "verbosity": 0, "job_tags": ""},
        **{"skip_tags": "", "timeout": 0, "use_fact_cache": False, "diff_mode": False, "job_slice_count": 1, "scm_branch": ""},
        **{f"ask_{name}_on_launch": False for name in ASK + ASK_MORE},
    },
    "workflow_job_templates": {
        **TEMPLATE,
        **{f"ask_{name}_on_launch": False for name in ("limit", "variables", "inventory", "tags", "labels")},
    },
    "workflow_job_template_nodes": {
        **{**LAUNCH, "identifier": "", "workflow_job_template": None, "unified_job_template": None, "all_parents_must_converge": False}
    },
    "workflow_approval_templates": {**COMMON, "timeout": 0},
    "schedules": {**COMMON, **LAUNCH, "rrule": "", "unified_job_template": None, "enabled": True},
}
UNIQUE = {"hosts": "inventory", "schedules": "unified_job_template", "workflow_job_template_nodes": "workflow_job_template"}
WEBHOOK = {"http_method": "POST", "disable_ssl_verification": False, "username": "", "password": ""}
QUESTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "textarea", "password", "multiplechoice", "multiselect"), (str,)),
    **{"integer": (int,), "float": (float, int)},
}
Object = dict[str, Any]


class RefusedError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Controller:
    def __init__(self) -> None:
        self.objects: dict[str, dict[int, Object]] = {kind: {} for kind in FIELDS}
        self.links: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[tuple[str, int], Object] = {}
        self.writes: list[tuple[str, str, Any]] = []
        self.ignored: set[tuple[str, str]] = set()
        self.last = 0
        self.create("organizations", {"name": "Default"})
        fields = [
            {"id": "host"},
            {"id": "bearer_token", "secret": True},
            {"id": "verify_ssl", "type": "boolean"},
            {"id": "ssl_ca_cert", "secret": True},
        ]
        bearer = {"name": "OpenShift or Kubernetes API Bearer Token", "kind": "kubernetes", "managed": True, "inputs": {"fields": fields}}
        self.create("credential_types", bearer)

    def named(self, kind: str) -> dict[str, Object]:
        key = "identifier" if kind.endswith("nodes") else "name"
        return {one[key]: one for one in self.objects[kind].values()}

    def linked(self, kind: str, name: str, association: str) -> set[str]:
        """The names of what is associated with it."""
        found = self.links.get((kind, self.named(kind)[name]["id"], association), [])
        target = target_of(kind, association)
        return {key for key, one in self.named(target).items() if one["id"] in found}

    def create(self, kind: str, body: Object) -> Object:
        self.ignored |= {(kind, field) for field in body.keys() - FIELDS[kind].keys()}
        self.last += 1
        made = {
            **json.loads(json.dumps(FIELDS[kind])),
            **{key: value for key, value in body.items() if key in FIELDS[kind]},
            "id": self.last,
        }
        self.check(kind, made)
        self.objects[kind][self.last] = made
        if kind == "inventories" and made["kind"] == "constructed":
            self.create(
                "inventory_sources", {"name": f"Auto-created source for: {made['name']}", "inventory": made["id"], "source": "constructed"}
            )
        return made

    def check(self, kind: str, made: Object) -> None:
        scope, key = UNIQUE.get(kind, "organization"), "identifier" if kind.endswith("nodes") else "name"
        if any(
            one[key] == made[key] and one.get(scope) == made.get(scope) and one["id"] != made["id"] for one in self.objects[kind].values()
        ):
            raise RefusedError(400, f"{kind} with this {key} already exists: {made[key]}")
        for field, target in RELATIONS.items():
            if made.get(field) is not None and field in FIELDS[kind] and made[field] not in self.objects[target]:
                raise RefusedError(400, f"{kind}: {field} {made[field]} does not exist")
        if kind == "schedules":
            rrulestr(made["rrule"].replace(" RRULE", "\nRRULE"))
        if kind == "credential_types" and any(name.startswith("ANSIBLE_") for name in made["injectors"].get("env", {})):
            raise RefusedError(400, "environment variables that begin with ANSIBLE_ are not allowed")
        if kind == "notification_templates" and made["notification_type"] == "webhook":
            made["notification_configuration"] = {**WEBHOOK, **made["notification_configuration"]}
            if not {"url", "headers"} <= made["notification_configuration"].keys():
                raise RefusedError(400, "Missing required fields for Notification Configuration")
        if kind in ("schedules", "workflow_job_template_nodes") and made["unified_job_template"] is not None:
            template = self.runnable()[made["unified_job_template"]]
            asked = [question["variable"] for question in self.surveys.get(("job_templates", template["id"]), {}).get("spec", [])]
            for field, prompt in PROMPTED.items():
                given = made.get(field)
                if given and not template.get(f"ask_{prompt}_on_launch") and not (field == "extra_data" and set(given) <= set(asked)):
                    raise RefusedError(400, f"Field is not configured to prompt on launch: {field}")

    def runnable(self) -> dict[int, Object]:
        return {number: {**one, "type": SINGULAR[kind]} for kind in RUNNABLE for number, one in self.objects[kind].items()}

    def shown(self, kind: str, one: Object) -> Object:
        """As the API returns it: with its address, without its secrets."""
        kind = next(each for each in RUNNABLE if one["id"] in self.objects[each]) if kind == "unified_job_templates" else kind
        url = f"/api/v2/{kind}/{one['id']}/"
        related = {"survey_spec": f"{url}survey_spec/"}
        if (runs := one.get("unified_job_template")) is not None:
            related["unified_job_template"] = self.shown("unified_job_templates", self.runnable()[runs])["url"]
        shown = {**one, "type": SINGULAR[kind], "url": url, "related": related, "summary_fields": {}}
        if kind == "credentials":
            secret = {
                field["id"] for field in self.objects["credential_types"][one["credential_type"]]["inputs"]["fields"] if field.get("secret")
            }
            shown["inputs"] = {name: "$encrypted$" if name in secret else value for name, value in one["inputs"].items()}
        if kind == "notification_templates" and one["notification_configuration"].get("password"):
            shown["notification_configuration"] = {**one["notification_configuration"], "password": "$encrypted$"}
        return shown

    def matches(self, one: Object, key: str, value: str) -> bool:
        field, __, rest = key.partition("__")
        if rest == "in":
            return str(one.get(field)) in value.split(",")
        if rest:
            found = self.runnable() if field == "unified_job_template" else self.objects[RELATIONS[field]]
            return one.get(field) in found and self.matches(found[one[field]], rest, value)
        return str(one.get(field)).lower() == value.lower()

    def listed(self, kind: str, query: dict[str, str]) -> Object:
        page, size = int(query.pop("page", 1)), int(query.pop("page_size", 25))
        either = {key.removeprefix("or__"): query.pop(key) for key in list(query) if key.startswith("or__")}
        every = self.runnable() if kind == "unified_job_templates" else self.objects[kind]
        found = [one for one in every.values() if all(self.matches(one, key, value) for key, value in query.items())]
        found = [one for one in found if not either or any(self.matches(one, key, value) for key, value in either.items())]
        shown = [self.shown(kind, one) for one in found[(page - 1) * size : page * size]]
        words = "&".join(f"{key}={value}" for key, value in {**query, "page": page + 1, "page_size": size}.items())
        return {"count": len(found), "next": f"/api/v2/{kind}/?{words}" if page * size < len(found) else None, "results": shown}

    def associate(self, kind: str, number: int, association: str, body: Object) -> None:
        there, target = self.links.setdefault((kind, number, association), []), target_of(kind, association)
        if body.get("disassociate"):
            there.remove(body["id"])
            return
        types = (
            [self.objects["credentials"][one]["credential_type"] for one in [*there, body["id"]]] if association == "credentials" else []
        )
        if len(set(types)) < len(types) or body["id"] not in self.objects[target]:
            raise RefusedError(400, f"Cannot assign {association} {body['id']}: two of a type, or not there")
        there.append(body["id"])

    def remove(self, kind: str, number: int) -> None:
        if kind == "credential_types" and any(one["credential_type"] == number for one in self.objects["credentials"].values()):
            raise RefusedError(403, "Credential types that are in use cannot be deleted")
        gone = self.objects[kind].pop(number)
        one = SINGULAR[kind]
        for other, fields in FIELDS.items():
            if one in fields and (one != "organization" or kind == "organizations"):
                for each in [each for each in self.objects[other].values() if each[one] == number]:
                    if other in ("hosts", "inventory_sources", "workflow_job_template_nodes"):
                        self.remove(other, each["id"])
                    else:
                        each[one] = None
        for each in [each for each in self.objects["schedules"].values() if each["unified_job_template"] == number]:
            self.remove("schedules", each["id"])
        if kind.endswith("nodes") and gone["unified_job_template"] in self.objects["workflow_approval_templates"]:
            self.remove("workflow_approval_templates", gone["unified_job_template"])
        for key in [key for key in self.links if key[1] == number]:
            del self.links[key]
        for ids in self.links.values():
            ids[:] = [each for each in ids if each != number]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method != "GET":
            self.writes.append((method, path, body))
        kind, number, sub = [*path.removeprefix("/api/v2/").strip("/").split("/"), "", ""][:3]
        if kind == "ping":
            return 200, {"version": "24.6.1"}
        if kind == "bulk":
            for host in body["hosts"]:
                self.create("hosts", {**host, "inventory": body["inventory"]})
            return 201, {"hosts": []}
        if not number:
            return (201, self.shown(kind, self.create(kind, body))) if method == "POST" else (200, self.listed(kind, query))
        one = self.objects[kind].get(int(number))
        if one is None:
            raise RefusedError(404, "Not found.")
        if sub == "survey_spec":
            return 200, self.survey((kind, one["id"]), method, body)
        if sub == "create_approval_template":
            made = self.create("workflow_approval_templates", body)
            one["unified_job_template"] = made["id"]
            return 201, self.shown("workflow_approval_templates", made)
        if sub:
            target = target_of(kind, sub)
            if method == "POST":
                self.associate(kind, one["id"], sub, body)
                return 204, None
            found = [self.shown(target, self.objects[target][each]) for each in self.links.get((kind, one["id"], sub), [])]
            return 200, {"count": len(found), "next": None, "results": found}
        if method == "PATCH":
            self.ignored |= {(kind, field) for field in body.keys() - FIELDS[kind].keys()}
            body = {field: kept(one.get(field), value) for field, value in body.items() if field in FIELDS[kind]}
            self.check(kind, {**one, **body})
            one.update(body)
        if method == "DELETE":
            self.remove(kind, one["id"])
            return (202 if kind == "inventories" else 204), None
        return 200, self.shown(kind, one)

    def survey(self, key: tuple[str, int], method: str, body: Any) -> Any:
        if method == "GET":
            return self.surveys.get(key, {})
        if method == "DELETE":
            self.surveys.pop(key, None)
            return {}
        for question in body["spec"]:
            choices, default = question.get("choices", []), question.get("default", "")
            fits = default == "" or (isinstance(default, QUESTIONS[question["type"]]) and (not choices or default in choices))
            if not fits or not isinstance(question["required"], bool) or not question["question_name"] or not question["variable"]:
                raise RefusedError(400, f"survey question {question} is wrong")
        self.surveys[key] = body
        return {}


def kept(old: Any, new: Any) -> Any:
    """What is sent as hidden stays what it was."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: old[name] if value == "$encrypted$" and name in old else value for name, value in new.items()}
    return new


def target_of(kind: str, association: str) -> str:
    if kind in ("workflow_approval_templates", "schedules") and association.endswith("_nodes"):
        raise RefusedError(404, "Not found.")
    if association.endswith("_nodes"):
        return "workflow_job_template_nodes"
    return {"input_inventories": "inventories"}.get(association, re.sub(r"_(started|success|error|approvals)$", "", association))


@contextmanager
def serving(controller: Controller) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "null")
            parts = urlsplit(self.path)
            try:
                if not parts.path.startswith("/api/v2/ping") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise RefusedError(401, "Authentication credentials were not provided.")
                with lock:
                    status, content = controller.answer(self.command, parts.path, dict(parse_qsl(parts.query)), body)
            except RefusedError as error:
                status, content = error.status, {"__all__": [str(error)], "error": str(error), "detail": str(error)}
            raw = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            headers = {
                "Content-Type": "application/json",
                "Content-Length": len(raw),
                "X-API-Product-Name": "AWX",
                "X-API-Product-Version": "24.6.1",
            }
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = respond

        def log_message(self, *_: object) -> None:
            pass

    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
