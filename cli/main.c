// SPDX-License-Identifier: GPL-2.0-or-later
/* The program's entry. Everything is in the library, so that tests can link it. */
#include "cli/command.h"

int main(int argc, char **argv)
{
	return command_main(argc, argv);
}
