#!/usr/bin/env bash
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Takes promtool, node exporter and the push gateway out of Debian's packages into .cache/prometheus, for the tests of the report's metrics. Nothing is
# installed, which would start services. Where it cannot be done, it says so and succeeds: the tests are skipped then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(prometheus prometheus-node-exporter prometheus-pushgateway)
place=.cache/prometheus
fresh=$place.$$
trap 'rm -rf "$fresh"' EXIT

download() { (cd "$fresh" && apt-get download -q "${packages[@]}"); }
unpack() {
  local package
  for package in "$fresh"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$fresh" --wildcards './usr/bin/prom*' || return 1
  done
  rm -rf "$place" && mv "$fresh/usr/bin" "$place"
}

mkdir -p "$fresh"
if [ -x "$place/promtool" ]; then
  echo "Prometheus' tools are there"
elif ! command -v apt-get >/dev/null; then
  echo "not unpacked, for want of apt-get: ${packages[*]}"
elif { download || { apt-get update -q && download; }; } >/dev/null 2>&1 && unpack; then
  echo "unpacked: ${packages[*]}"
else
  echo "not unpacked, since apt-get failed: ${packages[*]}"
fi
