/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the splice's program and Python share: maps and what is in them (linux/splice_layout.py), and the words for it.
 *
 * A pair is one session: two halves, each for the packets that come from one peer, and two streams. All sequence
 * numbers of streams are the correspondent's side's, since its connection stays when the client's leg changes; they are
 * extended to 64 bits, the low half being what stands in packets.
 *
 * Who writes what. Packets of one peer may be in the hands of several processors at once, and a virtual processor may
 * stand still in the middle of a packet for longer than the proxy takes to put a session on another leg. So:
 *   - streams only ever grow, by compare and exchange; their flags, and the pair's, are only ever set (`fetch or`);
 *   - each leg has a number, its *turn*; state and turn are one word. The proxy changes halves in a state in which the
 *     program translates nothing, under a new turn. A packet is sent on only if the word is what it was before anything
 *     else was read, so that no packet is made of two legs' numbers;
 *   - what the program keeps in a half (offset of timestamps, route, OWN) carries its turn, and counts for no other;
 *   - a client's tuple names its turn, too: whoever has found the old leg's is no packet of the new one. */
#ifndef SOJOURN_SPLICE_H
#define SOJOURN_SPLICE_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Whose packets: index of a half, and of the stream that these packets carry. */
enum { CLIENT = 0, CORRESPONDENT = 1 };

enum state {
    FREE = 0,
    HOLD,    /* the proxy's sockets have the connections still; data and FINs are dropped, and come again */
    SPLICED, /* packets of either peer are translated */
    LEGLESS, /* the correspondent is told to wait */
};

/* Of a pair. */
enum { RETURNS = 1, RESET_SEEN = 4, DONE_SEEN = 8 };
/* Of a half. */
enum { OWN = 1, TIMESTAMPS = 2, SACK = 4 };
/* Of a stream. */
enum { FINISHED = 1, FIN_ACKED = 2 };

/* What the proxy is told. */
enum notice_kind { OWN_ACKED = 1, LEG_RESET, RESET, DONE };

/* What was done with packets (COUNTS of splice_layout.py). */
enum count {
    FORWARDED = 0,
    ZERO_WINDOW, /* answered for a client without a leg */
    TOO_BIG,     /* answered: larger than the other peer's path takes */
    TRANSLATED,  /* "too big" from a router, handed on to whoever had sent it */
    HELD,        /* dropped while a splice was made */
    STRAY,       /* of a leg that is gone, or in no state that fits */
    DOUBTED,     /* RST that does not stand where the stream is */
    MALFORMED,
    LOST,        /* the kernel could not send it */
    COUNTS,
};

/* Counters of a processor stand together: two shall not write to one place. */
enum { ROWS = 64, ROW = 16, STATE_BITS = 2, STATE_MASK = 3, PLACE_BITS = 16, TURN_AT = 17, TURN_MASK = 0x7fff };

struct tuple4 {
    __u8 remote[4], local[4];
    __be16 remote_port, local_port;
};

struct tuple6 {
    __u8 remote[16], local[16];
    __be16 remote_port, local_port;
};

/* Packets of one peer, and how they leave towards the other. */
struct half {
    __u8 to[16], from[16]; /* IPv4: in the first four bytes */
    __be16 to_port, from_port;
    __u32 interface;
    __u32 seq_delta, ack_delta; /* added to sequence numbers; to acknowledgements and SACK edges */
    __u32 ts_base; /* the first TSval to send */
    __u32 most;    /* bytes of IP packet that the other peer is willing to take; 0: as the path */
    union {
        struct {
            __u8 in_scale, out_scale, flags, turn; /* the turn's lowest bits */
        };
        __u32 terms;
    };
    __u32 own; /* with OWN: the acknowledgement with which this peer has all that the proxy itself has sent */
    /* What follows is the program's. */
    __u64 ts;      /* turn << 32 | what is added to TSval, once known */
    __u32 ts_last; /* the highest TSval sent */
    __u32 path_mtu;
    __u64 fresh_until; /* nanoseconds; so long the addresses here hold, for packets of one turn */
    __u8 dmac[6], smac[6];
    __u32 fresh_turn;
    __u64 heard; /* nanoseconds: the last packet */
};

struct stream {
    __u64 sent;  /* the end of what its sender has sent */
    __u64 acked; /* by its receiver */
    __u64 limit; /* the right edge of its receiver's window */
    __u32 fin_end;
    __u32 flags;
};

struct pair {
    __u32 word;   /* turn << STATE_BITS | state */
    __u32 serial; /* tells sessions apart that have the same place one after the other */
    __u32 flags;
    __u32 quiet; /* nothing was heard of the client for a while: the correspondent is told to wait, too */
    struct half half[2];
    struct stream stream[2];
    __u64 leg_sent; /* turn << 32 | the end of what this leg has sent; no acknowledgement, no SACK goes beyond it */
    __u64 leg_limit; /* turn << 32 | the right edge of the client's window on this leg; new bytes go no further */
};

struct notice {
    __u32 place, serial, kind, whose;
};

/* Value: the turn's lowest bits << TURN_AT | place << 1 | whose packets. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1 << 15);
    __type(key, struct tuple4);
    __type(value, __u32);
} tuples4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1 << 15);
    __type(key, struct tuple6);
    __type(value, __u32);
} tuples6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1 << 14);
    __type(key, __u32);
    __type(value, struct pair);
} pairs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, ROWS * ROW);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
} notices SEC(".maps");

static __always_inline int count(enum count what, int verdict)
{
    __u32 at = (bpf_get_smp_processor_id() & (ROWS - 1)) * ROW + what;
    __u64 *number = bpf_map_lookup_elem(&counts, &at);
    if (number)
        __sync_fetch_and_add(number, 1);
    return verdict;
}

/* Read what others write meanwhile. */
static __always_inline __u32 now32(const __u32 *at)
{
    return *(const volatile __u32 *)at;
}

static __always_inline __u64 now64(const __u64 *at)
{
    return *(const volatile __u64 *)at;
}

static __always_inline enum state state_of(__u32 word)
{
    return word & STATE_MASK;
}

static __always_inline __u32 turn_of(__u32 word)
{
    return word >> STATE_BITS;
}

static __always_inline __u32 place_of(__u32 value)
{
    return value >> 1 & ((1 << PLACE_BITS) - 1);
}

/* Say whether what a tuple says is of the present leg; the correspondent's connection is the same through all. */
static __always_inline int is_of_turn(__u32 value, __u32 word)
{
    return (value & 1) == CORRESPONDENT || value >> TURN_AT == (turn_of(word) & TURN_MASK);
}

enum { TRIES = 4 };

/* Let a number grow. 0: others have changed it too often meanwhile. */
static __always_inline int raise64(__u64 *at, __u64 to)
{
#pragma unroll
    for (int i = 0; i < TRIES; i++) {
        __u64 was = now64(at);
        if (to <= was || __sync_val_compare_and_swap(at, was, to) == was)
            return 1;
    }
    return 0;
}

/* The same of one that wraps. */
static __always_inline int raise32(__u32 *at, __u32 to)
{
#pragma unroll
    for (int i = 0; i < TRIES; i++) {
        __u32 was = now32(at);
        if ((__s32)(to - was) <= 0 || __sync_val_compare_and_swap(at, was, to) == was)
            return 1;
    }
    return 0;
}

static __always_inline void tell(const struct pair *pair, __u32 place, enum notice_kind kind, __u32 whose)
{
    struct notice notice = {.place = place, .serial = pair->serial, .kind = kind, .whose = whose};
    bpf_ringbuf_output(&notices, &notice, sizeof notice, 0);
}

#endif
