# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helloworld of Istio's samples: `helloworld.py ADDRESS PORT VERSION INSTANCE` answers /hello with one line."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    version, instance = "v1", "helloworld"

    def do_GET(self) -> None:
        known = {"/hello": f"Hello version: {self.version}, instance: {self.instance}\n", "/health": "Helloworld is healthy\n"}
        path = self.path.partition("?")[0]
        body = known.get(path, "Not Found\n").encode()
        self.send_response(200 if path in known else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    address, port, Hello.version, Hello.instance = sys.argv[1:]
    ThreadingHTTPServer((address, int(port)), Hello).serve_forever()
