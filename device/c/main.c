/* A device of a Tetherline hub in C, as an example of proto/README.md.
 *
 *     tetherline-device DEVICE.json FOLDER
 *
 * DEVICE.json is what `hubctl device create --out` has written; FOLDER keeps
 * what has to survive a restart. Each line of standard input, a name and a
 * number, is a reading. The device obeys set-relay {"on":true} and count-down
 * {"seconds":10}. At the end of its input it ends when the hub has everything.
 * It has no clock but the hub's. */
#include <ctype.h>
#include <math.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

enum { TICK_MS = 100, BACKOFF_MS = 500, MAX_BACKOFF_MS = 60000, LASTED_MS = 10000, STOP = 4500, UNAUTHORIZED = 4500 };

static bool read_file(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return false;
	size_t n = fread(text, 1, size - 1, f);
	text[n] = 0;
	fclose(f);
	return n > 0 && n < size - 1;
}

/* member_text reads a string of a flat JSON object; false: it is not there. */
static bool member_text(const char *json, const char *quoted, char *out, size_t size)
{
	const char *p = strstr(json, quoted);
	if (p == NULL)
		return false;
	p += strlen(quoted);
	p += strspn(p, " \t\r\n:");
	if (*p++ != '"')
		return false;
	for (; *p != '"' && *p != 0 && size > 1; size--, p++) {
		if (*p == '\\' && *++p == 'n')
			*out++ = '\n';
		else
			*out++ = *p;
	}
	*out = 0;
	return *p == '"';
}

/* load reads the device file and the state folder. */
static bool load(struct device *d, const char *file)
{
	static char json[16384];
	char text[160], path[256];
	if (!read_file(file, json, sizeof json) || !member_text(json, "\"hub_url\"", d->url, sizeof d->url) ||
	    !member_text(json, "\"credential\"", text, sizeof text)) {
		fprintf(stderr, "%s is no device file\n", file);
		return false;
	}
	member_text(json, "\"ca_pem\"", d->ca, sizeof d->ca);
	state_path(d, "credential", path);
	read_file(path, text, sizeof text); /* renewed since the device file was written */
	if (!parse_credential(text, &d->credential)) {
		fprintf(stderr, "the credential is damaged\n");
		return false;
	}
	state_path(d, "credential.next", path);
	d->renewed = read_file(path, text, sizeof text) && parse_credential(text, &d->next) &&
		d->next.generation > d->credential.generation;
	state_path(d, "spool", path);
	bool ok = spool_open(&d->spool, path);
	state_path(d, "journal", path);
	ok = journal_open(&d->commands.journal, path) && ok;
	if (!ok)
		fprintf(stderr, "cannot use the folder %s\n", d->folder);
	return ok;
}

static void take_line(struct device *d, char *line)
{
	char name[64], *end;
	int n = 0;
	bool ok = sscanf(line, " %63[A-Za-z0-9_]%n", name, &n) == 1 && !isdigit((unsigned char)name[0]);
	double value = strtod(line + n, &end);
	if (!ok || end == line + n || end[strspn(end, " \r")] != 0 || !isfinite(value))
		fprintf(stderr, "no reading: %s\n", line);
	else {
		spool_add(&d->spool, name, value);
		printf("reading %s %g\n", name, value);
	}
}

/* take_input reads lines; false: standard input has ended. */
static bool take_input(struct device *d)
{
	static char buffer[256];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, buffer + have, sizeof buffer - 1 - have);
	if (n <= 0)
		return false;
	have += (size_t)n;
	buffer[have] = 0;
	char *line = buffer, *end;
	while ((end = strchr(line, '\n')) != NULL) {
		*end = 0;
		take_line(d, line);
		line = end + 1;
	}
	have -= (size_t)(line - buffer);
	memmove(buffer, line, have);
	if (have == sizeof buffer - 1)
		have = 0; /* a line that long is no reading */
	return true;
}

/* backoff is when to try again, by now_ms. */
static uint64_t backoff(struct device *d, uint64_t *step)
{
	uint32_t random;
	if (d->opened_ms != 0 && now_ms() - d->opened_ms >= LASTED_MS)
		*step = BACKOFF_MS;
	d->opened_ms = 0;
	if (RAND_bytes((uint8_t *)&random, sizeof random) != 1)
		random = UINT32_MAX;
	uint64_t wait = *step * random / UINT32_MAX;
	*step = *step * 2 < MAX_BACKOFF_MS ? *step * 2 : MAX_BACKOFF_MS;
	return now_ms() + (d->link.retry_ms > wait ? d->link.retry_ms : wait);
}

/* run lives until the input has ended and the hub has everything, or the hub
 * refuses the device for good. It returns the exit status. */
static int run(struct device *d)
{
	uint64_t next_try = 0, step = BACKOFF_MS;
	bool input = true, linked = false;
	for (;;) {
		bool was_renewed = d->renewed && !d->refused;
		if (!linked && now_ms() >= next_try)
			linked = session_open(d);
		else if (linked && !session_work(d)) {
			linked = false;
			link_close(&d->link, d->link.close_code != 0 ? 0 : 1000);
		}
		if (!linked && now_ms() >= next_try) {
			next_try = backoff(d, &step);
			if (d->link.close_code == UNAUTHORIZED && was_renewed) {
				d->refused = true; /* back to the credential before */
				next_try = now_ms();
			} else if (d->link.close_code >= STOP)
				return 2;
			else if (!was_renewed && d->renewed && !d->refused)
				next_try = now_ms();
			d->link.close_code = 0;
		}
		commands_work(&d->commands, linked);
		bool settled = d->spool.waiting == 0 && d->spool.head == d->spool.tail && commands_settled(&d->commands);
		if (!input && linked && settled) {
			link_close(&d->link, 1000);
			return 0;
		}
		struct pollfd ready[2] = {{.fd = input ? STDIN_FILENO : -1, .events = POLLIN},
			{.fd = linked ? d->link.fd : -1, .events = POLLIN}};
		if (poll(ready, 2, linked && link_waiting(&d->link) ? 0 : TICK_MS) > 0 && ready[0].revents != 0)
			input = take_input(d);
	}
}

int main(int argc, char **argv)
{
	static struct device d;
	if (argc != 3 || strlen(argv[2]) >= sizeof d.folder) {
		fprintf(stderr, "usage: %s DEVICE.json FOLDER\n", argv[0]);
		return 1;
	}
	strcpy(d.folder, argv[2]);
	d.link.fd = -1;
	d.commands.tell = session_tell;
	d.commands.to = &d;
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!load(&d, argv[1]) || RAND_bytes(d.boot_id, BOOT_ID) != 1)
		return 1;
	d.first = d.spool.head;
	return run(&d);
}
