#include "spool.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "link.h"

/* The file: head and dropped, then the slots, each a row and a check
 * sum. It is not synced: what a power loss takes was acknowledged
 * by nobody, and SIGKILL takes nothing. */
struct slot { struct row row; uint64_t check; };
enum { HEAD = 16 };

static uint64_t sum(const struct row *r)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */
	const uint8_t *p = (const uint8_t *)r;
	for (size_t i = 0; i < sizeof *r; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return h;
}

static void write_head(struct spool *s)
{
	uint64_t head[2] = {s->head, s->dropped};
	if (pwrite(s->fd, head, HEAD, 0) != HEAD)
		perror("spool");
}

bool spool_open(struct spool *s, const char *path)
{
	uint64_t head[2] = {0};
	memset(s, 0, sizeof *s);
	if ((s->fd = open(path, O_RDWR | O_CREAT, 0600)) < 0)
		return false;
	if (pread(s->fd, head, HEAD, 0) == HEAD) {
		s->head = head[0];
		s->dropped = head[1];
	}
	for (s->tail = s->head; s->tail < s->head + ROWS; s->tail++) {
		struct slot slot;
		off_t at = HEAD + (off_t)(s->tail % ROWS) * (off_t)sizeof slot;
		if (pread(s->fd, &slot, sizeof slot, at) != sizeof slot || slot.row.number != s->tail || slot.check != sum(&slot.row))
			break;
		s->rows[s->tail % ROWS] = slot.row;
		s->last_ns = slot.row.time_ns;
	}
	return true;
}

static void drop(struct spool *s)
{
	s->dropped++;
	write_head(s);
}

/* at_ns is the time of a moment of the monotonic clock. */
static int64_t at_ns(const struct spool *s, uint64_t ms)
{
	return s->clock_ns + ((int64_t)ms - (int64_t)s->clock_ms) * 1000000;
}

int64_t spool_now(const struct spool *s) { return s->clock_ns == 0 ? 0 : at_ns(s, now_ms()); }

static void put(struct spool *s, const char *name, double value, uint64_t taken_ms)
{
	if (s->tail - s->head == ROWS) {
		drop(s);
		return;
	}
	struct slot slot;
	memset(&slot, 0, sizeof slot); /* the padding, too: it is summed */
	int64_t now = at_ns(s, taken_ms);
	s->last_ns = now > s->last_ns ? now : s->last_ns + 1;
	slot.row.number = s->tail;
	slot.row.time_ns = s->last_ns;
	slot.row.dropped = s->dropped;
	slot.row.value = value;
	snprintf(slot.row.name, sizeof slot.row.name, "%s", name);
	slot.check = sum(&slot.row);
	s->rows[s->tail % ROWS] = slot.row;
	off_t at = HEAD + (off_t)(s->tail % ROWS) * (off_t)sizeof slot;
	if (pwrite(s->fd, &slot, sizeof slot, at) != sizeof slot)
		perror("spool");
	s->tail++;
}

void spool_add(struct spool *s, const char *name, double value)
{
	if (s->clock_ns != 0) {
		put(s, name, value, now_ms());
		return;
	}
	if (s->waiting == UNDATED) {
		drop(s);
		memmove(s->undated, s->undated + 1, sizeof s->undated - sizeof s->undated[0]);
		s->waiting--;
	}
	s->undated[s->waiting].taken_ms = now_ms();
	s->undated[s->waiting].value = value;
	snprintf(s->undated[s->waiting].name, sizeof s->undated[0].name, "%s", name);
	s->waiting++;
}

void spool_clock(struct spool *s, int64_t ns)
{
	const int64_t hour = 3600 * (int64_t)1000000000;
	s->clock_ns = ns;
	s->clock_ms = now_ms();
	if (s->last_ns > ns + hour)
		s->last_ns = 0; /* the clock was wrong */
	for (int i = 0; i < s->waiting; i++)
		put(s, s->undated[i].name, s->undated[i].value, s->undated[i].taken_ms);
	s->waiting = 0;
}

void spool_ack(struct spool *s, uint64_t number)
{
	if (number <= s->head || number > s->tail)
		return;
	s->head = number;
	write_head(s);
}
