/* The credential of a device, and what both sides prove with it. */
#ifndef TETHERLINE_PROOF_H
#define TETHERLINE_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECRET = 32, NONCE = 32, BOOT_ID = 16, PROOF = 32 };

struct credential {
	char id[65];
	uint32_t generation;
	uint8_t secret[SECRET];
};

/* What both proofs cover, apart from the credential. */
struct handshake {
	uint8_t hub_nonce[NONCE], device_nonce[NONCE], boot_id[BOOT_ID];
	uint8_t binding[32];
};

/* parse_credential reads tl1.<id>.<generation>.<secret>. */
bool parse_credential(const char *text, struct credential *c);

/* format_credential is its reverse; text has room for 128 bytes. */
void format_credential(const struct credential *c, char *text);

/* prove_device is what the device sends. */
void prove_device(const struct credential *c, const struct handshake *h, uint8_t proof[PROOF]);

/* verify_hub compares the hub's proof in constant time. */
bool verify_hub(const struct credential *c, const struct handshake *h, const uint8_t *proof, size_t size);

/* open_renewal takes the next credential out of a Renew message. */
bool open_renewal(const struct credential *c, const struct handshake *h, uint32_t generation,
	const uint8_t nonce[12], const uint8_t sealed[48], struct credential *next);

#endif
