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

/* Say whether a packet with this counter could be new. Changes nothing. */
bool window_fresh(const struct window *window, uint32_t counter)
{
    if (counter > window->top)
        return true;
    if (counter <= window->floor || window->top - counter >= REPLAY_WINDOW || !window->bits)
        return false;
    return !(window->bits[counter % REPLAY_WINDOW / 64] >> counter % 64 & 1);
}

/* Note an authenticated counter; false if it was seen before (or there is no memory to note it in). */
bool window_mark(struct window *window, uint32_t counter, bool *highest)
{
    if (!window->bits && !(window->bits = calloc(REPLAY_WINDOW / 64, 8)))
        return false;
    if (!window_fresh(window, counter))
        return false;
    *highest = counter > window->top;
    if (*highest) {
        int64_t steps = counter - window->top;
        if (steps >= REPLAY_WINDOW)
            memset(window->bits, 0, REPLAY_WINDOW / 8);
        else
            for (int64_t i = window->top + 1; i <= counter; i++)
                window->bits[i % REPLAY_WINDOW / 64] &= ~(1ull << i % 64);
        window->top = counter;
    }
    window->bits[counter % REPLAY_WINDOW / 64] |= 1ull << counter % 64;
    return true;
}

void window_clear(struct window *window)
{
    free(window->bits);
    window->bits = NULL;
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
