/* Readings that the hub has not acknowledged: a ring in a file, so that they
 * outlive a restart, and those that have no time yet, in memory. */
#ifndef TETHERLINE_SPOOL_H
#define TETHERLINE_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

enum { ROWS = 512, UNDATED = 64 };

/* One reading of one sensor: a frame of one row. */
struct row {
	uint64_t number;  /* counts the rows of this device */
	int64_t time_ns;  /* since 1970; fixed once */
	uint64_t dropped; /* rows lost before this one, a running total */
	double value;
	char name[64];
};

struct spool {
	int fd;
	uint64_t head, tail; /* numbers: the oldest row, and the next one */
	uint64_t dropped;
	int64_t last_ns;     /* the newest stamp */
	struct row rows[ROWS];

	struct { uint64_t taken_ms; double value; char name[64]; } undated[UNDATED];
	int waiting;

	/* The hub's clock, once it is known: at clock_ms it was clock_ns. */
	uint64_t clock_ms;
	int64_t clock_ns;
};

bool spool_open(struct spool *s, const char *path);

/* spool_add takes a reading of now. A full spool drops it and counts it: what
 * is older may have reached the hub. */
void spool_add(struct spool *s, const char *name, double value);

/* spool_clock sets the clock, and dates what has waited for it. */
void spool_clock(struct spool *s, int64_t ns);

/* spool_now is the time in ns since 1970; 0: it is not known. */
int64_t spool_now(const struct spool *s);

/* spool_ack forgets the rows before the one of that number. */
void spool_ack(struct spool *s, uint64_t number);

#endif
