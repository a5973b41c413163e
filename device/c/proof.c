#include "proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool parse_credential(const char *text, struct credential *c)
{
	unsigned long generation;
	char secret[48] = "";
	uint8_t raw[36];
	int end = 0;
	if (sscanf(text, "tl1.%64[A-Za-z0-9_-].%lu.%43[A-Za-z0-9_-]%n", c->id, &generation, secret, &end) != 3 ||
	    text[end] != 0 || strlen(secret) != 43 || generation == 0 || generation > UINT32_MAX)
		return false;
	for (char *p = secret; *p != 0; p++) /* base64url is base64 with two other letters */
		*p = *p == '-' ? '+' : *p == '_' ? '/' : *p;
	strcat(secret, "=");
	if (EVP_DecodeBlock(raw, (uint8_t *)secret, 44) != 33)
		return false;
	c->generation = generation;
	memcpy(c->secret, raw, SECRET);
	return true;
}

void format_credential(const struct credential *c, char *text)
{
	char secret[45];
	EVP_EncodeBlock((uint8_t *)secret, c->secret, SECRET);
	for (char *p = secret; *p != 0; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? 0 : *p;
	sprintf(text, "tl1.%s.%lu.%s", c->id, (unsigned long)c->generation, secret);
}

static void hmac(const uint8_t key[32], const void *data, size_t size, uint8_t out[32])
{
	HMAC(EVP_sha256(), key, 32, data, size, out, NULL);
}

/* hkdf is RFC 5869 for a salt and an output of 32 bytes. An empty salt is one
 * of zeros. */
static void hkdf(const uint8_t secret[32], const uint8_t salt[32], const char *info, uint8_t out[32])
{
	uint8_t key[32], block[32];
	size_t n = strlen(info);
	hmac(salt, secret, SECRET, key);
	memcpy(block, info, n);
	block[n] = 1;
	hmac(key, block, n + 1, out);
}

static void put_generation(uint8_t *p, uint32_t g)
{
	for (int i = 0; i < 4; i++)
		p[i] = g >> (24 - 8 * i); /* big endian */
}

static size_t transcript(const struct credential *c, const struct handshake *h, uint8_t out[256])
{
	uint8_t *p = out;
	size_t n = strlen(c->id);
	memcpy(p, "tetherline.v1", 14); /* with its 0 */
	p += 14;
	*p++ = n;
	memcpy(p, c->id, n);
	p += n;
	put_generation(p, c->generation);
	p += 4;
	memcpy(p, h->hub_nonce, NONCE);
	p += NONCE;
	memcpy(p, h->device_nonce, NONCE);
	p += NONCE;
	memcpy(p, h->boot_id, BOOT_ID);
	p += BOOT_ID;
	*p++ = sizeof h->binding;
	memcpy(p, h->binding, sizeof h->binding);
	p += sizeof h->binding;
	return p - out;
}

static void prove(const struct credential *c, const struct handshake *h, const char *info, uint8_t proof[PROOF])
{
	static const uint8_t no_salt[32];
	uint8_t token[32], t[256];
	hkdf(c->secret, no_salt, info, token);
	hmac(token, t, transcript(c, h, t), proof);
	OPENSSL_cleanse(token, sizeof token);
}

void prove_device(const struct credential *c, const struct handshake *h, uint8_t proof[PROOF])
{
	prove(c, h, "device token", proof);
}

bool verify_hub(const struct credential *c, const struct handshake *h, const uint8_t *proof, size_t size)
{
	uint8_t want[PROOF];
	prove(c, h, "hub token", want);
	return size == PROOF && CRYPTO_memcmp(proof, want, PROOF) == 0;
}

bool open_renewal(const struct credential *c, const struct handshake *h, uint32_t generation,
	const uint8_t nonce[12], const uint8_t sealed[48], struct credential *next)
{
	uint8_t t[256], salt[32], key[32], data[68], rest[16];
	size_t n = strlen(c->id);
	int size;
	SHA256(t, transcript(c, h, t), salt);
	hkdf(c->secret, salt, "renew key", key);
	memcpy(data, c->id, n);
	put_generation(data + n, generation);
	*next = *c;
	next->generation = generation;
	EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
	bool ok = gcm != NULL && EVP_DecryptInit_ex(gcm, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
		EVP_DecryptUpdate(gcm, NULL, &size, data, n + 4) == 1 &&
		EVP_DecryptUpdate(gcm, next->secret, &size, sealed, SECRET) == 1 &&
		EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_SET_TAG, 16, (void *)(sealed + SECRET)) == 1 &&
		EVP_DecryptFinal_ex(gcm, rest, &size) == 1;
	EVP_CIPHER_CTX_free(gcm);
	OPENSSL_cleanse(key, sizeof key);
	return ok;
}
