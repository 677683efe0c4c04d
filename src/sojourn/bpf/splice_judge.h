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

/* Let a number of one leg grow. 0: it is another leg's, or others have changed it too often meanwhile. */
static __always_inline int note_leg(__u64 *at, __u32 turn, __u32 to)
{
#pragma unroll
    for (int i = 0; i < TRIES; i++) {
        __u64 was = now64(at), now = (__u64)turn << 32 | to;
        if (was >> 32 != turn)
            return 0;
        if ((__s32)(to - (__u32)was) <= 0 || __sync_val_compare_and_swap(at, was, now) == was)
            return 1;
    }
    return 0;
}

/* What became of a note. */
enum noted { NOT_NOTED, NOTED, OUTSIDE };

/* Note what a segment sends. OUTSIDE: it lies beyond the receiver's window. */
static __always_inline enum noted note_data(struct stream *stream, __u32 seq, __u32 end, __u8 flags)
{
    __u64 sent = now64(&stream->sent), to = extend(sent, end), from = extend(sent, seq);
    if (to > now64(&stream->limit) + 1) /* a FIN may stand just behind the window */
        return OUTSIDE;
    if (!raise64(&stream->sent, to))
        return NOT_NOTED;
    if (flags & FIN && from >= now64(&stream->acked)) {
        stream->fin_end = end;
        __sync_fetch_and_or(&stream->flags, FINISHED);
    }
    return NOTED;
}

/* Note what a segment acknowledges, and the window that it opens. */
static __always_inline enum noted note_ack(struct stream *stream, __u32 ack, __u32 window)
{
    __u64 acked = now64(&stream->acked), to = extend(acked, ack);
    if (to > now64(&stream->sent) || to < acked)
        return OUTSIDE;
    if (!raise64(&stream->acked, to) || !raise64(&stream->limit, to + window))
        return NOT_NOTED;
    if ((now32(&stream->flags) & (FINISHED | FIN_ACKED)) == FINISHED && (__s32)((__u32)to - stream->fin_end) >= 0)
        __sync_fetch_and_or(&stream->flags, FIN_ACKED);
    return NOTED;
}

/* Note that a peer has all that the proxy itself has said. */
static __always_inline void note_own(const struct pair *pair, struct half *half, __u32 place, __u32 whose)
{
    __u32 terms = now32(&half->terms);
    struct half after = {.terms = terms};
    after.flags &= ~OWN;
    if (terms != after.terms && __sync_val_compare_and_swap(&half->terms, terms, after.terms) == terms)
        tell(pair, place, OWN_ACKED, whose);
}

/* RFC 5961 §3: a RST counts where it stands exactly at what its receiver expects, or at the end of what was sent. */
static __always_inline enum verdict judge_reset(struct pair *pair, __u32 word, __u32 place, __u32 whose, __u32 seq)
{
    const struct stream *stream = &pair->stream[whose];
    int exact = seq == (__u32)stream->acked || seq == (__u32)stream->sent;
    int leg = whose == CLIENT && pair->flags & RETURNS, legless = state_of(word) == LEGLESS;
    if (!exact) {
        count(DOUBTED, 0);
        return leg || legless ? DROP : FORWARD; /* the other end judges for itself */
    }
    if (leg) {
        __u32 now = turn_of(word) << STATE_BITS | LEGLESS;
        if (__sync_val_compare_and_swap(&pair->word, word, now) == word)
            tell(pair, place, LEG_RESET, whose);
        return DROP;
    }
    if (!(__sync_fetch_and_or(&pair->flags, RESET_SEEN) & RESET_SEEN))
        tell(pair, place, RESET, whose);
    return legless ? DROP : FORWARD;
}

static __always_inline void note_end(struct pair *pair, __u32 place)
{
    if (now32(&pair->stream[0].flags) & FIN_ACKED && now32(&pair->stream[1].flags) & FIN_ACKED &&
        !(now32(&pair->flags) & DONE_SEEN) && !(__sync_fetch_and_or(&pair->flags, DONE_SEEN) & DONE_SEEN))
        tell(pair, place, DONE, 0);
}

/* Say whether bytes go beyond the window of the present leg (one beyond it is a probe, or a FIN). A correspondent that
 * has known another leg's sends them until its first byte, which always passes, is acknowledged. Linux's nf_conntrack
 * before the client would pass them, take the client's acknowledgements for old ones from then on, and drop whatever
 * acknowledges what the client sends. */
static __always_inline int exceeds(const struct pair *pair, __u32 seq, __u32 taken)
{
    return taken && (__s32)(seq + taken - (__u32)now64(&pair->leg_limit)) > 1;
}

/* The number with which a segment is sent on: a mere acknowledgement stands where its sender is, and is noted as sent
 * by nf_conntrack, too. */
static __always_inline __u32 seq_within(const struct pair *pair, __u32 whose, const struct segment *segment)
{
    __u32 limit = now64(&pair->leg_limit);
    int mere = !segment->payload && !(segment->flags & (SYN | FIN | RST));
    return whose == CORRESPONDENT && mere && (__s32)(segment->seq - limit) > 0 ? limit : segment->seq;
}

/* Note a segment of one peer, and say what is to be done with it. `word`: the pair's, read before all else. */
static __always_inline enum verdict judge(struct pair *pair, __u32 word, __u32 place, __u32 whose,
                                          const struct segment *segment)
{
    enum state state = state_of(word);
    struct half *half = &pair->half[whose];
    struct stream *carried = &pair->stream[whose], *answered = &pair->stream[!whose];
    __u32 seq = segment->seq, ack = segment->ack;
    __u32 taken = segment->payload + !!(segment->flags & FIN) + !!(segment->flags & SYN);
    if (state == HOLD)
        return taken ? DROP : UP;
    if (state == FREE || (state == LEGLESS && whose == CLIENT))
        return DROP;
    if (whose == CLIENT)
        seq += half->seq_delta, ack += half->ack_delta;
    if (segment->flags & RST)
        return judge_reset(pair, word, place, whose, seq);
    enum noted noted = note_data(carried, seq, seq + taken, segment->flags);
    if (noted == NOTED && whose == CLIENT && !note_leg(&pair->leg_sent, turn_of(word), seq + taken))
        noted = NOT_NOTED;
    if (noted == NOTED && segment->flags & ACK) {
        __u32 window = segment->flags & SYN ? 0 : segment->window << half->in_scale;
        enum noted heard = note_ack(answered, ack, window);
        if (heard == NOT_NOTED ||
            (heard == NOTED && whose == CLIENT && !note_leg(&pair->leg_limit, turn_of(word), ack + window)))
            return DROP;
        if (half->flags & OWN && half->turn == (__u8)turn_of(word) && (__s32)(segment->ack - half->own) >= 0)
            note_own(pair, half, place, whose);
        note_end(pair, place);
    }
    if (noted == NOT_NOTED) /* it comes again */
        return DROP;
    /* Bytes from before the splice point would stand where the proxy's own stand, and be taken for them. */
    const struct half *other = &pair->half[!whose];
    int before = taken && other->flags & OWN && (__s32)(segment->seq + half->seq_delta - other->own) < 0;
    if (whose == CLIENT) {
        if (pair->quiet)
            pair->quiet = 0;
        return before ? DROP : FORWARD;
    }
    int asks = taken || seq == (__u32)carried->acked - 1;
    if (state == LEGLESS)
        return asks ? ANSWER : DROP;
    if (before || ((__s32)(seq - (__u32)carried->acked) > 0 && exceeds(pair, seq, taken)))
        return DROP;
    return asks && pair->quiet ? FORWARD_AND_ANSWER : FORWARD;
}

#endif
