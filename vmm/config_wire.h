/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration as it travels (docs/wire.md, CONFIG) and as a saved VM keeps it: a JSON object of effective values. It
 * holds what the guest can observe, and paths as hints; what is the host's own (control socket, sandbox, dirty
 * tracking) stays behind. The reader takes nothing for granted and fills no gap: every key is there and in bounds, keys
 * that it does not know are refused unless they begin with "x-". docs/wire.md lists the keys.
 */
#ifndef VMM_CONFIG_WIRE_H
#define VMM_CONFIG_WIRE_H

#include <stddef.h>

#include "base/buf.h"
#include "vmm/config.h"

#define CONFIG_WIRE_BYTES (256 << 10)

/* machine_config()'s values, appended to out. -EINVAL: a value that cannot travel, named; -ENOSPC, -ENOMEM. Logged. */
int config_to_json(const struct config *config, struct buf *out) must_check;
/*
 * Reads a peer's bytes; `config` needs no config_init() before and gets this host's defaults for what does not travel.
 * config_check() has passed. -EBADMSG, logged, naming key and why (then it is empty and config_fini() is allowed).
 */
int config_from_json(struct config *config, const void *bytes, size_t len) must_check;

#endif
