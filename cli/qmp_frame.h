/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts a byte stream into JSON texts without parsing them: the sender may put several in a packet, or one in many. Pure.
 */
#ifndef CLI_QMP_FRAME_H
#define CLI_QMP_FRAME_H

#include <stdbool.h>
#include <stddef.h>

struct qmp_frame {
	size_t scanned; /* bytes of the present message that were looked at */
	unsigned int depth;
	bool in_string, escaped;
	bool skipping; /* after garbage: up to the next line */
};

enum qmp_cut {
	QMP_CUT_MORE,	 /* no whole message yet; *skip bytes at the front may be dropped */
	QMP_CUT_MESSAGE, /* *len bytes, after *skip bytes */
	QMP_CUT_GARBAGE, /* *why; drop *skip bytes and go on */
};

/*
 * Looks for the next message in what is buffered (bytes of earlier calls that were not dropped, then new ones). After
 * QMP_CUT_MESSAGE the caller drops skip + len, after the others skip. A message longer than QMP_MESSAGE_BYTES or deeper
 * than QMP_DEPTH_MAX, a line end inside a string, and anything outside of an object or list is garbage: what follows is
 * skipped up to the next line. A byte 0xff drops what came before it, silently when that is nothing.
 */
enum qmp_cut qmp_frame_cut(struct qmp_frame *frame, const char *bytes, size_t n, size_t *skip,
			   size_t *len, const char **why);

#endif
