/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the splice's program and Python share: maps and what is in them (linux/splice_layout.py), and the words for it.
 *
 * A pair is one session: two halves, each for the packets that come from one peer, and two streams. All sequence
 * numbers of streams are the correspondent's side's, since its connection stays when the client's leg changes; they are
 * extended to 64 bits, the low half being what stands in packets. */
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
enum { RETURNS = 1, QUIET = 2, RESET_SEEN = 4, DONE_SEEN = 8, LEG_RESET_SEEN = 16 };
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
    __u8 in_scale, out_scale, flags, unused;
    __u32 own; /* with OWN: the acknowledgement with which this peer has all that the proxy itself has sent */
    /* What follows is the program's. */
    __u64 ts;      /* 1 << 32 | what is added to TSval, once known */
    __u32 ts_last; /* the highest TSval sent */
    __u32 path_mtu;
    __u64 fresh_until; /* nanoseconds; so long the addresses here hold */
    __u8 dmac[6], smac[6];
    __u32 ip_header; /* of what leaves: spare */
    __u64 heard;     /* nanoseconds: the last packet */
    __u64 packets, bytes;
};

struct stream {
    __u64 sent;  /* the end of what its sender has sent */
    __u64 acked; /* by its receiver */
    __u64 limit; /* the right edge of its receiver's window */
    __u32 fin_end;
    __u32 flags;
};

struct pair {
    __u32 state;
    __u32 serial; /* tells sessions apart that have the same place one after the other */
    __u32 flags;
    __u32 leg_sent; /* the end of what the present leg has sent; no acknowledgement goes beyond it */
    struct half half[2];
    struct stream stream[2];
    __u64 unused[2];
};

struct notice {
    __u32 place, serial, kind, whose;
};

/* Value: place << 1 | whose packets. */
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
    __uint(max_entries, COUNTS);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
} notices SEC(".maps");

static __always_inline int count(enum count what, int verdict)
{
    __u32 at = what;
    __u64 *number = bpf_map_lookup_elem(&counts, &at);
    if (number)
        __sync_fetch_and_add(number, 1);
    return verdict;
}

static __always_inline void tell(const struct pair *pair, __u32 place, enum notice_kind kind, __u32 whose)
{
    struct notice notice = {.place = place, .serial = pair->serial, .kind = kind, .whose = whose};
    bpf_ringbuf_output(&notices, &notice, sizeof notice, 0);
}

#endif
