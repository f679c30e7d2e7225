# SPDX-License-Identifier: GPL-2.0-or-later
"""One migration of one case: load, wait until it is steady, move it, ask the guest what it felt."""

import collections
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "live"))
import guestline  # noqa: E402


class Case(
    collections.namedtuple("Case", "wset rate rate_name tracking channels max_downtime_ms memory limit_s")
):
    def __str__(self):
        return f"{self.wset} {self.rate_name}/s, {self.tracking}, {self.channels} ch"

    def cmdline(self):
        return f"mode=dirty wset={self.wset} rate={self.rate} words=1 seconds=0 report=200ms"


def run_case(pair, warm):
    """What one migration did, as numbers; "failed" says why it did not complete. Memory that is warm is given back before it."""
    pair.start_target()
    pair.start_source()
    time.sleep(0.5)
    dirty_rate = guestline.last(pair.source_lines(), "report")["rate"]
    page_kind = pair.page_kind()
    warm.give_back()
    pair.source_type("g")
    time.sleep(0.1)
    cpu_before = pair.cpu_seconds()
    begin = time.monotonic()
    failed = pair.migrate()
    total_s = time.monotonic() - begin
    cpu_s = pair.cpu_seconds() - cpu_before
    result = {"failed": failed, "dirty_rate": dirty_rate, "page_kind": page_kind, "wall_s": total_s, "bytes": 0}
    result.update(pair.numbers())
    if failed:
        return result
    time.sleep(0.2)
    done = pair.finish(pair.target)
    if done["errors"]:
        raise AssertionError(f"the guest's memory is wrong after {pair.case}: {done}")
    result["gap_us"] = done["gap_us"]
    result["cpu_s"] = cpu_s
    result["bytes_per_s"] = result["bytes"] / result["total_s"]
    result["bytes_per_cpu_s"] = result["bytes"] / max(cpu_s, 0.01)
    return result
