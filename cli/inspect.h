/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of `tern inspect` share: files are read as they are, and printed so that no byte of them reaches the
 * terminal as a control sequence.
 */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"

/* Sections as in docs/wire.md, field by field. -EBADMSG, logged with `what`, where they are not whole; what came before is
 * printed. */
int inspect_sections(const char *what, const void *bytes, size_t len) must_check;
/* A configuration, indented. -EBADMSG, logged: not JSON. */
int inspect_config(const void *bytes, size_t len) must_check;
/* Bytes as hexadecimal digits. */
void inspect_hex(const uint8_t *bytes, size_t len);

/* An exit status. */
int inspect_snapshot(int fd, const char *path, bool verify);
int inspect_stream(int fd, const char *path);

#endif
