# SPDX-License-Identifier: GPL-2.0-or-later
"""The C library's heap in sandboxed threads (thread_heap.c): managing it takes no system call that they may not make."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(os.environ.get("TERN_BUILD", os.path.join(ROOT, "build")), "tests", "live", "thread-heap")


def test_threads_use_the_heap():
    run = subprocess.run([PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "ok\n"), run
