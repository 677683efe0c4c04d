/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * TCP options of a spliced segment: timestamps and SACK edges are translated, all others become NOPs. */
#ifndef SOJOURN_SPLICE_OPTIONS_H
#define SOJOURN_SPLICE_OPTIONS_H

#include "splice_judge.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_SACK = 5, OPTION_TIMESTAMPS = 8, MOST_OPTIONS = 40 };

/* Options on their way: 64 bytes, so that a masked index is always inside. */
struct options {
    __u8 bytes[64];
    __u32 length, at, malformed;
    __u32 ack_delta;
    struct half *half;
    const struct half *other;
};

/* Return the TSval to send for one that came. The first one fixes what is added, once: on two processors, too. */
static __always_inline __u32 ts_value(struct half *half, __u32 value)
{
    if (!half->ts)
        __sync_val_compare_and_swap(&half->ts, 0, 1ull << 32 | (__u32)(half->ts_base - value));
    __u32 sent = value + (__u32)half->ts;
    if ((__s32)(sent - half->ts_last) > 0)
        half->ts_last = sent;
    return sent;
}

/* Return the TSecr to send: 0, which is no echo (RFC 7323 §3.2), for a TSval that this connection has never sent. */
static __always_inline __u32 ts_echo(const struct half *other, __u32 echo)
{
    if (!echo || !other->ts || (__s32)(echo - other->ts_base) < 0)
        return 0;
    return echo - (__u32)other->ts;
}

static __always_inline __u32 get32(const __u8 *bytes, __u32 at)
{
    return (__u32)bytes[at & 63] << 24 | (__u32)bytes[(at + 1) & 63] << 16 | (__u32)bytes[(at + 2) & 63] << 8 |
           bytes[(at + 3) & 63];
}

static __always_inline void put32(__u8 *bytes, __u32 at, __u32 value)
{
    bytes[at & 63] = value >> 24, bytes[(at + 1) & 63] = value >> 16;
    bytes[(at + 2) & 63] = value >> 8, bytes[(at + 3) & 63] = value;
}

/* Translate one option: a step of bpf_loop, since the verifier would walk every path through a loop written out. */
static long next_option(__u32 step, struct options *options)
{
    __u32 at = options->at & 63;
    if (at >= options->length)
        return 1;
    __u8 kind = options->bytes[at];
    if (kind == OPTION_END)
        return 1;
    if (kind == OPTION_NOP) {
        options->at = at + 1;
        return 0;
    }
    __u32 size = options->bytes[(at + 1) & 63];
    if (at + 1 >= options->length || size < 2 || at + size > options->length) {
        options->malformed = 1;
        return 1;
    }
    if (kind == OPTION_TIMESTAMPS && size == 10 && options->half->flags & TIMESTAMPS) {
        put32(options->bytes, at + 2, ts_value(options->half, get32(options->bytes, at + 2)));
        put32(options->bytes, at + 6, ts_echo(options->other, get32(options->bytes, at + 6)));
    } else if (kind == OPTION_SACK && size >= 10 && options->half->flags & SACK) {
        for (__u32 edge = 2; edge + 4 <= 34; edge += 4)
            if (edge + 4 <= size)
                put32(options->bytes, at + edge, get32(options->bytes, at + edge) + options->ack_delta);
    } else {
        for (__u32 i = 0; i < MOST_OPTIONS; i++)
            if (i < size)
                options->bytes[(at + i) & 63] = OPTION_NOP;
    }
    options->at = at + size;
    return 0;
}

/* Translate the options of the segment whose header is at `tcp`; add what that changes to a checksum's sum. -1: no. */
static __always_inline int translate_options(struct __sk_buff *skb, __u32 tcp, __u32 length, struct half *half,
                                             const struct half *other, __u64 *sum)
{
    struct options options = {.half = half, .other = other, .ack_delta = half->ack_delta};
    __u8 before[MOST_OPTIONS] = {};
    if (length < 1 || length > MOST_OPTIONS || bpf_skb_load_bytes(skb, tcp + 20, before, length))
        return -1;
    __builtin_memcpy(options.bytes, before, sizeof before);
    options.length = length;
    bpf_loop(MOST_OPTIONS, next_option, &options, 0);
    if (options.malformed)
        return -1;
    *sum += (__u32)bpf_csum_diff((__be32 *)before, sizeof before, (__be32 *)options.bytes, sizeof before, 0);
    return bpf_skb_store_bytes(skb, tcp + 20, options.bytes, length, 0) ? -1 : 0;
}

#endif
