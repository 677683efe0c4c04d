/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the kernel path's programs and Python share: maps and what is in them (datapath/kernel_layout.py). */
#ifndef SOJOURN_PLAIN_H
#define SOJOURN_PLAIN_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* STREAM_GAP of upmt/constants.py: after so long a pause Python is told. */
#define NANOSECONDS_OF_IDLENESS 100000000ull
/* How long a packet's way out is believed, before the kernel is asked again. */
#define NANOSECONDS_OF_WAY 1000000000ull
/* tc_index of a packet whose hardware addresses are wanted: with its tunnel's slot, of which there are 1 << 15. */
#define WAY_WANTED 0x8000

enum { USABLE = 1, MAY_FRAGMENT = 2, ZERO_CHECKSUM6 = 4 };

/* Why a packet went up to the engine, or was lost (REASONS of kernel_layout.py). */
enum reason {
    OK = 0,
    NO_ROW,
    UNUSUAL,
    UNUSABLE,
    TOO_LARGE,
    NOT_A_PACKET, /* control frames are none */
    SEGMENTS,
    REFUSED_BY_KERNEL,
    CONGESTION,
    LOST,
    REASONS,
};

/* packet/ip.py, flow_key, and zeros. */
struct row_key4 {
    __u8 bytes[16];
};

struct row_key6 {
    __u8 bytes[40];
};

struct row {
    __u32 slot;  /* of its tunnel */
    __u32 place; /* of its counts */
    __u64 association;
};

struct counts {
    __u64 packets_out, bytes_out, packets_in, bytes_in;
    __u64 out_at, in_at;
    __u64 zero_seen; /* tunnels over IPv6: the peer has sent without UDP checksum, so it takes such packets */
    __u64 unused;    /* one cache line each */
};

struct tunnel {
    __u64 association;
    __u32 interface;
    __u16 inner_mtu;
    __u8 family; /* 4 or 6 */
    __u8 flags;
    __u8 local[16], remote[16]; /* IPv4: in the first four bytes */
    __be16 local_port, remote_port;
    __u32 id; /* for a successor of the process that filled this in */
    /* Ours; what Python writes begins without. */
    __u64 way_until; /* nanoseconds */
    __u64 way[2];    /* hardware addresses that packets leave with, the other's and ours, and four zeros */
};

/* Whose tunnel's packets come from there. */
struct sender {
    __u32 slot;
    __u32 flags; /* the tunnel's */
    __u64 association;
};

struct source4 {
    __u8 remote[4], local[4];
    __be16 remote_port, local_port;
};

struct source6 {
    __u8 remote[16], local[16];
    __be16 remote_port, local_port;
};

struct settings {
    __u64 until; /* nobody has looked after us any more since then */
    __u32 device; /* the TUN's index */
    __u32 is_anchor;
    __u32 joiner;      /* the pair that joins TCP packets (linux/joiner.py): its first end; 0 = there is none */
    __u8 joined[6];    /* the other end's hardware address */
    __u8 unused[6];
};

struct woken {
    __u32 slot;
    __u32 inwards;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 16);
    __type(key, struct row_key4);
    __type(value, struct row);
} rows4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 16);
    __type(key, struct row_key6);
    __type(value, struct row);
} rows6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1 << 16);
    __type(key, __u32);
    __type(value, struct counts);
} row_counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 15);
    __type(key, __u32);
    __type(value, struct tunnel);
} tunnels SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1 << 15);
    __type(key, __u32);
    __type(value, struct counts);
} tunnel_counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 15);
    __type(key, struct source4);
    __type(value, struct sender);
} sources4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 15);
    __type(key, struct source6);
    __type(value, struct sender);
} sources6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 2 * REASONS);
    __type(key, __u32);
    __type(value, __u64);
} reasons SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 16);
} wakes SEC(".maps");

#endif
