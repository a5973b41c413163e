/* The connection: TCP, TLS and WebSocket, by POSIX and OpenSSL. On an ESP32
 * this is the file to replace, by esp-tls (Mbed TLS). */
#ifndef TETHERLINE_LINK_H
#define TETHERLINE_LINK_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BINDING = 32, MESSAGE = 18 << 10 };

struct link {
	int fd; /* -1: not open */
	SSL *ssl;
	uint8_t binding[BINDING]; /* TLS exporter, RFC 9266 */
	uint64_t heard_ms;        /* when anything came last, by now_ms */
	int close_code;           /* of the hub's close frame; 0: none */
	uint64_t retry_ms;        /* the hub asks to stay away as long; 0: it does not */
	uint8_t buffer[MESSAGE + 16];
	size_t have, taken;       /* bytes in buffer, and of the message that was handed out */
};

/* now_ms is a monotonic clock. */
uint64_t now_ms(void);

/* link_open connects to wss://host:port/path. ca is PEM; "": the system's
 * roots. now is the time in s since 1970; 0: it is not known, and the validity
 * dates of certificates are not looked at. False: not open; retry_ms may say
 * how long to wait. */
bool link_open(struct link *l, const char *url, const char *ca, int64_t now);

/* link_send sends one binary message. False: the link is broken. */
bool link_send(struct link *l, const void *data, size_t size);

/* link_receive takes what has come; it does not wait for long. 1: a message,
 * which stays until the next call; 0: none yet; -1: the link is at its end. */
int link_receive(struct link *l, const uint8_t **data, size_t *size);

/* link_waiting: bytes are there that poll does not see. */
bool link_waiting(const struct link *l);

/* link_close ends the link; code 0: without a word. */
void link_close(struct link *l, int code);

#endif
