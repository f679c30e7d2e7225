// SPDX-License-Identifier: GPL-2.0-or-later
/* cli/qmp_frame: messages are cut the same however they are split, garbage is skipped to the next line. */
#include <glib.h>
#include <string.h>

#include "cli/qmp.h"
#include "cli/qmp_frame.h"

/* What a stream cuts to: messages as they are, garbage as its reason in <>; chunk: bytes that arrive at a time. */
static char *cut(const char *stream, size_t n, size_t chunk)
{
	struct qmp_frame frame = {};
	GString *out = g_string_new(NULL), *in = g_string_new(NULL);

	for (size_t fed = 0; fed < n;) {
		size_t more = MIN(chunk, n - fed), skip, len = 0;
		const char *why;
		enum qmp_cut cut;

		g_string_append_len(in, stream + fed, (gssize)more);
		fed += more;
		do {
			len = 0;
			cut = qmp_frame_cut(&frame, in->str, in->len, &skip, &len, &why);
			g_assert_cmpuint(skip + len, <=, in->len);
			if (cut == QMP_CUT_MESSAGE)
				g_string_append_printf(out, "%.*s|", (int)len, in->str + skip);
			if (cut == QMP_CUT_GARBAGE)
				g_string_append_printf(out, "<%s>|", why);
			g_string_erase(in, 0, (gssize)(skip + len));
		} while (cut != QMP_CUT_MORE);
		g_assert_cmpuint(in->len, <=, QMP_MESSAGE_BYTES);
	}
	g_string_free(in, TRUE);
	return g_string_free(out, FALSE);
}

static void expect(const char *stream, const char *wanted)
{
	for (size_t chunk = 1; chunk <= strlen(stream); chunk++) {
		g_autofree char *got = cut(stream, strlen(stream), chunk);

		g_assert_cmpstr(got, ==, wanted);
	}
}

static void test_messages(void)
{
	expect("{}", "{}|");
	expect("  {\"a\": 1}\r\n{\"b\": [1, {}]}{}\n", "{\"a\": 1}|{\"b\": [1, {}]}|{}|");
	expect("[1]", "[1]|");
	expect("{\"a\": \"}{\\\"\\\\\"}{}", "{\"a\": \"}{\\\"\\\\\"}|{}|");
	expect("{\n\"a\":\n1\n}", "{\n\"a\":\n1\n}|");
	expect("{\"a\": ", "");
	expect("\xff{}\xff\xff{}", "{}|{}|");
}

static void test_garbage(void)
{
	expect("hello {} \n{}", "<a command is an object>|{}|");
	expect("} {}\n{}", "<a command is an object>|{}|");
	expect("{\"a\n{}", "<a line ends inside a string>|{}|");
	expect("{\"a\": \xff{}", "<the command was cut off>|{}|");
	expect("x\xff{}", "<a command is an object>|{}|");
}

static void test_limits(void)
{
	g_autoptr(GString) deep = g_string_new(NULL);
	g_autoptr(GString) longest = g_string_new("{\"");
	g_autofree char *got = NULL;

	for (int i = 0; i < QMP_DEPTH_MAX; i++)
		g_string_append_c(deep, '[');
	for (int i = 0; i < QMP_DEPTH_MAX; i++)
		g_string_append_c(deep, ']');
	got = cut(deep->str, deep->len, deep->len);
	g_assert_cmpuint(strlen(got), ==, deep->len + 1);
	g_free(got);
	g_string_prepend_c(deep, '{');
	g_string_append(deep, "}\n{}");
	got = cut(deep->str, deep->len, 7);
	g_assert_cmpstr(got, ==, "<the command is nested too deeply>|{}|");
	g_free(got);

	while (longest->len < QMP_MESSAGE_BYTES - 2)
		g_string_append_c(longest, 'x');
	g_string_append(longest, "\"}");
	got = cut(longest->str, longest->len, 4096);
	g_assert_cmpuint(strlen(got), ==, QMP_MESSAGE_BYTES + 1);
	g_free(got);
	g_string_insert_c(longest, 2, 'x');
	g_string_append(longest, "\n{}");
	got = cut(longest->str, longest->len, 4096);
	g_assert_cmpstr(got, ==, "<the command is too long>|{}|");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/qmp-frame/messages", test_messages);
	g_test_add_func("/qmp-frame/garbage", test_garbage);
	g_test_add_func("/qmp-frame/limits", test_limits);
	return g_test_run();
}
