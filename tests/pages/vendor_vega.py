"""Brings vega, vega-lite and vega-embed, which draw the interactive chart of a report, into `ratesim/notebook/vendor/vega/`:
by npm, in the versions that are named here, and only if they are what was expected.

    python tests/pages/vendor_vega.py

Versions 5 and 6: JupyterLab draws the same chart with its own of these. For others: change the rows to what
`npm view NAME@VERSION dist.integrity` says and what this script says that it found. LICENSE-3RD-PARTY.txt is kept by hand.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from vendor_axe import integrity

TARGET = Path(__file__).parents[2] / "ratesim" / "notebook" / "vendor" / "vega"


class Package(NamedTuple):
    name: str
    version: str
    integrity: str  # of the package
    sha256: str  # of NAME.min.js


PACKAGES = (
    Package(
        "vega",
        "5.33.1",
        "sha512-1fArfVDUqVbb5z8n+/nVQb+VNBzx8svY6CrsyTK4Ujm4yrd9I1auoKxBAPXLCavY1LcrbHUskQbGUP8gXOzyQw==",
        "463f3db6a40b20e9747b4ed38f37ed0add508838f9141b1cf8366784b07b30c8",
    ),
    Package(
        "vega-lite",
        "5.23.0",
        "sha512-l4J6+AWE3DIjvovEoHl2LdtCUkfm4zs8Xxx7INwZEAv+XVb6kR6vIN1gt3t2gN2gs/y4DYTs/RPoTeYAuEg6mA==",
        "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f",
    ),
    Package(
        "vega-embed",
        "6.29.0",
        "sha512-PmlshTLtLFLgWtF/b23T1OwX53AugJ9RZ3qPE2c01VFAbgt3/GSNI/etzA/GzdrkceXFma+FDHNXUppKuM0U6Q==",
        "12d02acfbe3ec59ef9a37dd4822a2e04e2961b5bbb671bbe661d2221715b99da",
    ),
)


def unpack(packed: Path, package: Package, target: Path) -> None:
    """Write the script of a package, and vega-embed's license, into `target`. Raises SystemExit where it is another."""
    found = integrity(packed.read_bytes())
    if found != package.integrity:
        raise SystemExit(f"{package.name} {package.version}: its integrity is {found}; nothing was written")
    with tarfile.open(packed) as archive:
        script = archive.extractfile(f"package/build/{package.name}.min.js").read()
        text = archive.extractfile("package/LICENSE").read() if package.name == "vega-embed" else b""
    found = hashlib.sha256(script).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{package.name}.min.js: its SHA-256 is {found}, not {package.sha256}; nothing was written")
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{package.name}.min.js").write_bytes(script)
    if text:
        (target / "LICENSE").write_bytes(text)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            named = f"{package.name}@{package.version}"
            subprocess.run(["npm", "pack", "--silent", named], cwd=folder, check=True, stdout=sys.stderr)
            unpack(Path(folder) / f"{package.name}-{package.version}.tgz", package, TARGET)
    print(f"{', '.join(f'{each.name} {each.version}' for each in PACKAGES)} in {TARGET}")


if __name__ == "__main__":
    main()
