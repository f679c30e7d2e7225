/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encryption and mutual authentication of a migration's connections: TLS 1.3 by GnuTLS, which is loaded when it is
 * asked for (a VM that never moves does not carry it). Of the mover.
 *
 * A directory holds what one host needs, under the names that QEMU uses: ca-cert.pem, and server-cert.pem and
 * server-key.pem to receive, client-cert.pem and client-key.pem to send. Whoever has a certificate that this CA issued for
 * that purpose is trusted: keep a CA for the hosts that may exchange VMs, and for nothing else.
 */
#ifndef MIGRATION_TLS_H
#define MIGRATION_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"

struct tls;	    /* one side's keys */
struct tls_session; /* one connection */

/* Before the sandbox closes: the library and the files are opened here. -errno, logged with the file's name. */
int tls_load(struct tls **out, const char *directory, bool server) must_check;
void tls_free(struct tls *tls); /* no session uses it any more; takes NULL */

/* fd stays the caller's and must outlive the session. -ENOMEM, logged. */
int tls_session_new(struct tls_session **out, struct tls *tls, int fd) must_check;
void tls_session_free(struct tls_session *session); /* takes NULL */

/* 1 done; 0 not yet: when fd is ready; -EACCES the peer is not who may be here, -EPROTO; logged with the reason. */
int tls_handshake(struct tls_session *session) must_check;
/* Bytes moved, 0 when it would have to wait (a non-blocking fd), -ECONNRESET, -EPROTO; not logged. */
int64_t tls_send(struct tls_session *session, const void *bytes, size_t len) must_check;
int64_t tls_receive(struct tls_session *session, void *bytes, size_t len) must_check;

#endif
