# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a run of migration.py says of the goals: one line a guest, one column a goal. They hold where the guest dirties memory
at less than SLOW of the rate at which it is sent; above it, a line says how the migration ended.
"""

from sample import Sample

SLOW = 0.8
PAGE_BYTES = 4096
HEADER = ["guest", "throughput, of raw TCP (0.95)", "longest gap ms (limit)", "total, of QEMU's best (0.5)", "of its median"]


def judged(text, holds):
    return text if holds else f"**{text}**"


def line(case, tern, qemu):
    good, others = ([r for r in results if not r["failed"]] for results in (tern, qemu))
    if not good:
        return [case, f"failed: {tern[0]['failed']}", "", "", ""]
    total = Sample([r["total_s"] for r in good])
    raw = Sample([r["raw_s"] / r["total_s"] for r in good if "raw_s" in r] or [0]).median
    gap_ms = Sample([r["gap_us"] / 1000 for r in good]).median
    theirs = Sample([r["total_s"] for r in others] or [float("inf")])
    limit_ms = max(5, Sample([r["gap_us"] / 5000 for r in others] or [0]).median)
    rate = Sample([r["dirty_rate"] for r in good]).median * PAGE_BYTES
    fast = rate >= SLOW * Sample([r["bytes_per_s"] for r in good]).median
    best = total.median / min(theirs.values)
    return [
        case + (", above" if fast else ""),
        judged(f"{raw:.2f}", fast or raw >= 0.95),
        judged(f"{gap_ms:.1f} ({limit_ms:.1f})", fast or gap_ms <= limit_ms),
        judged(f"{best:.2f}", fast or best <= 0.5),
        f"{total.median / theirs.median:.2f}",
    ]


def goals(seen):
    """seen: [(case, {"Tern": results, "QEMU": results})]; lines for sample.table()."""
    return [line(case, of["Tern"], of["QEMU"]) for case, of in seen]
