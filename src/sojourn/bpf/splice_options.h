/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * TCP options of a spliced segment: timestamps and SACK edges are translated, all others become NOPs. */
#ifndef SOJOURN_SPLICE_OPTIONS_H
#define SOJOURN_SPLICE_OPTIONS_H

#include "splice_judge.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_SACK = 5, OPTION_TIMESTAMPS = 8, MOST_OPTIONS = 40 };

/* Options on their way: 64 bytes, so that a masked index is always inside. */
struct options {
    __u8 bytes[64] __attribute__((aligned(8)));
    __u32 length, at, malformed;
    __u32 ack_delta, flags;
    __u32 leg_sent, bounded; /* with `bounded`, SACK blocks go no further than `leg_sent` */
    __u32 stamps; /* where the timestamps stand; 0: there are none */
};

/* Return the TSval to send for one that came. The first one fixes what is added, once: on two processors, too. */
static __always_inline __u32 ts_value(struct half *half, __u32 turn, __u32 value)
{
    __u64 known = now64(&half->ts);
    if (known >> 32 != turn) {
        __u64 first = (__u64)turn << 32 | (__u32)(half->ts_base - value);
        __u64 was = __sync_val_compare_and_swap(&half->ts, known, first);
        known = was == known ? first : was;
    }
    __u32 sent = value + (__u32)known;
    raise32(&half->ts_last, sent);
    return sent;
}

/* Return the TSecr to send: 0, which is no echo (RFC 7323 §3.2), for a TSval that this connection has never sent. */
static __always_inline __u32 ts_echo(const struct half *other, __u32 turn, __u32 echo)
{
    __u64 known = now64(&other->ts);
    if (!echo || known >> 32 != turn || (__s32)(echo - other->ts_base) < 0)
        return 0;
    return echo - (__u32)known;
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

/* Translate a SACK option, and return how many bytes are left of it. What an earlier leg has sent may have come in
 * behind a gap: a client would discard a block beyond what it has sent, but a stateful firewall before it drops the
 * segment with all that it carries (nf_conntrack's tcp_in_window), each time, and the session stands still. */
static __always_inline __u32 translate_sack(struct options *options, __u32 at, __u32 size)
{
    __u32 kept = 2;
    for (__u32 block = 2; block + 8 <= 34; block += 8) {
        __u32 left = get32(options->bytes, at + block), right = get32(options->bytes, at + block + 4);
        __u32 bound = options->bounded ? options->leg_sent : right;
        if (block + 8 > size || (options->bounded && (__s32)(left - bound) >= 0))
            continue;
        if ((__s32)(right - bound) > 0)
            right = bound;
        put32(options->bytes, at + kept, left + options->ack_delta);
        put32(options->bytes, at + kept + 4, right + options->ack_delta);
        kept += 8;
    }
    if (kept == 2)
        return 0;
    options->bytes[(at + 1) & 63] = kept;
    return kept;
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
    __u32 kept = 0;
    if (kind == OPTION_TIMESTAMPS && size == 10 && options->flags & TIMESTAMPS && !options->stamps)
        options->stamps = at + 2, kept = size;
    else if (kind == OPTION_SACK && size >= 10 && options->flags & SACK)
        kept = translate_sack(options, at, size);
    for (__u32 i = 0; i < MOST_OPTIONS; i++)
        if (i >= kept && i < size)
            options->bytes[(at + i) & 63] = OPTION_NOP;
    options->at = at + size;
    return 0;
}

/* Translate the options of the segment whose header is at `tcp`; return what that changes in a checksum's sum. -1: no.
 * Global, like all that is rare: the verifier looks at it once, not in every state of its callers; and not inline, since
 * a program and what it calls have 512 bytes of stack together. */
__noinline __s64 translate_options(struct __sk_buff *skb, __u32 tcp, __u32 length, struct pair *pair,
                                   __u64 whose_and_turn)
{
    if (!pair)
        return -1;
    __u32 whose = whose_and_turn & 1, turn = whose_and_turn >> 1;
    struct half *half = &pair->half[whose];
    const struct half *other = &pair->half[!whose];
    struct options options = {.ack_delta = half->ack_delta, .flags = half->flags};
    options.bounded = whose == CORRESPONDENT, options.leg_sent = now64(&pair->leg_sent);
    __u32 last = length - 1; /* of none the largest: before Linux 6.8 a comparison with 0 teaches the verifier nothing */
    if (last >= MOST_OPTIONS)
        return -1;
    barrier_var(last);
    length = last + 1;
    if (bpf_skb_load_bytes(skb, tcp + 20, options.bytes, length))
        return -1;
    options.length = length;
    __u32 sum = bpf_csum_diff((__be32 *)options.bytes, MOST_OPTIONS, 0, 0, 0);
    bpf_loop(MOST_OPTIONS, next_option, &options, 0);
    if (options.malformed)
        return -1;
    __u32 stamps = options.stamps;
    if (stamps) {
        put32(options.bytes, stamps, ts_value(half, turn, get32(options.bytes, stamps)));
        put32(options.bytes, stamps + 4, ts_echo(other, turn, get32(options.bytes, stamps + 4)));
    }
    sum = bpf_csum_diff(0, 0, (__be32 *)options.bytes, MOST_OPTIONS, sum);
    return bpf_skb_store_bytes(skb, tcp + 20, options.bytes, length, 0) ? -1 : (__s64)sum;
}

#endif
