/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of tern: one table (commands.c), one row each. A command gets its own words (argv[0] is its name) and
 * returns the exit status; docs/man has a page for each.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

/* Exit statuses of tern, the same for every command; `tern help run` and the man pages list them. */
enum cli_exit {
	CLI_OK = 0,	/* done; run: the guest powered off */
	CLI_FAILED = 1, /* the host or the VM could not do it; run: KVM refused to go on */
	CLI_INPUT =
		2, /* bad input, or means that are not there: no VM was started, no VM was touched */
	CLI_PANIC = 3,	/* run: the guest crashed (triple fault or the like) */
	CLI_RESETS = 4, /* run: one reset more than --reset-limit */
	CLI_QUIT = 5,	/* run: told to end by quit, a signal or Ctrl-A x */
};

struct command {
	const char *name;
	const char *arguments; /* for the usage line */
	const char *summary;   /* one line */
	const char *text;      /* the rest of the help; may be NULL */
	int (*run)(int argc, char **argv);
};

/* The table; name NULL ends it. */
const struct command *command_table(void);
const struct command *command_find(const char *name);
/* The program: argv as main() has it. */
int command_main(int argc, char **argv);
/* "usage: tern NAME ..." to standard error; returns CLI_INPUT. */
int command_usage(const char *name);

int command_run(int argc, char **argv);
int command_list(int argc, char **argv);
int command_status(int argc, char **argv);
int command_simple(int argc, char **argv); /* pause, resume, powerdown, reset */
int command_stop(int argc, char **argv);
int command_console(int argc, char **argv);
int command_save(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_receive(int argc, char **argv);
int command_resolve(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_help(int argc, char **argv);
int command_version(int argc, char **argv);

#endif
