"""The audit log of the Kubernetes API. A request has an event for each of its stages, of which the last one counts."""

from __future__ import annotations

from traffic.formats.fields_format import fields_format

KUBERNETES_AUDIT = fields_format(
    "kubernetes_audit",
    "Kubernetes audit log",
    '{"kind":"Event","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/pods","verb":"list","user":{"username":'
    '"admin"},"sourceIPs":["203.0.113.7"],"requestReceivedTimestamp":"2024-05-10T06:25:24.512345Z","responseStatus":{"code":200}}',
    "https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/",
    "auditID",
    "stage",
    "requestReceivedTimestamp",
    roles={
        "client": ("sourceIPs",),
        "time": ("requestReceivedTimestamp",),
        "status": ("responseStatus.code",),
        "user": ("user.username",),
        "method": ("verb",),
        "path": ("requestURI",),
    },
    only={"stage": "ResponseComplete|Panic"},
)
