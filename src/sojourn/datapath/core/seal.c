/* AEAD, send counters, replay windows: packet/seal.py's, for several threads. */
#include "seal.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Fetched once: fetching is slow, and a context that has one is quick to start anew. */
static EVP_CIPHER *ciphers[3];
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

static void fetch(void)
{
    ciphers[AES_256_GCM] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    ciphers[CHACHA20_POLY1305] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
}

void aead_init(struct aead *aead, enum algorithm algorithm, const uint8_t *key, const uint8_t *iv)
{
    memset(aead, 0, sizeof *aead);
    aead->algorithm = algorithm;
    memcpy(aead->key, key, KEY_BYTES);
    memcpy(aead->iv, iv, IV_BYTES);
}

void aead_clear(struct aead *aead)
{
    for (unsigned i = 0; i < MAX_THREADS; i++)
        EVP_CIPHER_CTX_free(aead->contexts[i]);
    OPENSSL_cleanse(aead, sizeof *aead);
}

/* Return this thread's context; a key has one for each way, because it serves one way only. */
static EVP_CIPHER_CTX *context(struct aead *aead, unsigned thread, bool sealing)
{
    EVP_CIPHER_CTX *made = aead->contexts[thread];
    if (made)
        return made;
    pthread_once(&fetched, fetch);
    made = EVP_CIPHER_CTX_new();
    if (!made || !ciphers[aead->algorithm] ||
        !EVP_CipherInit_ex(made, ciphers[aead->algorithm], NULL, aead->key, NULL, sealing)) {
        EVP_CIPHER_CTX_free(made);
        return NULL;
    }
    return aead->contexts[thread] = made;
}

/* The nonce is iv xor counter (RFC 9001 §5.3). */
static void nonce_of(const struct aead *aead, uint64_t counter, uint8_t nonce[IV_BYTES])
{
    memcpy(nonce, aead->iv, IV_BYTES);
    for (unsigned i = 0; i < 8; i++)
        nonce[IV_BYTES - 1 - i] ^= (uint8_t)(counter >> 8 * i);
}

/* Seal `size` bytes of text into `sealed`, the tag after them. The buffers do not overlap. */
bool aead_seal(struct aead *aead, unsigned thread, uint64_t counter, const uint8_t *header, const uint8_t *text,
               size_t size, uint8_t *sealed)
{
    EVP_CIPHER_CTX *ctx = context(aead, thread, true);
    uint8_t nonce[IV_BYTES];
    int length;
    nonce_of(aead, counter, nonce);
    return ctx && EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) &&
           EVP_EncryptUpdate(ctx, NULL, &length, header, HEADER_BYTES) &&
           EVP_EncryptUpdate(ctx, sealed, &length, text, (int)size) &&
           EVP_EncryptFinal_ex(ctx, sealed + size, &length) &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, sealed + size);
}

/* Open `size` bytes, the tag's not counted, into `text`, which may be `sealed` itself; only if it is true
 * what is there then may be looked at. */
bool aead_open(struct aead *aead, unsigned thread, uint32_t counter, const uint8_t *header, uint8_t *sealed,
               size_t size, uint8_t *text)
{
    EVP_CIPHER_CTX *ctx = context(aead, thread, false);
    uint8_t nonce[IV_BYTES];
    int length;
    nonce_of(aead, counter, nonce);
    return ctx && EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, sealed + size) &&
           EVP_DecryptUpdate(ctx, NULL, &length, header, HEADER_BYTES) &&
           EVP_DecryptUpdate(ctx, text, &length, sealed, (int)size) &&
           EVP_DecryptFinal_ex(ctx, text + size, &length) > 0;
}

/* Begin a receive key; of its counters none up to `seen` is taken, -1: all are. */
void receive_key_init(struct receive_key *key, enum algorithm algorithm, const uint8_t *secret, const uint8_t *iv,
                      uint32_t epoch, int64_t seen)
{
    static _Atomic uint64_t made;
    aead_init(&key->aead, algorithm, secret, iv);
    key->epoch = epoch;
    key->serial = atomic_fetch_add(&made, 1) + 1;
    window_init(&key->window, seen);
}

/* Begin a window; of its counters none up to `seen` is taken, -1: all are. */
void window_init(struct window *window, int64_t seen)
{
    window->floor = seen < 0 ? -1 : seen;
    atomic_store(&window->top, window->floor);
}

static _Atomic uint64_t *word_of(uint64_t *bits, int64_t counter)
{
    return (_Atomic uint64_t *)&bits[counter % REPLAY_WINDOW / 64];
}

/* Say whether a packet with this counter could be new. Changes nothing, and needs no lock: it may take an old packet for
 * a new one that is just being marked, but no new one for an old one. For that `top` is read first, and written last:
 * whoever reads the new one sees the bits that it has freed. */
bool window_fresh(struct window *window, uint32_t counter)
{
    const int64_t top = atomic_load_explicit(&window->top, memory_order_acquire);
    if (counter > top)
        return true;
    uint64_t *bits = atomic_load_explicit(&window->bits, memory_order_acquire);
    if (counter <= window->floor || top - counter >= REPLAY_WINDOW || !bits)
        return false;
    return !(atomic_load_explicit(word_of(bits, counter), memory_order_relaxed) >> counter % 64 & 1);
}

static void free_bits(uint64_t *bits, int64_t from, int64_t to)
{
    for (int64_t i = from; i <= to; i++)
        if (i % 64 == 0 && i + 63 <= to) {
            atomic_store_explicit(word_of(bits, i), 0, memory_order_relaxed);
            i += 63;
        } else {
            _Atomic uint64_t *word = word_of(bits, i);
            atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) & ~(1ull << i % 64),
                                  memory_order_relaxed);
        }
}

/* Note an authenticated counter; false if it was seen before (or there is no memory to note it in). The caller has the
 * window for itself. */
bool window_mark(struct window *window, uint32_t counter, bool *highest)
{
    uint64_t *bits = atomic_load_explicit(&window->bits, memory_order_relaxed);
    if (!bits) {
        if (!(bits = calloc(REPLAY_WINDOW / 64, 8)))
            return false;
        atomic_store_explicit(&window->bits, bits, memory_order_release);
    }
    if (!window_fresh(window, counter))
        return false;
    const int64_t top = atomic_load_explicit(&window->top, memory_order_relaxed);
    *highest = counter > top;
    if (*highest)
        free_bits(bits, counter - top >= REPLAY_WINDOW ? counter - REPLAY_WINDOW + 1 : top + 1, counter);
    /* Nobody else writes: a load and a store will do. */
    _Atomic uint64_t *word = word_of(bits, counter);
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) | 1ull << counter % 64,
                          memory_order_relaxed);
    if (*highest)
        atomic_store_explicit(&window->top, counter, memory_order_release);
    return true;
}

void window_clear(struct window *window)
{
    free(atomic_load(&window->bits));
    atomic_store(&window->bits, NULL);
}

void send_key_free(void *key)
{
    struct send_key *send = key;
    aead_clear(&send->aead);
    free(send);
}

void receive_key_free(void *key)
{
    struct receive_key *receive = key;
    aead_clear(&receive->aead);
    window_clear(&receive->window);
    free(receive);
}
