/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The programs that lab guests carry, as one static binary called by different names. Each takes main()'s arguments and
 * returns an exit status. What does not live here: busybox, which has the rest.
 */
#ifndef LAB_GUEST_TOOLS_H
#define LAB_GUEST_TOOLS_H

/* memstress: writes and verifies memory for as long as it is let; its exit status says whether a byte was ever wrong. */
int memstress_main(int argc, char **argv);
/* cpudump: all that this machine's processors tell a program about themselves. */
int cpudump_main(int argc, char **argv);
/* disk-check: whether a disk keeps what was written. */
int diskcheck_main(int argc, char **argv);
/* disk-zero: has a disk make a part of itself zero. */
int diskzero_main(int argc, char **argv);
/* powerkey: runs a command when the power button is pressed. */
int powerkey_main(int argc, char **argv);
/* vectors: whether vector registers keep what was put into them. */
int vectors_main(int argc, char **argv);

#endif
