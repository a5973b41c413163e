#include "wire.h"

#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_raw(struct writer *w, const void *data, size_t size)
{
	if (size > w->size - w->used) {
		w->overflow = true;
		return;
	}
	if (size > 0)
		memcpy(w->data + w->used, data, size);
	w->used += size;
}

static void put_varint(struct writer *w, uint64_t value)
{
	uint8_t b[10];
	size_t n = 0;
	do {
		b[n] = value & 0x7f;
		value >>= 7;
		if (value != 0)
			b[n] |= 0x80;
		n++;
	} while (value != 0);
	put_raw(w, b, n);
}

void put_uint(struct writer *w, uint32_t field, uint64_t value)
{
	if (value == 0)
		return;
	put_varint(w, field << 3 | VARINT);
	put_varint(w, value);
}

void put_fixed64(struct writer *w, uint32_t field, uint64_t value)
{
	if (value == 0)
		return;
	uint8_t b[8];
	for (int i = 0; i < 8; i++)
		b[i] = value >> 8 * i; /* little endian */
	put_varint(w, field << 3 | FIXED64);
	put_raw(w, b, sizeof b);
}

static void put_sized(struct writer *w, uint32_t field, const void *data, size_t size)
{
	put_varint(w, field << 3 | BYTES);
	put_varint(w, size);
	put_raw(w, data, size);
}

void put_bytes(struct writer *w, uint32_t field, const void *data, size_t size)
{
	if (size > 0)
		put_sized(w, field, data, size);
}

void put_text(struct writer *w, uint32_t field, const char *text)
{
	put_bytes(w, field, text, strlen(text));
}

void put_message(struct writer *w, uint32_t field, const struct writer *inner)
{
	put_sized(w, field, inner->data, inner->used);
	w->overflow |= inner->overflow;
}

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t b = *(*p)++;
		*value |= (uint64_t)(b & 0x7f) << shift;
		if (b < 0x80)
			return true;
	}
	return false;
}

int next_field(const uint8_t **p, const uint8_t *end, struct field *f)
{
	uint64_t tag, size;
	if (*p == end)
		return 0;
	if (!get_varint(p, end, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
		return -1;
	*f = (struct field){.number = tag >> 3};
	switch (tag & 7) {
	case VARINT:
		return get_varint(p, end, &f->value) ? 1 : -1;
	case FIXED64:
		size = 8;
		break;
	case FIXED32:
		size = 4;
		break;
	case BYTES:
		if (!get_varint(p, end, &size))
			return -1;
		break;
	default:
		return -1;
	}
	if (size > (uint64_t)(end - *p))
		return -1;
	f->data = *p;
	f->size = size;
	if ((tag & 7) != BYTES)
		for (size_t i = 0; i < size; i++)
			f->value |= (uint64_t)f->data[i] << 8 * i;
	*p += size;
	return 1;
}

bool field_text(const struct field *f, char *text, size_t size)
{
	if (f->size >= size)
		return false;
	if (f->size > 0)
		memcpy(text, f->data, f->size);
	text[f->size] = 0;
	return true;
}
