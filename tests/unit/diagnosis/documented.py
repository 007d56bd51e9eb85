# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets as the pages of Istio, cert-manager and the Gateway API have them, whole: nothing is to be found in them."""

from __future__ import annotations

TWO_HOSTS = """
kind: Service
metadata: {name: helloworld-v1, namespace: default, labels: {app: helloworld-v1}}
spec: {selector: {app: helloworld-v1}, ports: [{name: http, port: 5000}]}
---
kind: Gateway
metadata: {name: mygateway, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https-httpbin, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: httpbin-credential}, hosts: [httpbin.example.com]}
  - port: {number: 443, name: https-helloworld, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: helloworld-credential}
    hosts: [helloworld-v1.example.com]
---
kind: VirtualService
metadata: {name: httpbin, namespace: default}
spec:
  hosts: [httpbin.example.com]
  gateways: [mygateway]
  http: [{match: [{uri: {prefix: /status}}, {uri: {prefix: /delay}}], route: [{destination: {port: {number: 8000}, host: httpbin}}]}]
---
kind: VirtualService
metadata: {name: helloworld-v1, namespace: default}
spec:
  hosts: [helloworld-v1.example.com]
  gateways: [mygateway]
  http: [{match: [{uri: {exact: /hello}}], route: [{destination: {host: helloworld-v1, port: {number: 5000}}}]}]
"""
"""Secure Gateways: a TLS ingress gateway for multiple hosts."""

_NGINX = "my-nginx.mesh-external.svc.cluster.local"
EGRESS_MUTUAL = f"""
kind: Namespace
metadata: {{name: mesh-external}}
---
kind: Service
metadata: {{name: my-nginx, namespace: mesh-external, labels: {{run: my-nginx}}}}
spec: {{selector: {{run: my-nginx}}, ports: [{{port: 443, protocol: TCP}}]}}
---
kind: Gateway
metadata: {{name: istio-egressgateway, namespace: default}}
spec:
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{_NGINX}], tls: {{mode: ISTIO_MUTUAL}}}}]
---
kind: DestinationRule
metadata: {{name: egressgateway-for-nginx, namespace: default}}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      loadBalancer: {{simple: ROUND_ROBIN}}
      portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: ISTIO_MUTUAL, sni: {_NGINX}}}}}]
---
kind: VirtualService
metadata: {{name: direct-nginx-through-egress-gateway, namespace: default}}
spec:
  hosts: [{_NGINX}]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{{gateways: [mesh], port: 80}}]
    route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, subset: nginx, port: {{number: 443}}}}, weight: 100}}]
  - match: [{{gateways: [istio-egressgateway], port: 443}}]
    route: [{{destination: {{host: {_NGINX}, port: {{number: 443}}}}, weight: 100}}]
---
kind: DestinationRule
metadata: {{name: originate-mtls-for-nginx, namespace: istio-system}}
spec:
  host: {_NGINX}
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    portLevelSettings:
    - {{port: {{number: 443}}, tls: {{mode: MUTUAL, credentialName: client-credential, sni: {_NGINX}}}}}
"""
"""Egress gateways with TLS origination: mutual TLS, the client certificate in a Secret."""

EGRESS_FILES = """
kind: Namespace
metadata: {name: mesh-external}
---
kind: Service
metadata: {name: my-nginx, namespace: mesh-external, labels: {run: my-nginx}}
spec: {selector: {run: my-nginx}, ports: [{port: 443, protocol: TCP}]}
---
kind: ServiceEntry
metadata: {name: nginx, namespace: default}
spec:
  hosts: [nginx.example.org]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
  endpoints: [{address: my-nginx.mesh-external.svc.cluster.local, ports: {https: 443}}]
---
kind: VirtualService
metadata: {name: nginx, namespace: default}
spec:
  hosts: [nginx.example.org]
  tls:
  - match: [{port: 443, sniHosts: [nginx.example.org]}]
    route: [{destination: {host: nginx.example.org, port: {number: 443}}, weight: 100}]
---
kind: Gateway
metadata: {name: istio-egressgateway, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [nginx.example.org], tls: {mode: ISTIO_MUTUAL}}]
---
kind: DestinationRule
metadata: {name: egressgateway-for-nginx, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: nginx.example.org}}]
---
kind: VirtualService
metadata: {name: direct-nginx-through-egress-gateway, namespace: default}
spec:
  hosts: [nginx.example.org]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: nginx, port: {number: 443}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 443}]
    route: [{destination: {host: nginx.example.org, port: {number: 443}}, weight: 100}]
---
kind: DestinationRule
metadata: {name: originate-mtls-for-nginx, namespace: default}
spec:
  host: nginx.example.org
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: MUTUAL
        clientCertificate: /etc/nginx-client-certs/tls.crt
        privateKey: /etc/nginx-client-certs/tls.key
        caCertificates: /etc/nginx-ca-certs/ca-chain.cert.pem
        sni: nginx.example.org
"""
"""The same with the client certificate mounted as files, at the gateway and in the client, as the page had it."""

API_EGRESS = """
kind: Namespace
metadata: {name: istio-egress}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: nginx-egressgateway, namespace: istio-egress, annotations: {networking.istio.io/service-type: ClusterIP}}
spec:
  gatewayClassName: istio
  listeners:
  - name: https
    hostname: nginx.example.org
    port: 443
    protocol: HTTPS
    tls: {mode: Terminate, options: {gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL}}
    allowedRoutes: {namespaces: {from: All}}
---
kind: ServiceEntry
metadata: {name: nginx, namespace: default}
spec:
  hosts: [nginx.example.org]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
kind: DestinationRule
metadata: {name: egressgateway-for-nginx, namespace: default}
spec:
  host: nginx-egressgateway-istio.istio-egress.svc.cluster.local
  trafficPolicy:
    portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: nginx.example.org}}]
"""
"""Mutual TLS through an egress gateway of the Gateway API, as far as its listeners and the first hop go."""

HELM = """
kind: Namespace
metadata: {name: istio-ingress, labels: {istio-injection: enabled}}
---
kind: Service
metadata:
  name: istio-ingress
  namespace: istio-ingress
  labels: {app: istio-ingress, istio: ingress, app.kubernetes.io/managed-by: Helm}
  annotations: {meta.helm.sh/release-name: istio-ingress, meta.helm.sh/release-namespace: istio-ingress}
spec:
  type: LoadBalancer
  selector: {app: istio-ingress, istio: ingress}
  ports:
  - {name: status-port, port: 15021, targetPort: 15021}
  - {name: http2, port: 80, targetPort: 80}
  - {name: https, port: 443, targetPort: 443}
---
kind: Pod
metadata:
  name: istio-ingress-0
  namespace: istio-ingress
  labels: {app: istio-ingress, istio: ingress, sidecar.istio.io/inject: "true"}
  annotations: {inject.istio.io/templates: gateway}
spec:
  serviceAccountName: istio-ingress
  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]}
  containers: [{name: istio-proxy, image: auto}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: istio-ingress, namespace: istio-ingress}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, watch, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: istio-ingress, namespace: istio-ingress}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: istio-ingress}
subjects: [{kind: ServiceAccount, name: istio-ingress, namespace: istio-ingress}]
---
kind: Gateway
metadata: {name: shop, namespace: default}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [httpbin.example.com], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [httpbin.example.com], tls: {mode: SIMPLE, credentialName: httpbin-credential}}
---
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: [httpbin.example.com]
  gateways: [shop]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""
"""What Istio's chart `gateway` installs, and a Gateway on it."""
