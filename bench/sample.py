# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples of one quantity: median, 99th percentile, range; and tables of them in Markdown."""

import math
import os
import platform
import subprocess
import time


def percentile(values, share):
    """Nearest-rank percentile; share in 0..1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Sample:
    def __init__(self, values):
        self.values = list(values)

    @property
    def median(self):
        ordered = sorted(self.values)
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle]
        return (ordered[middle - 1] + ordered[middle]) / 2

    @property
    def p99(self):
        return percentile(self.values, 0.99)

    def text(self, digits=1):
        """median (p99; least-most)"""
        form = f"{{:.{digits}f}}"
        return (
            f"{form.format(self.median)} (p99 {form.format(self.p99)}; "
            f"{form.format(min(self.values))}-{form.format(max(self.values))})"
        )


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    """One line that says where and when: without it a number means nothing."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory_kib = int(open("/proc/meminfo", encoding="ascii").readline().split()[1])
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} CPUs ({model}), {memory_kib / 2**20:.0f} GiB, "
        f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
    )


def tool_output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
