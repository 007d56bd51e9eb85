# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read of a cluster so far, on the way to a snapshot, and how much of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..istio.snapshot import Coverage
from ..objects.kinds import Kind, Manifest, Ref, Resource, ref_of
from .client import Cluster
from .reconcile import read
from .surroundings import if_allowed


@dataclass
class Seen:
    """What was read so far."""

    objects: dict[Ref, Manifest]
    read: dict[Kind, Coverage]

    def add(self, resource: Resource, items: Iterable[Manifest] | None, coverage: Coverage) -> None:
        """The objects of a kind; None for what may not be read."""
        if items is None:
            return
        self.objects.update({ref_of({**item, "kind": resource.kind, "apiVersion": resource.api_version}): item for item in items})
        before = self.read.get(resource.key, Coverage())
        self.read[resource.key] = replace(
            before,
            everywhere=before.everywhere or coverage.everywhere,
            namespaces=before.namespaces | coverage.namespaces,
            names=before.names | coverage.names,
        )

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        return self.objects.get(resource.ref(namespace, name))


def read_names(cluster: Cluster, resource: Resource, names: Iterable[tuple[str, str]], seen: Seen) -> None:
    """Objects by name. Up to eight of a namespace cost a GET each, more one LIST; where some of them may be read only, those."""
    places: dict[str, list[Ref]] = {}
    for namespace, name in dict.fromkeys(names):
        places.setdefault(namespace, []).append(resource.ref(namespace, name))
    for refs in places.values():
        groups = [refs]
        answer = if_allowed(lambda refs=refs: read(cluster, [(resource, ref) for ref in refs]))  # type: ignore[misc]
        if answer is None and len(refs) > 1:
            groups = [[ref] for ref in refs]
        for group in groups:
            found = answer or if_allowed(lambda group=group: read(cluster, [(resource, ref) for ref in group]))  # type: ignore[misc]
            if found is not None:
                names_read = frozenset((ref.namespace, ref.name) for ref in group)
                seen.add(resource, [item for item in found.values() if item is not None], Coverage(names=names_read))
