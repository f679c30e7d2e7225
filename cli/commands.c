// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of commands, and those that need nothing else: help and version. What a command does is in its own file.
 */
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "cli/command.h"
#include "vmm/config_option.h"

#define VM_TEXT "VM is a name, or the path of a control socket (with a slash in it)."

/* clang-format off */
static const struct command commands[] = {
	{"run", "[--config FILE] [--OPTION VALUE]...", "start a VM and stay until it ends",
	 "Exit status:\n"
	 "  0  the guest powered off\n"
	 "  1  KVM refused to go on, or the host failed\n"
	 "  2  bad input, or means that are not there; nothing was started\n"
	 "  3  the guest crashed\n"
	 "  4  the guest asked for one reset more than --reset-limit\n"
	 "  5  told to end: quit, a signal, or Ctrl-A x", command_run},
	{"list", "[--json]", "list the VMs that run", NULL, command_list},
	{"status", "VM [--json]", "show what a VM is and does", VM_TEXT, command_status},
	{"pause", "VM", "stop a VM's CPUs and devices", VM_TEXT, command_simple},
	{"resume", "VM", "let a paused VM run on", VM_TEXT, command_simple},
	{"powerdown", "VM", "press a VM's power button", VM_TEXT, command_simple},
	{"reset", "VM", "reset a VM", VM_TEXT, command_simple},
	{"stop", "[--force] [--timeout SECONDS] VM", "end a VM and wait until it is gone",
	 "Presses the power button, lets a paused guest run, and waits (60 s unless\n"
	 "--timeout says otherwise). --force ends the VM without asking the guest.\n" VM_TEXT, command_stop},
	{"console", "VM", "attach to a VM's serial console",
	 "The VM must have been started with --serial pty. Ctrl-A x leaves, Ctrl-A h\n"
	 "shows the keys.\n" VM_TEXT, command_console},
	{"save", "VM FILE [--pause | --quit] [--max-downtime TIME] [--deadline TIME] [--force]\n"
	 "       [--bandwidth BYTES] [--json]", "save a VM to a file",
	 "The VM runs while its memory is written, and is paused once, for the rest.\n"
	 "  --pause              pause it first, and leave it paused\n"
	 "  --quit               pause it first, and end it when the file is whole\n"
	 "  --max-downtime TIME  of that one pause (30ms)\n"
	 "  --deadline TIME      give up when it has not ended by then...\n"
	 "  --force              ...or pause the VM for the rest, however long that takes\n"
	 "  --bandwidth BYTES    written a second at most, while the VM runs\n"
	 "  --json               one JSON object a line\n"
	 "Ctrl-C cancels, and the VM runs on. Exit status:\n"
	 "  0  saved\n"
	 "  1  not saved: there is no file, and the VM goes on as it was\n"
	 "  2  bad input\n"
	 "  5  cancelled\n" VM_TEXT, command_save},
	{"restore", "FILE [--map WHAT=HERE]... [--name NAME] [--control PATH] [--serial TO]\n"
	 "       [--sandbox MODE] [--dirty-tracking MODE] [--disks-as-they-are] [--paused]", "run a VM from the file it was saved to",
	 "  --map disk0=PATH     also net0=TAP, serial=TO: this host's means\n"
	 "  --disks-as-they-are  run it although a disk is not what it was\n"
	 "  --paused             wait for tern resume\n"
	 "Other options and exit statuses are as of tern run.", command_restore},
	{"inspect", "[--verify] FILE", "show what a saved VM's file, or a recorded migration, holds",
	 "Of a saved VM: header, configuration, disks and state, field by field; with\n"
	 "--verify each page is read and checked. Of a migration: one recorded connection.", command_inspect},
	{"migrate", "VM URI [--max-downtime TIME] [--deadline TIME] [--force] [--channels N]\n"
	 "       [--bandwidth BYTES] [--silence TIME] [--dry-run] [--json] [--insecure] [--tls DIR]", "move a running VM to where tern receive waits",
	 "URI is tcp:HOST:PORT or unix:PATH.\n"
	 "  --max-downtime TIME  how long the guest may stand still (default 30ms)\n"
	 "  --deadline TIME      of the whole; then the VM runs on here\n"
	 "  --force              at the deadline move all the same, with the downtime it takes\n"
	 "  --channels N         data connections, 1 to 16 (default 1)\n"
	 "  --bandwidth BYTES    at most so many bytes a second, as 500M (default: no limit)\n"
	 "  --silence TIME       a target that is silent for so long is lost (default 5s)\n"
	 "  --dry-run            only ask whether it would work\n"
	 "  --verify-ram         for tests: compare hashes of all memory\n"
	 "  --json               one JSON object a line\n"
	 "  --insecure           unencrypted to another host\n"
	 "A TIME is as 500us, 30ms, 60s or 5m. Ctrl-C cancels, and the VM runs on here.\n"
	 "Exit status:\n"
	 "  0  moved; or it would work\n"
	 "  1  not moved: the VM runs on here, as the last line says\n"
	 "  2  bad input, or no such VM\n"
	 "  5  cancelled\n" VM_TEXT, command_migrate},
	{"receive", "--listen URI [--map WHAT=HERE]... [--name NAME] [--control PATH]\n"
	 "       [--serial WHERE] [--sandbox MODE] [--dirty-tracking MODE] [--silence TIME] [--once]\n"
	 "       [--only-mapped] [--insecure] [--tls DIR]", "wait for a VM that is moved here, and run it",
	 "The VM's configuration comes with it. What is this host's can be mapped:\n"
	 "  --map disk0=PATH, --map net0=TAP|passt, --map serial=WHERE,\n"
	 "  --map kernel=PATH, --map initrd=PATH (read again when the VM is reset)\n"
	 "What is not mapped keeps the path that the source used; with --only-mapped it\n"
	 "is refused.\n"
	 "  --listen URI   tcp:ADDRESS:PORT (port 0: any) or unix:PATH; defer: migrate-incoming\n"
	 "                 on the control socket says where (wants --name or --control)\n"
	 "  --name NAME    the VM's name here (default: as at the source)\n"
	 "  --serial WHERE the same as --map serial=WHERE\n"
	 "  --silence TIME a source that is silent for so long is lost (default 5s)\n"
	 "  --once         end after the first attempt that comes to nothing\n"
	 "  --insecure     unencrypted from another host\n"
	 "--control, --sandbox and --dirty-tracking are as for tern run.\n"
	 "Exit status: as tern run, once the VM is here; before that\n"
	 "  0  --once, and it was a dry run that found nothing against it\n"
	 "  1  --once, or after its state was loaded: the VM did not come\n"
	 "  2  bad input, or means that are not there\n"
	 "  5  told to end", command_receive},
	{"resolve", "VM --own|--drop", "say who owns a VM whose hand-over was cut off",
	 "When the connection was lost in the middle of a hand-over, both sides keep the VM\n"
	 "paused. Look at both; then let it run on one (--own) and end it on the other\n"
	 "(--drop). --own on both sides runs it twice and destroys its disks.\n" VM_TEXT, command_resolve},
	{"doctor", "[--json]", "try what this host can do",
	 "Each line: a name, yes, partly, no or unknown, and what was seen; then what\n"
	 "tern does instead and how to fix it. Exit status 0: VMs can be run here.", command_doctor},
	{"help", "[COMMAND]", "show what there is, or one command", NULL, command_help},
	{"version", "", "print the version", NULL, command_version},
	{NULL},
};
/* clang-format on */

const struct command *command_table(void)
{
	return commands;
}

const struct command *command_find(const char *name)
{
	for (const struct command *command = commands; command->name; command++)
		if (!strcmp(command->name, name))
			return command;
	return NULL;
}

int command_usage(const char *name)
{
	const struct command *command = command_find(name);

	fprintf(stderr, "usage: tern %s %s\n", name, command ? command->arguments : "");
	return CLI_INPUT;
}

static void print_overview(FILE *to)
{
	fputs("usage: tern COMMAND [ARGUMENT]...\n\n", to);
	for (const struct command *command = commands; command->name; command++)
		fprintf(to, "  %-10s %s\n", command->name, command->summary);
	fputs("\ntern help COMMAND tells more.\n", to);
}

static void print_indented(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		printf("        %.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void print_run_options(void)
{
	puts("\nOptions (each may stand in the --config file under the same name):");
	for (const struct config_option *option = config_options(); option->key; option++) {
		printf("  --%s %s\n", option->key, option->syntax);
		print_indented(option->help);
	}
	puts("  --config FILE");
	print_indented("Options from a JSON object; those on the command line are taken after it.");
	puts("  --verbose, --quiet");
	print_indented("More, or only errors, on standard error.");
	puts("A comma inside a part of a value is written twice.");
}

int command_help(int argc, char **argv)
{
	const struct command *command;

	if (argc > 2)
		return command_usage("help");
	if (argc < 2) {
		print_overview(stdout);
		return CLI_OK;
	}
	command = command_find(argv[1]);
	if (!command) {
		fprintf(stderr, "tern: %s: no such command (tern help lists them)\n", argv[1]);
		return CLI_INPUT;
	}
	printf("usage: tern %s %s\n\ntern %s: %s\n", command->name, command->arguments,
	       command->name, command->summary);
	if (command->run == command_run)
		print_run_options();
	if (command->text)
		printf("\n%s\n", command->text);
	return CLI_OK;
}

int command_version(int argc, char **argv)
{
	if (argc > 1)
		return command_usage("version");
	puts("tern " TERN_VERSION);
	return CLI_OK;
}

int command_main(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_overview(stderr);
		return CLI_INPUT;
	}
	if (!strcmp(argv[1], "--version"))
		return command_version(1, argv);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return command_help(1, argv);
	command = command_find(argv[1]);
	if (!command) {
		fprintf(stderr, "tern: %s: no such command (tern help lists them)\n", argv[1]);
		return CLI_INPUT;
	}
	if (argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
		char word[] = "help", *words[] = {word, argv[1], NULL};

		return command_help(2, words);
	}
	return command->run(argc - 1, argv + 1);
}
