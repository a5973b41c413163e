/* The commands that this device obeys, each id at most once. */
#ifndef TETHERLINE_COMMANDS_H
#define TETHERLINE_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "wire.h"

enum { QUEUE = 4, ARGUMENTS = 256 };

/* A command that waits or runs. */
struct job {
	char id[65], name[65], arguments[ARGUMENTS];
	uint64_t deadline_ms; /* 0: none */
	bool begun;
	uint64_t next_ms, left; /* of count-down */
	uint32_t percent;
};

struct commands {
	struct journal journal;
	struct job jobs[QUEUE]; /* in their order; the first one runs */
	int count;
	bool relay;
	/* tell sends a CommandUpdate, if there is a session; it may not. */
	void (*tell)(void *to, const char *id, int phase, int percent, int code, const char *message, const char *result);
	void *to;
};

/* commands_take obeys a Command message; false: it is none. */
bool commands_take(struct commands *c, const uint8_t *data, const uint8_t *end);

void commands_cancel(struct commands *c, const char *id);

/* commands_work goes on with what runs, and repeats ends that wait for their
 * CommandAck too long. Call it a few times a second. */
void commands_work(struct commands *c, bool linked);

/* commands_resume is for a new session: ends that have no CommandAck. */
void commands_resume(struct commands *c);

/* commands_settled: nothing waits or runs, and the hub has every end. */
bool commands_settled(const struct commands *c);

/* describe_device appends the fields of the Describe message. */
void describe_device(struct writer *w);

#endif
