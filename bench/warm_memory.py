# SPDX-License-Identifier: GPL-2.0-or-later
"""
Free memory that an allocation finds at once. A machine that is a VM itself may return what is free to its own host (free
page reporting), and an allocation then waits for that host to find memory again: for tens of milliseconds, in which the
whole CPU stands still, whoever it is that allocates.

Linux looks for memory to report two seconds after some became free (PAGE_REPORTING_DELAY in mm/page_reporting.c). So
memory is taken, and held until whoever looks has found it taken; then, for two seconds from when it is given back, it is
free and still the machine's own.
"""

import mmap
import time

MADV_POPULATE_WRITE = 23
REPORTING_DELAY_S = 2.0
MARGIN_S = 0.2


class WarmMemory:
    """As many bytes of memory, taken from when it is made until give_back(), and again from take() on."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self.given_back = float("-inf")
        self.take()

    def take(self):
        self.memory = mmap.mmap(-1, self.nbytes)
        self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.memory.madvise(MADV_POPULATE_WRITE)
        self.taken = time.monotonic()

    def give_back(self):
        """Returns when it is free, and nobody will look for two seconds."""
        in_time = self.taken < self.given_back + REPORTING_DELAY_S  # whoever looked for what was given back found it taken
        last = self.given_back if in_time else self.taken
        time.sleep(max(0, last + REPORTING_DELAY_S + MARGIN_S - time.monotonic()))
        self.given_back = time.monotonic()
        self.close()

    def close(self):
        self.memory.close()
