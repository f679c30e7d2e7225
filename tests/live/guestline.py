# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bare-metal guest says on its serial line (docs/testing.md), as values."""

import re


def words(line):
    """The key=value words of a line; numbers as int."""
    found = {}
    for key, value in re.findall(r'([\w]+)=("[^"]*"|\S+)', line):
        found[key] = int(value) if value.isdigit() else value.strip('"')
    return found


def last(lines, tag):
    """The words of the last line with this tag ("report", "done", ...), or None."""
    for line in reversed(lines):
        if line.startswith(f"guest: {tag}"):
            return words(line)
    return None
