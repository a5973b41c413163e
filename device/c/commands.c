#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"

enum { INVALID_ARGUMENT = 3, DEADLINE_EXCEEDED = 4, RESOURCE_EXHAUSTED = 8, UNIMPLEMENTED = 12, UNAVAILABLE = 14 };
enum { RESEND_MS = 30000 };

static void tell_end(struct commands *c, struct entry *e)
{
	e->sent_ms = now_ms();
	c->tell(c->to, e->id, e->phase, 0, e->code, e->message, e->result);
}

/* finish writes the end first, then tells it. */
static void finish(struct commands *c, const char *id, int phase, int code, const char *message, const char *result)
{
	struct entry *e = journal_find(&c->journal, id);
	journal_end(&c->journal, e, phase, code, message, result);
	tell_end(c, e);
}

static void remove_job(struct commands *c, int i)
{
	c->count--;
	memmove(&c->jobs[i], &c->jobs[i + 1], (size_t)(c->count - i) * sizeof c->jobs[0]);
}

static int find_job(const struct commands *c, const char *id)
{
	for (int i = 0; i < c->count; i++)
		if (strcmp(c->jobs[i].id, id) == 0)
			return i;
	return -1;
}

/* repeat answers for an id that is known. */
static void repeat(struct commands *c, struct entry *e)
{
	if (e->phase >= SUCCEEDED) {
		tell_end(c, e);
		return;
	}
	c->tell(c->to, e->id, DELIVERED, 0, 0, "", "");
	int i = find_job(c, e->id);
	if (i >= 0 && c->jobs[i].percent > 0)
		c->tell(c->to, e->id, RUNNING, (int)c->jobs[i].percent, 0, "", "");
}

bool commands_take(struct commands *c, const uint8_t *data, const uint8_t *end)
{
	struct job job = {0};
	struct field f;
	bool fits = true;
	int more;
	while ((more = next_field(&data, end, &f)) > 0) {
		if (f.number == 1 && !field_text(&f, job.id, sizeof job.id))
			return false;
		if (f.number == 2 && !field_text(&f, job.name, sizeof job.name))
			return false;
		if (f.number == 3 || f.number == 4)
			fits = field_text(&f, job.arguments, sizeof job.arguments);
		if (f.number == 5 && f.value != 0)
			job.deadline_ms = now_ms() + f.value;
	}
	if (more < 0 || job.id[0] == 0)
		return false;
	struct entry *e = journal_find(&c->journal, job.id);
	if (e != NULL) {
		repeat(c, e);
		return true;
	}
	if (journal_enter(&c->journal, job.id) == NULL) {
		c->tell(c->to, job.id, REJECTED, 0, UNAVAILABLE, "the device cannot remember the command", "");
		return true;
	}
	if (strcmp(job.name, "set-relay") != 0 && strcmp(job.name, "count-down") != 0)
		finish(c, job.id, REJECTED, UNIMPLEMENTED, "no such command", "");
	else if (!fits || c->count == QUEUE)
		finish(c, job.id, REJECTED, RESOURCE_EXHAUSTED, fits ? "too many commands are waiting" : "the arguments are over 255 bytes", "");
	else {
		c->jobs[c->count++] = job;
		c->tell(c->to, job.id, DELIVERED, 0, 0, "", "");
	}
	return true;
}

void commands_cancel(struct commands *c, const char *id)
{
	struct entry *e = journal_find(&c->journal, id);
	int i = find_job(c, id);
	if (e == NULL && journal_enter(&c->journal, id) == NULL)
		return; /* not remembered: the hub asks again */
	if (e != NULL && e->phase >= SUCCEEDED) {
		tell_end(c, e);
		return;
	}
	finish(c, id, CANCELED, 0, i >= 0 && c->jobs[i].begun ? "stopped" : "it had not begun", "");
	if (i >= 0)
		remove_job(c, i);
}

/* argument is what stands behind a name in flat JSON; a device with room for
 * it takes a parser (cJSON is part of ESP-IDF). NULL: it is not there. */
static const char *argument(const char *json, const char *quoted)
{
	const char *p = strstr(json, quoted);
	if (p == NULL)
		return NULL;
	p += strlen(quoted);
	p += strspn(p, " \t\r\n");
	if (*p++ != ':')
		return NULL;
	return p + strspn(p, " \t\r\n");
}

static void set_relay(struct commands *c, const struct job *j)
{
	const char *on = argument(j->arguments, "\"on\"");
	bool want = on != NULL && strncmp(on, "true", 4) == 0;
	if (!want && (on == NULL || strncmp(on, "false", 5) != 0)) {
		finish(c, j->id, REJECTED, INVALID_ARGUMENT, "argument on is not true or false", "");
		return;
	}
	bool was = c->relay;
	c->relay = want;
	printf("relay %s\n", want ? "on" : "off");
	finish(c, j->id, SUCCEEDED, 0, "", was ? "{\"was\":true}" : "{\"was\":false}");
}

/* count_down works a second at a time; true: it has ended. */
static bool count_down(struct commands *c, struct job *j)
{
	const char *text = argument(j->arguments, "\"seconds\"");
	uint64_t seconds = text == NULL ? 0 : strtoul(text, NULL, 10);
	if (seconds < 1 || seconds > 3600) {
		finish(c, j->id, REJECTED, INVALID_ARGUMENT, "argument seconds is not 1 to 3600", "");
		return true;
	}
	if (!j->begun) {
		j->left = seconds;
		j->next_ms = now_ms() + 1000;
		printf("count-down of %d s\n", (int)seconds);
	}
	j->begun = true;
	if (now_ms() < j->next_ms)
		return false;
	j->next_ms += 1000;
	if (--j->left == 0) {
		finish(c, j->id, SUCCEEDED, 0, "", "");
		return true;
	}
	j->percent = (uint32_t)(100 - 100 * j->left / seconds);
	c->tell(c->to, j->id, RUNNING, (int)j->percent, 0, "", "");
	return false;
}

static bool run(struct commands *c, struct job *j)
{
	if (!j->begun && j->deadline_ms != 0 && now_ms() >= j->deadline_ms) {
		finish(c, j->id, FAILED, DEADLINE_EXCEEDED, "not begun in time; not run", "");
		return true;
	}
	if (strcmp(j->name, "count-down") == 0)
		return count_down(c, j);
	set_relay(c, j);
	return true;
}

void commands_work(struct commands *c, bool linked)
{
	while (c->count > 0 && run(c, &c->jobs[0]))
		remove_job(c, 0);
	for (int i = 0; linked && i < c->journal.count; i++) {
		struct entry *e = &c->journal.entries[i];
		if (e->phase >= SUCCEEDED && !e->acked && now_ms() >= e->sent_ms + RESEND_MS)
			tell_end(c, e);
	}
}

void commands_resume(struct commands *c)
{
	for (int i = 0; i < c->journal.count; i++) {
		struct entry *e = &c->journal.entries[i];
		if (e->phase >= SUCCEEDED && !e->acked)
			tell_end(c, e);
	}
}

bool commands_settled(const struct commands *c)
{
	for (int i = 0; i < c->journal.count; i++)
		if (!c->journal.entries[i].acked)
			return false;
	return true;
}

void describe_device(struct writer *w)
{
	uint8_t a[64], b[128];
	struct writer argument = {a, sizeof a, 0, false}, command = {b, sizeof b, 0, false};
	put_text(w, 1, "tetherline-c 1.0");
	put_text(&argument, 1, "on");
	put_uint(&argument, 2, 4); /* KIND_BOOL */
	put_uint(&argument, 3, true);
	put_text(&command, 1, "set-relay");
	put_message(&command, 3, &argument);
	put_message(w, 3, &command);
	argument.used = command.used = 0;
	put_text(&argument, 1, "seconds");
	put_uint(&argument, 2, 3); /* KIND_INT */
	put_uint(&argument, 3, true);
	put_text(&argument, 4, "s");
	put_text(&command, 1, "count-down");
	put_message(&command, 3, &argument);
	put_message(w, 3, &command);
}
