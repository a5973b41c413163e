#include "link.h"

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { IO_SECONDS = 10 };

uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	int fd = -1;
	if (getaddrinfo(host, port, &hints, &list) != 0)
		return -1;
	for (a = list; a != NULL && fd < 0; a = a->ai_next) {
		struct timeval limit = {.tv_sec = IO_SECONDS};
		fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (fd < 0)
			continue;
		/* Nothing blocks for longer, in either direction. */
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

static bool trust(SSL_CTX *ctx, const char *ca)
{
	if (*ca == 0)
		return SSL_CTX_set_default_verify_paths(ctx) == 1;
	BIO *pem = BIO_new_mem_buf(ca, -1);
	X509 *cert;
	int added = 0;
	while (pem != NULL && (cert = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL) {
		added += X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert);
		X509_free(cert);
	}
	BIO_free(pem);
	ERR_clear_error();
	return added > 0;
}

/* start_tls checks chain, name and, where the time is known, dates. */
static bool start_tls(struct link *l, const char *host, const char *ca, int64_t now)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (ctx == NULL)
		return false;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	/* A read returns although only a session ticket has come. */
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	bool ok = trust(ctx, ca) && (l->ssl = SSL_new(ctx)) != NULL;
	SSL_CTX_free(ctx);
	if (!ok)
		return false;
	X509_VERIFY_PARAM *check = SSL_get0_param(l->ssl);
	if (now == 0)
		X509_VERIFY_PARAM_set_flags(check, X509_V_FLAG_NO_CHECK_TIME);
	else
		X509_VERIFY_PARAM_set_time(check, (time_t)now);
	if (X509_VERIFY_PARAM_set1_ip_asc(check, host) != 1 &&
	    (X509_VERIFY_PARAM_set1_host(check, host, 0) != 1 || SSL_set_tlsext_host_name(l->ssl, host) != 1))
		return false;
	ERR_clear_error(); /* a host that is no address */
	if (SSL_set_fd(l->ssl, l->fd) != 1 || SSL_connect(l->ssl) != 1) {
		long why = SSL_get_verify_result(l->ssl);
		fprintf(stderr, "tls: %s\n", why == X509_V_OK ? "handshake failed" : X509_verify_cert_error_string(why));
		return false;
	}
	static const char label[] = "EXPORTER-Channel-Binding";
	return SSL_export_keying_material(l->ssl, l->binding, BINDING, label, sizeof label - 1, NULL, 0, 0) == 1;
}

static bool write_all(struct link *l, const void *data, size_t size)
{
	size_t n;
	return SSL_write_ex(l->ssl, data, size, &n) == 1 && n == size;
}

/* fill reads once. 1: bytes; 0: none; -1: the end. */
static int fill(struct link *l)
{
	size_t n;
	if (SSL_read_ex(l->ssl, l->buffer + l->have, sizeof l->buffer - l->have, &n) == 1) {
		l->have += n;
		l->heard_ms = now_ms();
		return 1;
	}
	int why = SSL_get_error(l->ssl, 0);
	ERR_clear_error();
	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void consume(struct link *l, size_t n)
{
	memmove(l->buffer, l->buffer + n, l->have - n);
	l->have -= n;
}

/* header is the value of a header line of the answer; NULL: it is not there. */
static const char *header(const char *answer, const char *name)
{
	size_t n = strlen(name);
	for (const char *line = strstr(answer, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, " ");
	}
	return NULL;
}

/* upgrade makes the connection a WebSocket. */
static bool upgrade(struct link *l, const char *host, const char *port, const char *path)
{
	uint8_t nonce[16], hash[SHA_DIGEST_LENGTH];
	char key[25], joined[64], accept[32], request[512];
	if (RAND_bytes(nonce, sizeof nonce) != 1)
		return false;
	EVP_EncodeBlock((uint8_t *)key, nonce, sizeof nonce);
	snprintf(joined, sizeof joined, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
	SHA1((const uint8_t *)joined, strlen(joined), hash);
	EVP_EncodeBlock((uint8_t *)accept, hash, sizeof hash);
	int n = snprintf(request, sizeof request,
		"GET /%s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Protocol: tetherline.v1\r\n\r\n", path, host, port, key);
	if (n < 0 || (size_t)n >= sizeof request || !write_all(l, request, n))
		return false;
	char *answer = (char *)l->buffer, *end;
	uint64_t until = now_ms() + IO_SECONDS * 1000;
	do { /* one byte is kept for the 0 */
		if (l->have >= 4096 || now_ms() > until || fill(l) < 0)
			return false;
		l->buffer[l->have] = 0;
	} while ((end = strstr(answer, "\r\n\r\n")) == NULL);
	end[2] = 0;
	int status = strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
	const char *got = header(answer, "Sec-WebSocket-Accept"), *proto = header(answer, "Sec-WebSocket-Protocol");
	if (status == 101 && got != NULL && proto != NULL && strncmp(got, accept, strlen(accept)) == 0 &&
	    strncmp(proto, "tetherline.v1\r\n", 15) == 0) {
		consume(l, (size_t)(end + 4 - answer));
		return true;
	}
	const char *after = header(answer, "Retry-After");
	if ((status == 429 || status == 503) && after != NULL)
		l->retry_ms = strtoul(after, NULL, 10) * 1000;
	fprintf(stderr, "the hub answers with HTTP status %d\n", status);
	return false;
}

bool link_open(struct link *l, const char *url, const char *ca, int64_t now)
{
	char host[128], port[8] = "443", path[128] = "";
	memset(l, 0, sizeof *l);
	l->fd = -1;
	if (sscanf(url, "wss://%127[^:/]:%7[0-9]/%127s", host, port, path) < 3 &&
	    sscanf(url, "wss://%127[^:/]/%127s", host, path) < 1)
		return false;
	if ((l->fd = dial(host, port)) >= 0 && start_tls(l, host, ca, now) && upgrade(l, host, port, path)) {
		l->heard_ms = now_ms();
		return true;
	}
	link_close(l, 0);
	return false;
}

/* send_frame masks in a copy, as every client must. */
static bool send_frame(struct link *l, uint8_t opcode, const uint8_t *data, size_t size)
{
	static uint8_t frame[MESSAGE + 8];
	size_t n = 2;
	if (size > MESSAGE)
		return false;
	frame[0] = 0x80 | opcode; /* FIN: never fragmented */
	frame[1] = 0x80 | (size < 126 ? size : 126);
	if (size >= 126) {
		frame[2] = size >> 8;
		frame[3] = size;
		n = 4;
	}
	uint8_t *mask = frame + n;
	if (RAND_bytes(mask, 4) != 1)
		return false;
	n += 4;
	for (size_t i = 0; i < size; i++)
		frame[n + i] = data[i] ^ mask[i % 4];
	return write_all(l, frame, n + size);
}

bool link_send(struct link *l, const void *data, size_t size) { return send_frame(l, BINARY, data, size); }

bool link_waiting(const struct link *l) { return l->have > l->taken || SSL_pending(l->ssl) > 0; }

/* closed takes the hub's close frame in. */
static void closed(struct link *l, const uint8_t *data, size_t size)
{
	char reason[126] = "";
	l->close_code = 1005;
	if (size >= 2) {
		l->close_code = data[0] << 8 | data[1];
		memcpy(reason, data + 2, size - 2);
		reason[size - 2] = 0;
	}
	fprintf(stderr, "the hub closes: %d %s\n", l->close_code, reason);
	const char *slot = strstr(reason, "retry_ms=");
	if (l->close_code == 4000 && slot != NULL)
		l->retry_ms = strtoul(slot + 9, NULL, 10);
	send_frame(l, CLOSE, data, size < 2 ? 0 : 2);
}

int link_receive(struct link *l, const uint8_t **data, size_t *size)
{
	consume(l, l->taken);
	l->taken = 0;
	for (;;) {
		size_t head = 2, n = l->have > 1 ? l->buffer[1] & 0x7f : 0;
		if (n == 126)
			head = 4;
		if (l->have >= head && head == 4)
			n = (size_t)l->buffer[2] << 8 | l->buffer[3];
		if (l->have >= head && (l->buffer[1] > 126 || n > MESSAGE || (l->buffer[0] & 0xf0) != 0x80))
			return -1; /* masked, over 17 KiB, fragmented or reserved bits: no hub does that */
		if (l->have < head || l->have < head + n) {
			int got = 0;
			struct pollfd ready = {.fd = l->fd, .events = POLLIN};
			if (SSL_pending(l->ssl) > 0 || poll(&ready, 1, 0) > 0)
				got = fill(l);
			if (got <= 0)
				return got;
			continue;
		}
		const uint8_t *payload = l->buffer + head;
		switch (l->buffer[0] & 0x0f) {
		case BINARY:
			*data = payload;
			*size = n;
			l->taken = head + n;
			return 1;
		case PING:
			if (n > 125 || !send_frame(l, PONG, payload, n))
				return -1;
			break;
		case CLOSE:
			if (n <= 125)
				closed(l, payload, n);
			return -1;
		}
		consume(l, head + n);
	}
}

void link_close(struct link *l, int code)
{
	if (l->fd < 0)
		return;
	if (code != 0) {
		uint8_t reason[2] = {code >> 8, code};
		send_frame(l, CLOSE, reason, sizeof reason);
		SSL_shutdown(l->ssl);
	}
	SSL_free(l->ssl);
	close(l->fd);
	l->ssl = NULL;
	l->fd = -1;
}
