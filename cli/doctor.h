/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tern doctor's checks: rows of tables. A check tries something and notes what happened; each runs in a process of its
 * own that is killed when it takes too long, so it may crash, hang and leave things open.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

enum doctor_verdict { DOCTOR_UNKNOWN, DOCTOR_YES, DOCTOR_PARTLY, DOCTOR_NO };

struct doctor_result {
	enum doctor_verdict verdict;
	char detail[200];
	char instead[200]; /* what Tern does; "": the row's own words */
};

struct doctor_check {
	const char *name; /* NULL ends a table */
	void (*try)(struct doctor_result *result);
	const char *instead; /* what Tern does when the answer is not yes */
	const char *fix;     /* how to make it yes */
};

/* doctor_kvm.c, x86_doctor.c or arm64_doctor.c, doctor_memory.c, doctor_io.c */
extern const struct doctor_check doctor_kvm_checks[], doctor_cpu_checks[];
extern const struct doctor_check doctor_memory_checks[], doctor_io_checks[];

void doctor_note(struct doctor_result *result, enum doctor_verdict verdict, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
