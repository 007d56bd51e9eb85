# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event source gateway_tls: what happens to the TLS of a cluster's gateways, and what is about to happen."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

DOCUMENTATION = r"""
short_description: Events about the TLS of a cluster's Istio gateways
description:
  - Watches the Secrets, Gateways and DestinationRules of one cluster, and sends an event when a credential expires soon, was changed or
    deleted by somebody else, is missing, or is not what is served, when a proxy refused an update, and when a CRL expires soon.
  - It lists once and watches from there on. A cluster in which nothing happens costs fewer than ten requests an hour.
  - An API server that is away is waited for. What happened meanwhile is told when it is back. Nothing is told twice, unless it has ended
    meanwhile or O(remind_after) says so.
  - No event holds key material. Events hold names, times and fingerprints.
  - Needs the Python packages C(kubernetes) and C(cryptography) where ansible-rulebook runs, and a login that may list and watch
    (docs/rbac/events.yaml).
options:
  kubeconfig:
    description:
      - The login is that of the modules, with the same options and variables (E(K8S_AUTH_KUBECONFIG), E(K8S_AUTH_HOST), ...) - kubeconfig, context,
        host, api_key, username, password, validate_certs, ca_cert, client_cert, client_key, proxy, no_proxy, proxy_headers, persist_config,
        impersonate_user, impersonate_groups. C(ansible-doc meshops.istio.gateway_diagnose) describes them.
    type: raw
  cluster:
    description:
      - The cluster's name in events. The default is that of O(inventory_hosts), or else the API server's address.
    type: str
  inventory_hosts:
    description:
      - Hosts of the inventory that stand for the cluster. Playbooks that an event starts are limited to them.
    type: list
    elements: str
    default: []
  namespaces:
    description:
      - Where the Secrets are watched - the namespaces in which gateways' pods run.
    type: list
    elements: str
    default: [istio-system]
  gateway_namespaces:
    description:
      - Where Gateways, ListenerSets and DestinationRules are watched. The default is the whole cluster.
    type: list
    elements: str
    default: []
  credentials:
    description:
      - Names of the Secrets that count, as patterns such as V(shop-*).
    type: list
    elements: str
    default: ["*"]
  events:
    description:
      - Types of the events to send. The default is all of them.
    type: list
    elements: str
    choices:
      - credential_expires
      - credential_changed
      - credential_deleted
      - credential_not_served
      - update_refused
      - crl_expires
      - credential_missing
  min_remaining:
    description:
      - A certificate with less than this left is due, as the role renewal has it - a time such as V(30d), or a share of its lifetime.
      - Give the same O(min_remaining), O(spread), O(emergency_remaining), O(windows) and O(freezes) as to the role. Then an event comes at the moment
        at which the role finds the credential due.
    type: str
    default: 33%
  spread:
    description:
      - How much earlier it may be due. How much of it a credential takes follows from its name.
    type: str
    default: 5%
  emergency_remaining:
    description:
      - With less than this left there is a second event, and windows and freezes no longer count.
    type: str
    default: 10%
  windows:
    description:
      - When renewals may happen. Outside of them a certificate is not due.
    type: list
    elements: dict
    default: []
  freezes:
    description:
      - When they may not.
    type: list
    elements: dict
    default: []
  renewal_credentials:
    description:
      - The role's variable. Credentials that have O(min_remaining) and the like of their own are judged by these.
    type: list
    elements: dict
    default: []
  crl_remaining:
    description:
      - A CRL with less than this left until its next update expires soon.
    type: str
    default: 20%
  own_managers:
    description:
      - Further field managers whose changes are no news, for example C(cert-manager-certificates-issuing). This collection's own never is.
    type: list
    elements: str
    default: []
  handshakes:
    description:
      - Make a TLS handshake with every host, and compare what is presented with the Secrets.
    type: bool
    default: true
  proxies:
    description:
      - Read the proxies too - what they hold, and which updates they refused. Those at O(admin_urls), and those in pods where the login may
        create C(pods/exec) (docs/rbac/pods.yaml), which costs some requests a proxy each time.
    type: bool
    default: false
  addresses:
    description:
      - Where gateways are reached. The default is what their Services say.
    type: list
    elements: str
    default: []
  ports:
    description:
      - Port of a server, and the port at which it is reached at O(addresses).
    type: dict
    default: {}
  admin_urls:
    description:
      - Administration interfaces of proxies that are no pods.
    type: list
    elements: str
    default: []
  request_timeout:
    description:
      - Seconds for a handshake, and for a page of a proxy.
    type: float
    default: 10
  proxy_interval:
    description:
      - How often handshakes are made and proxies are read where nothing changes. After a change of a Secret or Gateway it is done at once.
    type: str
    default: 15m
  settle:
    description:
      - How long a credential has to be missing before that is told, and the pause before a second look confirms what the first one saw.
    type: str
    default: 20s
  remind_after:
    description:
      - Tell again, with C(reminder), of what is still so after this time (V(1d), say) - of certificates and CRLs that expire, and of credentials
        that are missing. Without it each stage is told once.
    type: str
  state_file:
    description:
      - A file in which what was told is kept, so that a restart does not repeat it, and what changed meanwhile is told. Each cluster needs its own.
    type: str
"""

EXAMPLES = r"""
- name: What happens to the gateways' certificates
  hosts: all
  sources:
    - name: production
      meshops.istio.gateway_tls:
        kubeconfig: /etc/eda/production.kubeconfig
        inventory_hosts: [production]
        min_remaining: 30d
        state_file: /var/lib/eda/production.json
  rules:
    - name: Renew what expires
      condition: event.type == "credential_expires" and event.part == "certificate"
      throttle:
        once_within: 10 minutes
        group_by_attributes: [event.cluster, event.namespace, event.credential]
      action:
        run_playbook:
          name: meshops.istio.renew
"""

_COLLECTION = ("ansible_collections", "meshops", "istio")
_PLACES = ("~/.ansible/collections", "/usr/share/ansible/collections")


def _engine() -> ModuleType:
    """Find the collection's own code, which ansible-rulebook does not put on Python's path."""
    here = Path(__file__).absolute()
    around = [place.parent for place in here.parents if place.name == _COLLECTION[0]]
    named = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep)
    for place in (*around, *(Path(text).expanduser() for text in (*named, *_PLACES) if text)):
        if place.joinpath(*_COLLECTION, "plugins", "module_utils").is_dir():
            if str(place) not in sys.path:
                sys.path.append(str(place))
            # PyPI's package `ansible` has a package of this name, which would hide the directory
            package = importlib.import_module(_COLLECTION[0])
            if str(place / _COLLECTION[0]) not in package.__path__:
                package.__path__.append(str(place / _COLLECTION[0]))
            break
    return importlib.import_module(".".join((*_COLLECTION, "plugins", "module_utils", "gateway_events")))


async def main(queue: asyncio.Queue[dict[str, Any]], args: dict[str, Any]) -> None:
    """Send events until it is cancelled; what is wrong with the arguments is raised before anything is watched."""
    args = {name: value for name, value in args.items() if name != "eda_feedback_queue"}
    try:
        watched = _engine().lookout(args)
    except ImportError as error:
        msg = f"gateway_tls: {error}; install kubernetes and cryptography, and the collection meshops.istio, where ansible-rulebook runs"
        raise RuntimeError(msg) from error
    # a thread of its own: the watch of many clusters would use up those that asyncio has for everybody
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gateway_tls")
    watched.start()
    try:
        while not watched.is_over:
            for event in await asyncio.get_running_loop().run_in_executor(thread, watched.next):
                await queue.put(event)
                await asyncio.sleep(0)
            watched.told()
    finally:
        watched.stop()
        thread.shutdown(wait=False)


if __name__ == "__main__":

    class _Printer:
        """Shows events, to try the source out: python gateway_tls.py kubeconfig=... min_remaining=30d."""

        async def put(self, event: dict[str, Any]) -> None:
            """Print one event."""
            print(event, flush=True)  # noqa: T201

    asyncio.run(main(_Printer(), dict(word.split("=", 1) for word in sys.argv[1:])))  # type: ignore[arg-type]
