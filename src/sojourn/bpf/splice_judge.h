/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Following a spliced connection: where both streams are, and what a segment changes. The same in msocks/splice.py. */
#ifndef SOJOURN_SPLICE_JUDGE_H
#define SOJOURN_SPLICE_JUDGE_H

#include "splice.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

/* What is to be done with a packet. */
enum verdict { FORWARD, UP, DROP, ANSWER, FORWARD_AND_ANSWER };

struct segment {
    __u32 seq, ack, window, payload;
    __u32 header; /* bytes of TCP header */
    __u8 flags;
};

/* The extended number that stands for `number` and is nearest to a known one. */
static __always_inline __u64 extend(__u64 known, __u32 number)
{
    return known + (__s64)(__s32)(number - (__u32)known);
}

/* Note what a segment sends; false: it lies outside of the receiver's window. */
static __always_inline int note_data(struct pair *pair, struct stream *stream, __u32 whose, __u32 seq, __u32 end,
                                     __u8 flags)
{
    __u64 to = extend(stream->sent, end), from = extend(stream->sent, seq);
    if (to > stream->limit + 1) /* a FIN may stand just behind the window */
        return 0;
    if (to > stream->sent)
        stream->sent = to;
    if (whose == CLIENT && (__s32)(end - pair->leg_sent) > 0)
        pair->leg_sent = end;
    if (flags & FIN && from >= stream->acked) {
        stream->fin_end = end;
        stream->flags |= FINISHED;
    }
    return 1;
}

/* Note what a segment acknowledges, and the window that it opens. */
static __always_inline void note_ack(struct stream *stream, __u32 ack, __u32 window)
{
    __u64 to = extend(stream->acked, ack);
    if (to > stream->sent || to < stream->acked)
        return;
    stream->acked = to;
    if (to + window > stream->limit)
        stream->limit = to + window;
    if (stream->flags & FINISHED && (__s32)((__u32)to - stream->fin_end) >= 0)
        stream->flags |= FIN_ACKED;
}

/* RFC 5961 §3: a RST counts where it stands exactly at what its receiver expects, or at the end of what was sent. */
static __always_inline enum verdict judge_reset(struct pair *pair, __u32 place, __u32 whose, __u32 seq)
{
    const struct stream *stream = &pair->stream[whose];
    int exact = seq == (__u32)stream->acked || seq == (__u32)stream->sent;
    int leg = whose == CLIENT && pair->flags & RETURNS;
    if (!exact) {
        count(DOUBTED, 0);
        return leg || pair->state == LEGLESS ? DROP : FORWARD; /* the other end judges for itself */
    }
    if (leg) {
        pair->state = LEGLESS;
        pair->flags |= LEG_RESET_SEEN;
        tell(pair, place, LEG_RESET, whose);
        return DROP;
    }
    if (!(pair->flags & RESET_SEEN)) {
        pair->flags |= RESET_SEEN;
        tell(pair, place, RESET, whose);
    }
    return pair->state == LEGLESS ? DROP : FORWARD;
}

static __always_inline void note_end(struct pair *pair, __u32 place)
{
    if (pair->stream[0].flags & FIN_ACKED && pair->stream[1].flags & FIN_ACKED && !(pair->flags & DONE_SEEN)) {
        pair->flags |= DONE_SEEN;
        tell(pair, place, DONE, 0);
    }
}

/* Note a segment of one peer, and say what is to be done with it. */
static __always_inline enum verdict judge(struct pair *pair, __u32 place, __u32 whose, const struct segment *segment)
{
    struct half *half = &pair->half[whose];
    struct stream *carried = &pair->stream[whose], *answered = &pair->stream[!whose];
    __u32 seq = segment->seq, ack = segment->ack;
    __u32 taken = segment->payload + !!(segment->flags & FIN) + !!(segment->flags & SYN);
    if (pair->state == HOLD)
        return taken ? DROP : UP;
    if (pair->state == LEGLESS && whose == CLIENT)
        return DROP;
    if (pair->state != SPLICED && pair->state != LEGLESS)
        return DROP;
    if (whose == CLIENT)
        seq += half->seq_delta, ack += half->ack_delta;
    if (segment->flags & RST)
        return judge_reset(pair, place, whose, seq);
    int fits = note_data(pair, carried, whose, seq, seq + taken, segment->flags);
    if (fits && segment->flags & ACK) {
        note_ack(answered, ack, segment->flags & SYN ? 0 : segment->window << half->in_scale);
        if (half->flags & OWN && (__s32)(segment->ack - half->own) >= 0) {
            half->flags &= ~OWN;
            tell(pair, place, OWN_ACKED, whose);
        }
        note_end(pair, place);
    }
    /* Bytes from before the splice point would stand where the proxy's own stand, and be taken for them. */
    const struct half *other = &pair->half[!whose];
    int before = taken && other->flags & OWN && (__s32)(segment->seq + half->seq_delta - other->own) < 0;
    if (whose == CLIENT) {
        pair->flags &= ~QUIET;
        return before ? DROP : FORWARD;
    }
    int asks = taken || seq == (__u32)carried->acked - 1;
    if (pair->state == LEGLESS)
        return asks ? ANSWER : DROP;
    if (before)
        return DROP;
    return asks && pair->flags & QUIET ? FORWARD_AND_ANSWER : FORWARD;
}

#endif
