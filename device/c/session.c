#include "session.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The fields of DeviceFrame and HubFrame. */
enum { HELLO = 1, TELEMETRY = 2, DESCRIBE = 3, COMMAND_UPDATE = 4 };
enum { CHALLENGE = 1, WELCOME, ACK, REJECT, THROTTLE, RENEW, COMMAND, COMMAND_CANCEL, COMMAND_ACK };
enum { TIME_OUT_OF_RANGE = 3 };

/* Frames of one row are under 200 bytes: 16 of them fit into any window_bytes. */
enum { WINDOW = 16, FRAME = 1024 };
enum { HANDSHAKE_MS = 10000, PONG_MS = 10000 };

void state_path(const struct device *d, const char *name, char *path) { snprintf(path, 256, "%s/%s", d->folder, name); }

static bool send_message(struct device *d, uint32_t member, const struct writer *message)
{
	uint8_t data[FRAME];
	struct writer frame = {data, sizeof data, 0, false};
	put_message(&frame, member, message);
	return !frame.overflow && link_send(&d->link, frame.data, frame.used);
}

static bool send_hello(struct device *d)
{
	uint8_t data[512], proof[PROOF];
	struct writer w = {data, sizeof data, 0, false};
	prove_device(&d->proving, &d->handshake, proof);
	put_text(&w, 1, d->proving.id);
	put_uint(&w, 2, d->proving.generation);
	put_bytes(&w, 3, d->handshake.device_nonce, NONCE);
	put_uint(&w, 4, 1); /* BINDING_TYPE_TLS_EXPORTER */
	put_bytes(&w, 5, proof, PROOF);
	put_bytes(&w, 6, d->boot_id, BOOT_ID);
	put_text(&w, 7, "tetherline-c 1.0");
	return send_message(d, HELLO, &w);
}

/* send_describe sends the description where the hub does not have it. */
static bool send_describe(struct device *d, const struct field *digest)
{
	uint8_t data[FRAME / 2], sum[SHA256_DIGEST_LENGTH];
	struct writer w = {data, sizeof data, 0, false};
	describe_device(&w);
	SHA256(w.data, w.used, sum);
	if (digest->size == sizeof sum && memcmp(digest->data, sum, sizeof sum) == 0)
		return true;
	return send_message(d, DESCRIBE, &w);
}

static bool send_row(struct device *d, const struct row *r)
{
	uint8_t a[128], b[256], c[320], value[8];
	struct writer column = {a, sizeof a, 0, false}, series = {b, sizeof b, 0, false}, telemetry = {c, sizeof c, 0, false};
	uint64_t bits;
	memcpy(&bits, &r->value, 8);
	for (int i = 0; i < 8; i++)
		value[i] = bits >> 8 * i;
	put_text(&column, 1, r->name);
	put_bytes(&column, 2, value, sizeof value); /* packed doubles */
	put_fixed64(&series, 2, (uint64_t)r->time_ns);
	put_message(&series, 4, &column);
	put_uint(&telemetry, 1, r->number - d->first + 1);
	put_message(&telemetry, 2, &series);
	put_uint(&telemetry, 3, r->dropped);
	return send_message(d, TELEMETRY, &telemetry);
}

void session_tell(void *device, const char *id, int phase, int percent, int code, const char *message, const char *result)
{
	struct device *d = device;
	uint8_t data[FRAME / 2];
	struct writer w = {data, sizeof data, 0, false};
	put_text(&w, 1, id);
	put_uint(&w, 2, (uint64_t)phase);
	put_uint(&w, 3, (uint64_t)percent);
	put_uint(&w, 4, (uint64_t)code);
	put_text(&w, 5, message);
	put_text(&w, 6, result);
	if (d->link.fd >= 0)
		send_message(d, COMMAND_UPDATE, &w); /* a broken link is found by the next read */
}

/* member splits a HubFrame. 0: it has no member that is known here. */
static int member(const uint8_t *data, size_t size, struct field *body)
{
	const uint8_t *end = data + size;
	struct field f;
	int found = 0, more;
	while ((more = next_field(&data, end, &f)) > 0)
		if (f.number <= COMMAND_ACK && f.data != NULL) {
			found = (int)f.number;
			*body = f;
		}
	return more < 0 ? -1 : found;
}

/* fields reads a message of few fields into an array by their numbers. */
static bool fields(const struct field *body, struct field *out, uint32_t count)
{
	const uint8_t *p = body->data, *end = p + body->size;
	struct field f;
	int more;
	memset(out, 0, count * sizeof *out);
	while ((more = next_field(&p, end, &f)) > 0)
		if (f.number < count)
			out[f.number] = f;
	return more == 0;
}

/* await_member waits for one message of the handshake. */
static bool await_member(struct device *d, int want, uint64_t until, struct field *out, uint32_t count)
{
	const uint8_t *data;
	size_t size;
	struct field body;
	for (;;) {
		int got = link_receive(&d->link, &data, &size);
		if (got > 0)
			return member(data, size, &body) == want && fields(&body, out, count);
		struct pollfd ready = {.fd = d->link.fd, .events = POLLIN};
		if (got < 0 || now_ms() >= until || poll(&ready, 1, (int)(until - now_ms())) <= 0)
			return false;
	}
}

/* proved makes a renewed credential the one and only. */
static void proved(struct device *d)
{
	char from[256], to[256];
	if (d->proving.generation == d->credential.generation)
		return;
	state_path(d, "credential.next", from);
	state_path(d, "credential", to);
	if (rename(from, to) != 0)
		perror("credential");
	d->credential = d->proving;
	d->renewed = false;
}

static bool welcome(struct device *d, struct field f[10])
{
	if (!verify_hub(&d->proving, &d->handshake, f[1].data, f[1].size)) {
		fprintf(stderr, "this is not the hub: its proof is wrong\n");
		return false;
	}
	proved(d);
	spool_clock(&d->spool, (int64_t)f[2].value);
	d->silence_ms = f[4].value * 1000 + PONG_MS;
	d->window = f[5].value < WINDOW ? (uint32_t)f[5].value : WINDOW;
	spool_ack(&d->spool, d->first + f[8].value);
	d->next_row = d->spool.head;
	d->paused_ms = 0;
	d->opened_ms = now_ms();
	printf("welcome, epoch %llu\n", (unsigned long long)f[3].value);
	commands_resume(&d->commands);
	return send_describe(d, &f[9]);
}

bool session_open(struct device *d)
{
	struct field f[10];
	d->proving = d->renewed && !d->refused ? d->next : d->credential;
	/* Before the first Welcome the dates of the certificate say nothing. */
	if (!link_open(&d->link, d->url, d->ca, spool_now(&d->spool) / 1000000000))
		return false;
	uint64_t until = now_ms() + HANDSHAKE_MS;
	memcpy(d->handshake.boot_id, d->boot_id, BOOT_ID);
	memcpy(d->handshake.binding, d->link.binding, BINDING);
	if (RAND_bytes(d->handshake.device_nonce, NONCE) == 1 && await_member(d, CHALLENGE, until, f, 4) && f[1].size == NONCE) {
		memcpy(d->handshake.hub_nonce, f[1].data, NONCE);
		if (send_hello(d) && await_member(d, WELCOME, until, f, 10) && welcome(d, f))
			return true;
	}
	link_close(&d->link, d->link.close_code != 0 ? 0 : 1000);
	return false;
}

/* save writes a new file and makes it durable. */
static bool save(const struct device *d, const char *name, const char *text)
{
	char path[256];
	state_path(d, name, path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
	if (!ok)
		perror(path);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* renew stores the next credential beside the present one, and ends the
 * session so that the next one proves it. */
static bool renew(struct device *d, const struct field f[4])
{
	char text[128];
	if (f[2].size != 12 || f[3].size != 48 ||
	    !open_renewal(&d->proving, &d->handshake, (uint32_t)f[1].value, f[2].data, f[3].data, &d->next))
		return true; /* nothing that this device can use */
	format_credential(&d->next, text);
	if (!save(d, "credential.next", text))
		return true;
	printf("credential of generation %lu\n", (unsigned long)d->next.generation);
	d->renewed = true;
	d->refused = false;
	return false;
}

static void rejected(struct device *d, const struct field f[5])
{
	fprintf(stderr, "reading %llu is rejected, code %llu: %.*s\n", (unsigned long long)f[1].value,
		(unsigned long long)f[2].value, (int)f[3].size, f[3].data == NULL ? "" : (const char *)f[3].data);
	if (f[2].value == TIME_OUT_OF_RANGE && f[4].value != 0)
		spool_clock(&d->spool, (int64_t)f[4].value);
	/* The Ack that follows forgets the row. */
}

static void throttled(struct device *d, uint64_t pause_ms, uint64_t resume_seq)
{
	uint64_t row = d->first + resume_seq - 1;
	d->paused_ms = now_ms() + pause_ms;
	if (resume_seq != 0 && row >= d->spool.head && row < d->next_row)
		d->next_row = row;
}

/* obey acts on one HubFrame; false: the session is over. */
static bool obey(struct device *d, const uint8_t *data, size_t size)
{
	struct field body = {0}, f[5];
	char id[65];
	int what = member(data, size, &body);
	if (what < 0)
		return false;
	if (what == COMMAND) {
		commands_take(&d->commands, body.data, body.data + body.size);
		return true;
	}
	if (what <= WELCOME || !fields(&body, f, 5))
		return what == 0; /* a newer hub may say more */
	switch (what) {
	case ACK:
		printf("acknowledged %llu\n", (unsigned long long)f[1].value);
		spool_ack(&d->spool, d->first + f[1].value);
		if (d->next_row < d->spool.head)
			d->next_row = d->spool.head;
		break;
	case REJECT:
		rejected(d, f);
		break;
	case THROTTLE:
		throttled(d, f[1].value, f[2].value);
		break;
	case RENEW:
		return renew(d, f);
	case COMMAND_CANCEL:
		if (field_text(&f[1], id, sizeof id))
			commands_cancel(&d->commands, id);
		break;
	case COMMAND_ACK:
		if (field_text(&f[1], id, sizeof id))
			journal_ack(&d->commands.journal, id);
		break;
	}
	return true;
}

bool session_work(struct device *d)
{
	const uint8_t *data;
	size_t size;
	int got;
	while ((got = link_receive(&d->link, &data, &size)) > 0)
		if (!obey(d, data, size))
			return false;
	if (got < 0 || now_ms() - d->link.heard_ms > d->silence_ms)
		return false;
	while (now_ms() >= d->paused_ms && d->next_row < d->spool.tail && d->next_row - d->spool.head < d->window) {
		if (!send_row(d, &d->spool.rows[d->next_row % ROWS]))
			return false;
		d->next_row++;
	}
	return true;
}
