/* One device and its sessions with the hub. */
#ifndef TETHERLINE_SESSION_H
#define TETHERLINE_SESSION_H

#include "commands.h"
#include "link.h"
#include "proof.h"
#include "spool.h"

struct device {
	/* From the device file and the state folder. */
	char url[256], ca[8192], folder[200];
	struct credential credential, next; /* next: renewed, not yet proved */
	bool renewed, refused;              /* there is a next; the hub has refused it */

	struct link link;
	struct spool spool;
	struct commands commands;
	uint8_t boot_id[BOOT_ID];
	uint64_t first; /* the row that has seq 1 under this boot_id */

	/* Of the session. */
	struct handshake handshake;
	struct credential proving;
	uint64_t opened_ms, silence_ms, paused_ms; /* paused: send no Telemetry before */
	uint32_t window;
	uint64_t next_row; /* the next one to send */
};

/* session_open connects, and returns when both sides are proved. */
bool session_open(struct device *d);

/* session_work takes what the hub says and sends what there is to send.
 * False: the session is over; d->link.close_code may say why. */
bool session_work(struct device *d);

/* session_tell sends a CommandUpdate where there is a session. */
void session_tell(void *device, const char *id, int phase, int percent, int code, const char *message, const char *result);

/* state_path is a file of the state folder; path has 256 bytes. */
void state_path(const struct device *d, const char *name, char *path);

#endif
