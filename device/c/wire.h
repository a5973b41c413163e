/* Protocol Buffers by hand: as much of the encoding as device.proto needs. */
#ifndef TETHERLINE_WIRE_H
#define TETHERLINE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message that is being written. It starts as {buffer, size of buffer, 0,
 * false}; what does not fit sets overflow and is left out. */
struct writer {
	uint8_t *data;
	size_t size, used;
	bool overflow;
};

/* put_* append one field. As proto3 wants it, zero and empty are left out. */
void put_uint(struct writer *w, uint32_t field, uint64_t value);
void put_fixed64(struct writer *w, uint32_t field, uint64_t value);
void put_bytes(struct writer *w, uint32_t field, const void *data, size_t size);
void put_text(struct writer *w, uint32_t field, const char *text);
/* put_message is put_bytes that is not left out when empty: a member of a
 * oneof, or an element of a list. */
void put_message(struct writer *w, uint32_t field, const struct writer *inner);

/* One field that was read. value: of a number; data, size: of anything else. */
struct field {
	uint32_t number;
	uint64_t value;
	const uint8_t *data;
	size_t size;
};

/* next_field takes the first field off *p. 1: there it is; 0: the end of the
 * message; -1: these bytes are no message. */
int next_field(const uint8_t **p, const uint8_t *end, struct field *f);

/* field_text copies text into a string of size bytes; false: it is too long. */
bool field_text(const struct field *f, char *text, size_t size);

#endif
