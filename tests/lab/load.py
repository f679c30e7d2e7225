# SPDX-License-Identifier: GPL-2.0-or-later
"""
A load in a Linux guest: started before the guest is moved, saved or disturbed, and at the end ended and checked. Its
programs are lab/guest/memstress.c and vectors.c; what else such a test is about (disks, packets, moves) is its own.

    load = Load(guest, mib=16, rate=300)
    ...                                     # the guest goes from process to process
    load.end(guest)                         # and is off afterwards
"""

import re
import time

# What a kernel may not say while it is moved.
COMPLAINTS = r"BUG|WARNING|Oops|lockup|stall|I/O error"
# The same where hosts are stopped and cut off meanwhile: that time went by without it (lockup, stall) it may say, for so
# it did.
COMPLAINTS_BUT_TIME = r"BUG|WARNING|Oops|I/O error"
CLOCK_S = 60


class Load:
    """Memory under memstress (rate: pages a second), and unless told otherwise vector registers under vectors."""

    def __init__(self, guest, *, mib: int, rate: int, vectors: bool = True):
        self.programs = ["memstress", "vectors"] if vectors else ["memstress"]
        # The kernel's log moves with the guest: lines before this one are not of our time.
        self.lines = int(guest.sh("dmesg | wc -l"))
        guest.sh(f"memstress -m {mib} -t 1 -r {rate} >/tmp/memory 2>&1 & "
                 + ("vectors 100000 >/tmp/vectors & " if vectors else "") + "sleep 2")

    def end(self, guest, complaints: str = COMPLAINTS) -> None:
        """Memory and vectors kept, clock in order, and the kernel found nothing to complain of; then off."""
        guest.sh(f"killall {' '.join(self.programs)}; sleep 2")
        memory = guest.sh("tail -n 1 /tmp/memory")
        assert re.search(r"end writes=[1-9]\d* errors=0 ", memory), memory
        if "vectors" in self.programs:
            vectors = guest.sh("cat /tmp/vectors")
            assert set(re.findall(r"errors=(\d+)", vectors)) == {"0"}, vectors
        clock, now = int(guest.sh("date +%s")), time.time()
        assert abs(clock - now) < CLOCK_S, (clock, now)
        said = guest.sh(f"dmesg | tail -n +{self.lines + 1}")
        assert not re.search(complaints, said), said
        guest.start("guest-poweroff")
        assert guest.wait() == 0
