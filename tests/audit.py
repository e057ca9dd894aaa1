"""Known vulnerabilities of the installed packages: ``python -m tests.audit``, in ``make lint``.

Asks OSV (osv.dev) by pip-audit.  Where the service cannot be reached, one sentence says so and
nothing fails: a laptop without a network is no reason not to lint.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

__all__ = ["audit", "is_reachable", "vulnerabilities"]

OSV: Final = "https://api.osv.dev/v1/query"
_REACH_SECONDS: Final = 4.0
_AUDIT_SECONDS: Final = 120.0


def is_reachable(url: str, seconds: float = _REACH_SECONDS) -> bool:
    """Tell whether somebody answers at `url`, whatever the status, in `seconds`."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urlopen(url, timeout=seconds).close()
        except HTTPError as refused:
            refused.close()
        except OSError:
            return
        answered.set()

    # A thread, because the look-up of a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()


def audit(url: str = OSV) -> int:
    """Print what is known of the installed packages; returns the exit code."""
    if not is_reachable(url):
        print(
            f"pip-audit: {url} cannot be reached; vulnerabilities were not looked for."
        )
        return 0
    words = ["-m", "pip_audit", "-s", "osv", "--osv-url", url, "-f", "json"]
    words += ["--skip-editable", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_AUDIT_SECONDS,
        )
        found = vulnerabilities(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as exc:
        print(f"pip-audit: no report, so vulnerabilities were not looked for: {exc}")
        return 0
    print("\n".join(found) or "pip-audit: no known vulnerabilities.")
    return 1 if found else 0


def vulnerabilities(report: dict[str, Any]) -> list[str]:
    """Return a line for each vulnerability in a report of pip-audit."""
    return [
        f"pip-audit: {package['name']} {package['version']} has {each['id']};"
        f" fixed in {', '.join(each['fix_versions']) or 'no version yet'}"
        for package in report["dependencies"]
        for each in package.get("vulns", ())
    ]


if __name__ == "__main__":
    sys.exit(audit())
