"""The readable log formats: one small reader each, and the registry that names them.

A new format is one file beside this one and one line below. The first lines of a log are tried in the registry's order; of
formats that understand equally many of them, the first wins.
"""

from __future__ import annotations

from traffic.formats.base import Format
from traffic.formats.csv_records import CSV
from traffic.formats.json_records import JSON
from traffic.formats.logfmt import LOGFMT
from traffic.formats.named.alb import ALB
from traffic.formats.named.api_gateway import API_GATEWAY_CLF
from traffic.formats.named.api_gateway_json import API_GATEWAY
from traffic.formats.named.azure import AZURE
from traffic.formats.named.caddy import CADDY
from traffic.formats.named.cloudflare import CLOUDFLARE
from traffic.formats.named.cloudtrail import CLOUDTRAIL
from traffic.formats.named.combined import COMBINED
from traffic.formats.named.common import COMMON
from traffic.formats.named.elb import ELB
from traffic.formats.named.envoy import ENVOY
from traffic.formats.named.envoy_json import ENVOY_JSON
from traffic.formats.named.gin import GIN
from traffic.formats.named.google_cloud import GOOGLE_CLOUD
from traffic.formats.named.haproxy import HAPROXY
from traffic.formats.named.heroku import HEROKU
from traffic.formats.named.ingress_nginx import INGRESS_NGINX
from traffic.formats.named.istio import ISTIO
from traffic.formats.named.kong import KONG
from traffic.formats.named.kubernetes_audit import KUBERNETES_AUDIT
from traffic.formats.named.litespeed import LITESPEED
from traffic.formats.named.rails import RAILS
from traffic.formats.named.s3 import S3
from traffic.formats.named.squid import SQUID
from traffic.formats.named.traefik import TRAEFIK
from traffic.formats.named.traefik_json import TRAEFIK_JSON
from traffic.formats.named.uvicorn import UVICORN
from traffic.formats.named.uwsgi import UWSGI
from traffic.formats.named.vault import VAULT
from traffic.formats.named.vhost_combined import VHOST_COMBINED
from traffic.formats.named.zeek import ZEEK
from traffic.formats.text import TEXT
from traffic.formats.w3c import LOG as W3C

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        CADDY,
        TRAEFIK_JSON,
        CLOUDFLARE,
        GOOGLE_CLOUD,
        AZURE,
        KONG,
        API_GATEWAY,
        ENVOY_JSON,
        CLOUDTRAIL,
        KUBERNETES_AUDIT,
        VAULT,
        ZEEK,
        JSON,
        INGRESS_NGINX,
        TRAEFIK,
        VHOST_COMBINED,
        S3,
        ALB,
        HAPROXY,
        ELB,
        ENVOY,
        ISTIO,
        API_GATEWAY_CLF,
        SQUID,
        GIN,
        RAILS,
        UVICORN,
        UWSGI,
        LITESPEED,
        COMBINED,
        COMMON,
        W3C,
        HEROKU,
        LOGFMT,
        CSV,
        TEXT,
    )
}
"""All formats by name. Of those that understand equally many of a log's first lines, the first one reads it."""
