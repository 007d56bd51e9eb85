#!/usr/bin/env bash
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs Debian's packages that single tests need and are skipped without: Redis and PostgreSQL as servers outside the mesh, and Chromium for the
# report's page, and Prometheus' tools for its metrics. Only .ci/run asks for it, since it changes the machine. Where it cannot be done, it says so and succeeds.
set -euo pipefail

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
command -v chromedriver >/dev/null || missing+=(chromium chromium-driver fonts-dejavu-core)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
if [ ${#missing[@]} -eq 0 ]; then
  echo "nothing is missing"
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, for want of root or apt-get: ${missing[*]}"
elif { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1; then
  echo "installed: ${missing[*]}"
else
  echo "not installed, since apt-get failed: ${missing[*]}"
fi

"$(dirname "${BASH_SOURCE[0]}")/prometheus.sh"
