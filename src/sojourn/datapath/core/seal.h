/* AEAD, send counters and replay windows of one epoch of one tunnel each (seal.c). */
#ifndef SOJOURN_SEAL_H
#define SOJOURN_SEAL_H

#include <openssl/evp.h>
#include <stdatomic.h>

#include "packet.h"

enum algorithm { AES_256_GCM = 1, CHACHA20_POLY1305 = 2 };

struct aead {
    enum algorithm algorithm;
    uint8_t key[KEY_BYTES], iv[IV_BYTES];
    EVP_CIPHER_CTX *contexts[MAX_THREADS]; /* each made and used by its thread alone */
};

struct send_key {
    struct aead aead;
    uint32_t first_word; /* header's, in host order, without hints */
    uint32_t epoch;
    uint8_t apart[64];        /* others read what is above all the time */
    _Atomic uint64_t counter; /* the next one; ranges are reserved by adding */
};

/* Marked under a lock; asked without one. */
struct window {
    _Atomic int64_t top;       /* highest seen, -1: none */
    int64_t floor;             /* not above it everything counts as seen; set before others see the window */
    _Atomic(uint64_t *) bits;  /* made by the first mark: bit c % 8192 */
};

struct receive_key {
    struct aead aead;
    uint32_t epoch;
    uint64_t serial; /* of no other key of this process */
    struct window window;
};

/* Newest first; several may have the same low bits of the epoch. Never changed: replaced. */
struct receive_keys {
    unsigned count;
    struct receive_key *keys[RECEIVE_KEYS];
};

void aead_init(struct aead *aead, enum algorithm algorithm, const uint8_t *key, const uint8_t *iv);
void aead_clear(struct aead *aead);
bool aead_seal(struct aead *aead, unsigned thread, uint64_t counter, const uint8_t *header, const uint8_t *text,
               size_t size, uint8_t *sealed);
bool aead_open(struct aead *aead, unsigned thread, uint32_t counter, const uint8_t *header, uint8_t *sealed,
               size_t size, uint8_t *text);
void receive_key_init(struct receive_key *key, enum algorithm algorithm, const uint8_t *secret, const uint8_t *iv,
                      uint32_t epoch, int64_t seen);
void window_init(struct window *window, int64_t seen);
bool window_fresh(struct window *window, uint32_t counter);
bool window_mark(struct window *window, uint32_t counter, bool *highest);
void window_clear(struct window *window);
void send_key_free(void *key);
void receive_key_free(void *key);

#endif
