#include "journal.h"

#include <fcntl.h>
#include <libgen.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A record is an entry as far as sent_ms, and a check sum. */
enum { BODY = offsetof(struct entry, sent_ms), RECORD = BODY + 4, COMPACT = 1024 };

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
	uint32_t crc = ~0u;
	while (n-- > 0) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* sync_folder makes the name of a file durable. */
static void sync_folder(const char *path)
{
	char folder[256];
	snprintf(folder, sizeof folder, "%s", path);
	int fd = open(dirname(folder), O_RDONLY);
	if (fd < 0 || fsync(fd) != 0)
		perror("journal: folder");
	if (fd >= 0)
		close(fd);
}

/* append writes one record at the end of the file, durably. */
static bool append(int fd, long *size, const struct entry *e)
{
	uint8_t record[RECORD];
	memcpy(record, e, BODY);
	uint32_t crc = crc32_of(record, BODY);
	memcpy(record + BODY, &crc, 4);
	if (pwrite(fd, record, RECORD, *size) != RECORD || fsync(fd) != 0) {
		if (ftruncate(fd, *size) != 0) /* half a record is cut off at the next start, too */
			perror("journal");
		return false;
	}
	*size += RECORD;
	return true;
}

struct entry *journal_find(struct journal *j, const char *id)
{
	for (int i = 0; i < j->count; i++)
		if (strcmp(j->entries[i].id, id) == 0)
			return &j->entries[i];
	return NULL;
}

/* add makes room where it must: by the oldest end that the hub has. */
static struct entry *add(struct journal *j, const char *id)
{
	if (j->count == IDS) {
		int old = 0;
		while (old < IDS && !j->entries[old].acked)
			old++;
		if (old == IDS)
			return NULL;
		memmove(&j->entries[old], &j->entries[old + 1], (IDS - old - 1) * sizeof j->entries[0]);
		j->count--;
	}
	struct entry *e = &j->entries[j->count++];
	memset(e, 0, sizeof *e);
	snprintf(e->id, sizeof e->id, "%s", id);
	e->phase = DELIVERED;
	return e;
}

/* compact writes the file anew, with what is alive. */
static void compact(struct journal *j)
{
	char path[264];
	long size = 0;
	snprintf(path, sizeof path, "%s.new", j->path);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	bool ok = fd >= 0;
	for (int i = 0; ok && i < j->count; i++)
		ok = append(fd, &size, &j->entries[i]);
	if (!ok || rename(path, j->path) != 0) {
		perror("journal: compact");
		if (fd >= 0)
			close(fd);
		return;
	}
	sync_folder(j->path);
	close(j->fd);
	j->fd = fd;
	j->size = size;
	j->records = j->count;
}

/* write_entry appends where the entry stands now. */
static bool write_entry(struct journal *j, const struct entry *e)
{
	if (!append(j->fd, &j->size, e)) {
		perror("journal");
		return false;
	}
	if (++j->records > COMPACT)
		compact(j);
	return true;
}

bool journal_open(struct journal *j, const char *path)
{
	uint8_t record[RECORD];
	uint32_t crc;
	memset(j, 0, sizeof *j);
	snprintf(j->path, sizeof j->path, "%s", path);
	if ((j->fd = open(path, O_RDWR | O_CREAT, 0600)) < 0)
		return false;
	sync_folder(path);
	while (pread(j->fd, record, RECORD, j->size) == RECORD) {
		struct entry read = {0}, *e;
		memcpy(&read, record, BODY);
		memcpy(&crc, record + BODY, 4);
		if (crc != crc32_of(record, BODY))
			break;
		if ((e = journal_find(j, read.id)) == NULL && (e = add(j, read.id)) == NULL)
			return false;
		*e = read;
		j->size += RECORD;
		j->records++;
	}
	if (ftruncate(j->fd, j->size) != 0) /* a torn end: what it said was not done */
		return false;
	for (int i = 0; i < j->count; i++)
		if (j->entries[i].phase < SUCCEEDED)
			journal_end(j, &j->entries[i], FAILED, ABORTED, "interrupted by a restart; not run again", "");
	return true;
}

struct entry *journal_enter(struct journal *j, const char *id)
{
	struct entry *e = add(j, id);
	if (e == NULL)
		return NULL;
	if (!write_entry(j, e)) {
		j->count--;
		return NULL;
	}
	return e;
}

void journal_end(struct journal *j, struct entry *e, int phase, int code, const char *message, const char *result)
{
	e->phase = phase;
	e->code = code;
	snprintf(e->message, sizeof e->message, "%s", message);
	snprintf(e->result, sizeof e->result, "%s", result);
	write_entry(j, e);
}

void journal_ack(struct journal *j, const char *id)
{
	struct entry *e = journal_find(j, id);
	if (e == NULL || e->phase < SUCCEEDED || e->acked)
		return;
	e->acked = 1;
	write_entry(j, e);
}
