/* SipHash-2-4 (Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012): ports and addresses are chosen by
 * strangers, and without the key, which is new with each start, nobody knows which of them share a bucket. */
#include "core.h"

#include <string.h>

static inline uint64_t turn(uint64_t word, unsigned by) { return word << by | word >> (64 - by); }

static inline uint64_t read64(const uint8_t *p)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << 8 * i;
    return word;
}

static inline void rounds(uint64_t v[4], unsigned count)
{
    while (count--) {
        v[0] += v[1], v[1] = turn(v[1], 13) ^ v[0], v[0] = turn(v[0], 32);
        v[2] += v[3], v[3] = turn(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = turn(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = turn(v[1], 17) ^ v[2], v[2] = turn(v[2], 32);
    }
}

uint64_t siphash(const uint64_t key[2], const uint8_t *data, size_t size)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull, key[0] ^ 0x6c7967656e657261ull,
                     key[1] ^ 0x7465646279746573ull};
    uint64_t last = (uint64_t)size << 56;
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word = read64(data);
        v[3] ^= word;
        rounds(v, 2);
        v[0] ^= word;
    }
    for (unsigned i = 0; i < size; i++)
        last |= (uint64_t)data[i] << 8 * i;
    v[3] ^= last;
    rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
