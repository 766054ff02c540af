"""The names that the fields of logs usually have, for each role: those of servers, proxies, frameworks and log services."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

USUAL: dict[str, str] = {
    # The connection's other end as the servers call it, before what a proxy says of it.
    "client": """
        client_ip client_ip_address client_address c_ip client_host client_addr cli_ip remote_addr remote_ip
        client_real_ip remote_address remote_ip_address remote_host caller_ip caller_ip_address source_ip source_ip_address
        source_ips source_address src_ip src_addr src_address srcip src_host ip_address ip_addr ip client requester_ip
        request_ip visitor_ip user_ip peer_ip peer_address peer_addr net_peer_ip net_sock_peer_addr network_peer_address
        downstream_remote_address downstream_direct_remote_address proxy_protocol_addr client_ip_port
        client_port_address real_ip x_real_ip http_x_real_ip x_client_ip http_x_client_ip true_client_ip
        http_true_client_ip cf_connecting_ip http_cf_connecting_ip fastly_client_ip http_fastly_client_ip
        x_envoy_external_address x_azure_clientip socket_ip""",
    # Of these a name is not enough: they are taken for the client only where the values are addresses.
    "client if an address": "fwd src remote peer requester client_port host hostname h addr address source from origin user",
    "forwarded": """
        x_forwarded_for http_x_forwarded_for forwarded_for x_forward_for forward_for xff http_xff
        x_original_forwarded_for http_forwarded forwarded proxy_add_x_forwarded_for req_x_forwarded_for
        cs_x_forwarded_for""",
    "user": """
        user user_name username remote_user cs_username auth_user http_user user_id userid uid usr_id usr_name
        enduser_id user_identity_arn login principal subject sub u""",
    "key": """
        api_key apikey x_api_key http_x_api_key api_key_id access_key access_key_id key_id token_id consumer_username
        consumer consumer_id consumer_custom_id credential client_id app_id application_id app tenant tenant_id account
        account_id customer customer_id org org_id organization organization_id team team_id project project_id
        workspace workspace_id workspace user_identity_account_id key""",
    "time": """
        msec start_utc edge_start_timestamp started_at start_time time_start start_timestamp event_start start
        client_received_start_timestamp request_start request_time_stamp timestamp_begin start_local
        time timestamp ts t datetime date_time at date when
        epoch unixtime unix_time time_unix time_unix_nano time_iso8601 time_local time_stamp timestamp_ms timestamp_us
        timestamp_ns timestamp_s timestamp_utc time_utc datetime_utc utc_time utc timestamp_millis timestamp_micros
        time_ms time_us time_ns time_usec start_time_unix_nano ts_ms epoch_ms epoch_millis req_time_sec request_timestamp
        request_time request_received_timestamp request_date request_datetime log_time log_timestamp logged_at event_time
        event_timestamp event_date created created_at time_created creation_time time_generated asctime
        observed_timestamp trace_start instant instant_epoch_second published eventtime end_time ended_at end_timestamp
        edge_end_timestamp end_time_unix_nano receive_timestamp received_at ingestion_time ingestion_timestamp
        stage_timestamp""",
    "status": """
        status status_code http_status http_status_code sc_status response_status response_status_code response_code
        http_response_status_code http_response_code http_response_status downstream_status edge_response_status
        elb_status_code http_code result_code return_code code status_int resp_status resp_status_code response rc s
        response_code_sent status_sent c_status answer result statut estado stato""",
    "request": """
        request request_line http_request cs_request requestline first_line request_first_line requested_url req_line r""",
    "method": """
        method request_method http_method http_request_method cs_method req_method verb http_verb client_request_method
        m requestmethod operation_method""",
    "path": """
        path request_path uri_path url_path http_path cs_uri_stem uri_stem client_request_path resource_path req_path
        route http_route uri request_uri url request_url req_url http_url http_target url_full url_original original_url
        full_path client_request_uri target u_path cs_uri resource endpoint requested requested_uri page""",
    "agent": """
        user_agent http_user_agent useragent agent cs_user_agent user_agent_original ua client_request_user_agent
        browser req_user_agent http_useragent""",
    "referrer": "referer referrer http_referer http_referrer cs_referer http_request_referrer client_request_referer ref f",
    "size": """
        body_bytes_sent bytes_sent bytes response_size size sc_bytes response_bytes body_size response_length bytes_out
        sent_bytes edge_response_bytes http_response_body_bytes content_length response_content_length
        downstream_content_size network_bytes_written b""",
    "session": """
        session session_id sessionid sess_id sid jsessionid cookie_sessionid cookie_session cookie_jsessionid
        cookie_phpsessid visitor_id visitor""",
    "host": "host http_host vhost server_name virtual_host domain authority cs_host client_request_host hostname",
}
ROLES = {role: {re.sub(r"[\W_]+", "", name): rank for rank, name in enumerate(text.split())} for role, text in USUAL.items()}
"""For each role the usual names in order, without case and punctuation."""

ASKED = ("client", "user", "endpoint", "method", "path", "status", "session", "agent", "referrer", "host", "size")
"""The roles that `key` may name, beside "xff"."""
FORWARDED_NAMES = ("xff", "x-forwarded-for", "forwarded")

# Another machine's fields: "upstream.status" is no status of the service, and "server.ip" no client.
OTHERS = """
    upstream origin backend target server destination dest dst geo geoip local host kubernetes k8s pod node container
    observer cloud resource listener"""
# What a client or the service sent says nothing of the request itself: a body may hold any names.
SENT = "request_body req_body response_body res_body resp_body post_data params parameters query query_string args form"
FOREIGN = frozenset(re.sub(r"[\W_]+", "", name) for name in f"{OTHERS} {SENT}".split())
# Written only where the firewall answers in the place of the service: a request may have none.
SELDOM_STATUS = frozenset(("responsecodesent",))
# A field whose name ends so is a status, if its values are: "lbStatusCode", "aspnet-response-statuscode".
STATUS_ENDS = ("statuscode", "httpstatus", "responsestatus", "responsecode", "httpcode")
INCOMING = frozenset(("request", "req"))
# What a client claims in its headers comes after what the server says itself.
CLAIMED = frozenset(("headers", "header", "cookies", "cookie", "requestheaders", "httpheaders"))
# Of a table that has several requests in a row, as statistics have.
COUNTS = frozenset(
    """
    requests request_count requests_count num_requests n_requests total_requests num_model_requests hits hit_count count cnt
    """.replace("_", "").split()
)
# These are later than the request: taken where there is nothing else.
LATE = re.compile(r"^(?:request|response|edge)?(?:end|finish|complete|receive|ingest|stage|expire|update|stop)")
# Clocks of the log's own are called so, and durations seldom.
CLOCKS = frozenset(("time", "timestamp", "ts", "t", "seconds", "msec", "times", "timems", "timeus", "timens"))
FOREIGN_START = re.compile(
    r"(?:upstream|origin|backend|target|server|dest|dst|local|downstreamlocal|listen|bind|pod|node|gateway|sip$|sport$|authority)"
)


def simple(name: str) -> str:
    """Return a name without case and punctuation: "X-Forwarded-For" and "x_forwarded_for" are alike."""
    return re.sub(r"[\W_]+", "", name.casefold())


def usual_rank(name: str, usual: Mapping[str, int], foreign: Collection[str]) -> tuple[int, int] | None:
    """Return how usual a name is, and how many outer objects it leaves aside; None if it is not usual at all."""
    whole = usual.get(simple(name))
    if whole is not None:
        return whole, 0
    steps = name.split(".")
    for outer in range(1, len(steps)):
        if simple(steps[outer - 1]) in foreign or simple("".join(steps[max(outer - 2, 0) : outer])) in foreign:
            return None
        rank = usual.get(simple(".".join(steps[outer:])))
        if rank is not None:
            return rank, outer
    return None


def is_claimed(name: str) -> bool:
    """Tell whether a field is one of the headers or cookies that a client sent."""
    return any(simple(step) in CLAIMED for step in name.split(".")[:-1])


def is_foreign(name: str) -> bool:
    """Tell whether a field is another machine's."""
    return any(simple(step) in FOREIGN or FOREIGN_START.match(simple(step)) for step in name.split("."))


def date_and_time(names: Sequence[str]) -> list[tuple[str, ...]]:
    """List the pairs of a date and a time: "date" and "time", "log.date" and "log.time", "Date" and "Time (UTC)"."""
    found: list[tuple[str, ...]] = []
    for date in names:
        before = simple(date)
        if not before.endswith(("date", "day")):
            continue
        stem = re.sub(r"(?:date|day)$", "", before)
        found += [(date, time) for time in names if simple(time) in {stem + "time", stem + "hour", stem + "timeutc", "time"}]
    return found
