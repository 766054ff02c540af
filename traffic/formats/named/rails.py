"""Ruby on Rails, which writes several lines about a request. The first one has its time and client, and none its status."""

from __future__ import annotations

from dataclasses import replace

from traffic.formats.base import Block, Splitter
from traffic.formats.filtered import LinesOnly
from traffic.formats.template_format import template_format

STARTED = rb"Started [A-Z]+ \""

FORM = template_format(
    "rails",
    "Ruby on Rails (without lograge)",
    'Started GET "/a" for 203.0.113.7 at 2024-05-10 06:25:24 +0000',
    "https://guides.rubyonrails.org/debugging_rails_applications.html#the-logger",
    'Started $request_method "$request_uri" for $remote_addr at $time',
)


def _splitter(block: Block) -> Splitter | None:
    if b"Started " not in block.data:
        return None
    started = LinesOnly.of(block, STARTED)
    splitter = FORM.splitter(started)
    return LinesOnly(splitter, STARTED) if splitter is not None else None


RAILS = replace(FORM, splitter=_splitter)
