// SPDX-License-Identifier: GPL-2.0-or-later
/* TLS by GnuTLS, loaded at run time: the functions that are used are one list, looked up by their names. */
#include "migration/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define LIBRARY	 "libgnutls.so.30"
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3"

/* clang-format off */
#define FUNCTIONS(F)					\
	F(gnutls_certificate_allocate_credentials)	\
	F(gnutls_certificate_free_credentials)		\
	F(gnutls_certificate_set_x509_trust_file)	\
	F(gnutls_certificate_set_x509_key_file)		\
	F(gnutls_init)					\
	F(gnutls_deinit)				\
	F(gnutls_priority_set_direct)			\
	F(gnutls_credentials_set)			\
	F(gnutls_certificate_server_set_request)	\
	F(gnutls_session_set_verify_cert2)		\
	F(gnutls_session_get_verify_cert_status)	\
	F(gnutls_certificate_verification_status_print)	\
	F(gnutls_free)					\
	F(gnutls_transport_set_int2)			\
	F(gnutls_handshake)				\
	F(gnutls_record_send)				\
	F(gnutls_record_recv)				\
	F(gnutls_error_is_fatal)			\
	F(gnutls_strerror)
#define MEMBER(name) __typeof__(name) *name;
/* clang-format on */

struct tls {
	void *library;
	struct api {
		FUNCTIONS(MEMBER)
	} api;
	bool server;
	gnutls_certificate_credentials_t credentials;
};

struct tls_session {
	struct tls *tls;
	gnutls_session_t session;
	gnutls_typed_vdata_st purpose;
	bool interrupted; /* the last send is to be gone on with */
};

static int load_library(struct tls *tls)
{
	void *at;

	tls->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!tls->library)
		return fail(-ENOTSUP, "tls: %s", dlerror());
/* clang-format off */
#define LOOK_UP(name)								\
	at = dlsym(tls->library, #name);					\
	if (!at)								\
		return fail(-ENOTSUP, "tls: %s lacks %s", LIBRARY, #name);	\
	memcpy(&tls->api.name, &at, sizeof(at));
	/* clang-format on */
	FUNCTIONS(LOOK_UP)
	return 0;
}

static int load_keys(struct tls *tls, const char *directory)
{
	const char *who = tls->server ? "server" : "client";
	char ca[4200], certificate[4200], key[4200];
	int n;

	snprintf(ca, sizeof(ca), "%s/ca-cert.pem", directory);
	snprintf(certificate, sizeof(certificate), "%s/%s-cert.pem", directory, who);
	snprintf(key, sizeof(key), "%s/%s-key.pem", directory, who);
	// NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): looked up by name, which the analyzer cannot follow
	if (tls->api.gnutls_certificate_allocate_credentials(&tls->credentials) < 0)
		return fail(-ENOMEM, "tls: no memory");
	n = tls->api.gnutls_certificate_set_x509_trust_file(tls->credentials, ca,
							    GNUTLS_X509_FMT_PEM);
	if (n <= 0)
		return fail(-EINVAL, "tls: %s: %s", ca,
			    n ? tls->api.gnutls_strerror(n) : "no certificate in it");
	n = tls->api.gnutls_certificate_set_x509_key_file(tls->credentials, certificate, key,
							  GNUTLS_X509_FMT_PEM);
	if (n < 0)
		return fail(-EINVAL, "tls: %s, %s: %s", certificate, key,
			    tls->api.gnutls_strerror(n));
	return 0;
}

int tls_load(struct tls **out, const char *directory, bool server)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int error;

	if (!tls)
		return fail(-ENOMEM, "tls: no memory");
	tls->server = server;
	error = load_library(tls);
	if (!error)
		error = load_keys(tls, directory);
	if (error) {
		tls_free(tls);
		return error;
	}
	*out = tls;
	return 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	if (tls->credentials)
		tls->api.gnutls_certificate_free_credentials(tls->credentials);
	/* The library stays: it has handlers of its own that run when the process ends. */
	free(tls);
}

int tls_session_new(struct tls_session **out, struct tls *tls, int fd)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	const char *peer = tls->server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
	unsigned int flags = tls->server ? GNUTLS_SERVER : GNUTLS_CLIENT;
	int error;

	if (!session)
		return fail(-ENOMEM, "tls: no memory");
	session->tls = tls;
	/* NONBLOCK only says that EAGAIN may come; a blocking descriptor gives none. */
	error = tls->api.gnutls_init(&session->session, flags | GNUTLS_NONBLOCK);
	if (error < 0) {
		free(session);
		return fail(-ENOMEM, "tls: %s", tls->api.gnutls_strerror(error));
	}
	error = tls->api.gnutls_priority_set_direct(session->session, PRIORITY, NULL);
	if (error >= 0)
		error = tls->api.gnutls_credentials_set(session->session, GNUTLS_CRD_CERTIFICATE,
							tls->credentials);
	if (error < 0) {
		tls_session_free(session);
		return fail(-EPROTO, "tls: %s", tls->api.gnutls_strerror(error));
	}
	if (tls->server)
		tls->api.gnutls_certificate_server_set_request(session->session,
							       GNUTLS_CERT_REQUIRE);
	session->purpose = (gnutls_typed_vdata_st){.type = GNUTLS_DT_KEY_PURPOSE_OID,
						   .data = (unsigned char *)peer};
	tls->api.gnutls_session_set_verify_cert2(session->session, &session->purpose, 1, 0);
	tls->api.gnutls_transport_set_int2(session->session, fd, fd);
	*out = session;
	return 0;
}

void tls_session_free(struct tls_session *session)
{
	if (!session)
		return;
	session->tls->api.gnutls_deinit(session->session);
	free(session);
}

static int refuse_peer(const struct tls_session *session)
{
	const struct api *api = &session->tls->api;
	unsigned int status = api->gnutls_session_get_verify_cert_status(session->session);
	gnutls_datum_t text;
	int error;

	if (api->gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) <
	    0)
		return fail(-EACCES, "tls: the peer's certificate is not accepted");
	error = fail(-EACCES, "tls: the peer's certificate is not accepted: %s", text.data);
	(*api->gnutls_free)(text.data);
	return error;
}

int tls_handshake(struct tls_session *session)
{
	const struct api *api = &session->tls->api;
	int result;

	do {
		result = api->gnutls_handshake(session->session);
	} while (result == GNUTLS_E_INTERRUPTED ||
		 (result < 0 && result != GNUTLS_E_AGAIN && !api->gnutls_error_is_fatal(result)));
	if (result == GNUTLS_E_SUCCESS)
		return 1;
	if (result == GNUTLS_E_AGAIN)
		return 0;
	if (result == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		return refuse_peer(session);
	return fail(-EPROTO, "tls: %s", api->gnutls_strerror(result));
}

static int64_t moved(ssize_t n)
{
	if (n > 0)
		return n;
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
		return 0;
	if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION || n == GNUTLS_E_PUSH_ERROR ||
	    n == GNUTLS_E_PULL_ERROR || n == GNUTLS_E_INVALID_SESSION)
		return -ECONNRESET;
	return -EPROTO;
}

int64_t tls_send(struct tls_session *session, const void *bytes, size_t len)
{
	const struct api *api = &session->tls->api;
	ssize_t n;

	if (!len)
		return 0;
	/* A record that was begun is ended before another; it was made of the same bytes, which the caller offers again. */
	n = session->interrupted ? api->gnutls_record_send(session->session, NULL, 0)
				 : api->gnutls_record_send(session->session, bytes, len);
	session->interrupted = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
	return moved(n);
}

int64_t tls_receive(struct tls_session *session, void *bytes, size_t len)
{
	return moved(session->tls->api.gnutls_record_recv(session->session, bytes, len));
}
