/* The memory of command ids, which survives a restart: an append-only file of
 * records, each on the disk before the call returns. */
#ifndef TETHERLINE_JOURNAL_H
#define TETHERLINE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

enum { DELIVERED = 1, RUNNING, SUCCEEDED, FAILED, REJECTED, CANCELED };
enum { ABORTED = 10 };

/* One id, and its end once there is one. It is what a record holds, too. */
struct entry {
	char id[65];
	uint8_t phase; /* DELIVERED: no end yet; from SUCCEEDED on: the end */
	uint8_t code;
	uint8_t acked;
	char message[96];
	char result[256]; /* JSON; "": none */

	/* Not in the file. */
	uint64_t sent_ms; /* the end was sent; 0: not in this session */
};

/* At most 50 commands have no end, and the last 64 ids stay. */
enum { IDS = 128 };

struct journal {
	int fd;
	long size, records;
	char path[256];
	struct entry entries[IDS]; /* oldest first */
	int count;
};

/* journal_open reads the file. What has no end was interrupted: it FAILED. */
bool journal_open(struct journal *j, const char *path);

/* journal_find is the entry of id; NULL: there is none. */
struct entry *journal_find(struct journal *j, const char *id);

/* journal_enter remembers a new id; NULL: it cannot be written. It moves
 * entries: no pointer to one outlives it. */
struct entry *journal_enter(struct journal *j, const char *id);

/* journal_end records how a command has ended; the entry has its end even
 * where that cannot be written. */
void journal_end(struct journal *j, struct entry *e, int phase, int code, const char *message, const char *result);

/* journal_ack notes that the hub has recorded the end. */
void journal_ack(struct journal *j, const char *id);

#endif
