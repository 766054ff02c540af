"""Brings axe-core, which looks for what people with a screen reader, a keyboard or weak eyes would stumble over, into
`vendor/axe-core/`: by npm, in the version that is named here, and only if it is what was expected.

    python tests/pages/vendor_axe.py

For another version: change the three constants to what `npm view axe-core@VERSION dist.integrity` says and what this script
says that it found. The tests themselves need neither npm nor a network.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"  # of 16 November 2026, MPL-2.0
INTEGRITY = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of axe.min.js

FILES = ("axe.min.js", "LICENSE", "LICENSE-3RD-PARTY.txt")
TARGET = Path(__file__).parent / "vendor" / "axe-core"


def integrity(packed: bytes) -> str:
    """What npm calls the integrity of a package: its SHA-512 in base64."""
    return f"sha512-{base64.b64encode(hashlib.sha512(packed).digest()).decode()}"


def unpack(packed: Path, target: Path) -> None:
    """Write the files of the package into `target`. Raises SystemExit where they are not the expected ones."""
    found = integrity(packed.read_bytes())
    if found != INTEGRITY:
        raise SystemExit(f"axe-core {VERSION}: its integrity is {found}, not {INTEGRITY}; nothing was written")
    with tarfile.open(packed) as archive:
        files = {name: archive.extractfile(f"package/{name}").read() for name in FILES}
    found = hashlib.sha256(files["axe.min.js"]).hexdigest()
    if found != SHA256:
        raise SystemExit(f"axe.min.js: its SHA-256 is {found}, not {SHA256}; nothing was written")
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (target / name).write_bytes(content)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"axe-core@{VERSION}"], cwd=folder, check=True, stdout=sys.stderr)
        unpack(Path(folder) / f"axe-core-{VERSION}.tgz", TARGET)
    print(f"axe-core {VERSION}: {', '.join(FILES)} in {TARGET}")


if __name__ == "__main__":
    main()
