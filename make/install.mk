# SPDX-License-Identifier: GPL-2.0-or-later
#
# make install [DESTDIR=...] [PREFIX=/usr/local]: the program, its manual pages, completion and service.
# make docs-check: manual pages and completion know every command and option.

PREFIX    ?= /usr/local
BINDIR    := $(DESTDIR)$(PREFIX)/bin
MANDIR    := $(DESTDIR)$(PREFIX)/share/man/man1
COMPDIR   := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
UNITDIR   := $(DESTDIR)$(PREFIX)/lib/systemd/system
USERDIR   := $(DESTDIR)$(PREFIX)/lib/sysusers.d
MANPAGES  := $(wildcard docs/man/*.1)

.PHONY: install uninstall docs-check
install: $(B)/tern
	install -d $(BINDIR) $(MANDIR) $(COMPDIR) $(UNITDIR) $(USERDIR)
	install -m 755 $(B)/tern $(BINDIR)/tern
	$(STRIP) $(BINDIR)/tern
	install -m 644 $(MANPAGES) $(MANDIR)
	install -m 644 completion/tern.bash $(COMPDIR)/tern
	sed 's|@bindir@|$(PREFIX)/bin|' systemd/tern@.service > $(UNITDIR)/tern@.service
	chmod 644 $(UNITDIR)/tern@.service
	install -m 644 systemd/tern.sysusers $(USERDIR)/tern.conf

uninstall:
	rm -f $(BINDIR)/tern $(MANPAGES:docs/man/%=$(MANDIR)/%) $(COMPDIR)/tern $(UNITDIR)/tern@.service $(USERDIR)/tern.conf

docs-check: $(B)/tern
	tests/docs-check.sh $(B)/tern
