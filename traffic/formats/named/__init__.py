"""Formats by name: one file each, and one line in `traffic.formats.FORMATS`."""
