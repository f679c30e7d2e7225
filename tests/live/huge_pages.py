# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host says of huge pages, changed for a while: for tests and the bench, as root."""

import contextlib
import re


@contextlib.contextmanager
def setting(name, wanted):
    """While it lasts, the host's setting of that name ("enabled": anonymous memory; "shmem_enabled": shared) is that."""
    path = f"/sys/kernel/mm/transparent_hugepage/{name}"
    with open(path, encoding="ascii") as file:
        found = re.search(r"\[(\w+)\]", file.read()).group(1)
    if found == wanted:
        yield
        return
    with open(path, "w", encoding="ascii") as file:
        file.write(wanted)
    try:
        yield
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write(found)
