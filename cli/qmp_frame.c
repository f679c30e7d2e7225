// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Framing of control messages. Only strings and the depth of brackets are followed; whether the text is JSON is the
 * parser's business. Each byte is looked at once, however small the packets are.
 */
#include "cli/qmp_frame.h"

#include "cli/qmp.h"

static enum qmp_cut garbage(struct qmp_frame *frame, size_t at, bool skipping, const char *text,
			    size_t *skip, const char **why)
{
	*frame = (struct qmp_frame){.skipping = skipping};
	*skip = at;
	*why = text;
	return QMP_CUT_GARBAGE;
}

/* Bytes between messages: how many to drop until one may begin. */
static size_t between(struct qmp_frame *frame, const char *bytes, size_t n)
{
	size_t i = 0;

	for (; i < n; i++) {
		char c = bytes[i];

		if (frame->skipping) {
			frame->skipping = c != '\n' && c != '\xff';
			continue;
		}
		if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != '\xff')
			break;
	}
	return i;
}

static void step_string(struct qmp_frame *frame, char c)
{
	if (frame->escaped)
		frame->escaped = false;
	else if (c == '\\')
		frame->escaped = true;
	else if (c == '"')
		frame->in_string = false;
}

static void step(struct qmp_frame *frame, char c)
{
	if (c == '"')
		frame->in_string = true;
	else if (c == '{' || c == '[')
		frame->depth++;
	else if (c == '}' || c == ']')
		frame->depth--;
}

enum qmp_cut qmp_frame_cut(struct qmp_frame *frame, const char *bytes, size_t n, size_t *skip,
			   size_t *len, const char **why)
{
	size_t start = frame->depth ? 0 : between(frame, bytes, n);

	*skip = start;
	if (start == n)
		return QMP_CUT_MORE;
	if (!frame->depth && bytes[start] != '{' && bytes[start] != '[')
		return garbage(frame, start, true, "a command is an object", skip, why);
	for (size_t i = start + frame->scanned; i < n; i++) {
		char c = bytes[i];

		if (i - start == QMP_MESSAGE_BYTES)
			return garbage(frame, i, true, "the command is too long", skip, why);
		if (c == '\xff')
			return garbage(frame, i + 1, false, "the command was cut off", skip, why);
		if (frame->in_string && c == '\n')
			return garbage(frame, i + 1, false, "a line ends inside a string", skip,
				       why);
		if (frame->in_string)
			step_string(frame, c);
		else
			step(frame, c);
		if (frame->depth > QMP_DEPTH_MAX)
			return garbage(frame, i, true, "the command is nested too deeply", skip,
				       why);
		if (frame->depth == 0) {
			*len = i + 1 - start;
			*frame = (struct qmp_frame){};
			return QMP_CUT_MESSAGE;
		}
	}
	frame->scanned = n - start;
	return QMP_CUT_MORE;
}
