"""The version that setuptools_scm would give: the tag itself, or the next one's .devN+gSHA. Needs .git with its tags."""

import re
import subprocess
import sys


def of(described: str) -> str:
    """From `git describe --tags --long`: v0.11.0-0-gabc -> 0.11.0, v0.11.0-2-gabc -> 0.11.1.dev2+gabc."""
    found = re.fullmatch(r"v(\d+(?:\.\d+)*)\.(\d+)-(\d+)-(g[0-9a-f]+)", described.strip())
    if not found:
        raise ValueError(f"{described!r} names no tag")
    head, last, distance, commit = found.groups()
    return f"{head}.{last}" if distance == "0" else f"{head}.{int(last) + 1}.dev{distance}+{commit}"


def main(source: str) -> int:
    """Print the version of a checkout."""
    argv = ("git", "-c", "safe.directory=*", "-C", source, "describe", "--match", "v[0-9]*", "--tags", "--long")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.stderr.write(f"LookupError: setuptools-scm was unable to detect version for {source}.\n")
        return 1
    sys.stdout.write(f"{of(done.stdout)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
