/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the splice says itself: "wait" (a window of zero) for a client without a leg, and "too big"; and what routers
 * say of translated packets, handed on to whoever has sent them. */
#ifndef SOJOURN_SPLICE_ANSWER_H
#define SOJOURN_SPLICE_ANSWER_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "splice_options.h"

#define AF_INET 2
#define AF_INET6 10
enum { HOP_LIMIT = 64, DONT_FRAGMENT = 0x4000, QUOTED_TCP = 8 };
/* <linux/icmp.h> and <linux/icmpv6.h>, which want a C library. */
enum { UNREACHABLE = 3, FRAGMENTATION_NEEDED = 4, TOO_BIG6 = 2 };

struct icmp {
    __u8 type, code;
    __u16 checksum;
    __be16 unused, mtu; /* ICMPv6: 32 bits of MTU */
};

/* Return the 32-bit form of a one's complement sum, as the checksum helpers want it. */
static __always_inline __u32 narrow(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u16 fold(__u64 sum)
{
    __u32 small = narrow(sum);
    small = (small & 0xffff) + (small >> 16);
    return (small & 0xffff) + (small >> 16);
}

static __always_inline __u64 add_up(const void *words, int size, __u64 sum)
{
    const __u16 *word = words;
#pragma unroll
    for (int i = 0; i < size / 2; i++)
        sum += word[i];
    return sum;
}

/* Say whether the checksum at `field` is for a network card (or the kernel) to complete: then it does not follow a
 * change under it. There is no other way to ask. */
static __always_inline int is_partial(struct __sk_buff *skb, __u32 field)
{
    __u16 before = 0, after = 0;
    bpf_skb_load_bytes(skb, field, &before, 2);
    bpf_l4_csum_replace(skb, field, 0, 1, 0);
    bpf_skb_load_bytes(skb, field, &after, 2);
    return before == after;
}

/* Turn a packet round: it goes back to whoever has sent it, with `size` bytes of IP packet in its place. */
static __always_inline int turn_round(struct __sk_buff *skb, const void *packet, __u32 size)
{
    struct ethhdr came, back;
    if (bpf_skb_load_bytes(skb, 0, &came, sizeof came))
        return TC_ACT_SHOT;
    back.h_proto = came.h_proto;
    __builtin_memcpy(back.h_dest, came.h_source, 6);
    __builtin_memcpy(back.h_source, came.h_dest, 6);
    if (bpf_skb_change_tail(skb, ETH_HLEN + size, 0) || bpf_skb_store_bytes(skb, 0, &back, sizeof back, 0) ||
        bpf_skb_store_bytes(skb, ETH_HLEN, packet, size, 0))
        return TC_ACT_SHOT;
    return bpf_redirect(skb->ifindex, 0);
}

/* TCP behind either IP header. */
struct waiting {
    struct tcphdr tcp;
    __be32 options[3];
};

struct answer4 {
    struct iphdr ip;
    struct waiting waiting;
};

struct answer6 {
    struct ipv6hdr ip;
    struct waiting waiting;
};

/* Fill in an acknowledgement of what the client has, with a window of zero; return its size. `value`: the TSval that
 * is echoed. */
static __always_inline __u32 fill(struct waiting *answer, const struct pair *pair, const int six, int partial,
                                  __u32 value)
{
    const struct half *client = &pair->half[CLIENT];
    __u32 size = client->flags & TIMESTAMPS ? sizeof *answer : sizeof answer->tcp;
    answer->tcp.source = client->from_port, answer->tcp.dest = client->to_port;
    answer->tcp.seq = bpf_htonl((__u32)pair->stream[CLIENT].acked);
    answer->tcp.ack_seq = bpf_htonl((__u32)pair->stream[CORRESPONDENT].acked);
    answer->tcp.ack = 1;
    answer->tcp.doff = size / 4;
    if (size == sizeof *answer)
        answer->options[0] = bpf_htonl(0x0101080a), answer->options[1] = bpf_htonl(client->ts_last),
        answer->options[2] = bpf_htonl(value);
    __u64 sum = bpf_htons(size) + bpf_htons(IPPROTO_TCP);
    sum = add_up(client->from, six ? 16 : 4, add_up(client->to, six ? 16 : 4, sum));
    answer->tcp.check = partial ? fold(sum) : (__u16)~fold(add_up(answer, sizeof *answer, sum));
    return size;
}

__noinline int answer_zero_window(struct __sk_buff *skb, const struct pair *pair, int six, __u32 tcp, __u32 value)
{
    if (!pair)
        return TC_ACT_SHOT;
    const struct half *client = &pair->half[CLIENT];
    int partial = is_partial(skb, tcp + 16);
    if (six) {
        struct answer6 answer = {};
        __u32 size = fill(&answer.waiting, pair, 1, partial, value);
        answer.ip.version = 6, answer.ip.nexthdr = IPPROTO_TCP, answer.ip.hop_limit = HOP_LIMIT;
        answer.ip.payload_len = bpf_htons(size);
        __builtin_memcpy(&answer.ip.saddr, client->from, 16);
        __builtin_memcpy(&answer.ip.daddr, client->to, 16);
        return turn_round(skb, &answer, size == sizeof(struct waiting) ? sizeof answer : sizeof answer - 12);
    }
    struct answer4 answer = {};
    __u32 size = fill(&answer.waiting, pair, 0, partial, value);
    answer.ip.version = 4, answer.ip.ihl = 5, answer.ip.ttl = HOP_LIMIT, answer.ip.protocol = IPPROTO_TCP;
    answer.ip.tot_len = bpf_htons(20 + size), answer.ip.frag_off = bpf_htons(DONT_FRAGMENT);
    __builtin_memcpy(&answer.ip.saddr, client->from, 4);
    __builtin_memcpy(&answer.ip.daddr, client->to, 4);
    answer.ip.check = ~fold(add_up(&answer.ip, sizeof answer.ip, 0));
    return turn_round(skb, &answer, size == sizeof(struct waiting) ? sizeof answer : sizeof answer - 12);
}

struct error4 {
    struct iphdr ip;
    struct icmp icmp;
    __u8 quoted[20 + QUOTED_TCP];
};

struct error6 {
    struct ipv6hdr ip;
    struct icmp icmp;
    __u8 quoted[40 + 20];
};

/* Tell the sender of this packet what is the most that gets through (RFC 1191 §4, RFC 4443 §3.2). */
static __always_inline int answer_too_big4(struct __sk_buff *skb, __u32 most)
{
    struct error4 error = {};
    if (bpf_skb_load_bytes(skb, ETH_HLEN, error.quoted, sizeof error.quoted))
        return TC_ACT_SHOT;
    error.ip.version = 4, error.ip.ihl = 5, error.ip.ttl = HOP_LIMIT, error.ip.protocol = IPPROTO_ICMP;
    error.ip.tot_len = bpf_htons(sizeof error);
    __builtin_memcpy(&error.ip.saddr, error.quoted + 16, 4);
    __builtin_memcpy(&error.ip.daddr, error.quoted + 12, 4);
    error.ip.check = ~fold(add_up(&error.ip, sizeof error.ip, 0));
    error.icmp.type = UNREACHABLE, error.icmp.code = FRAGMENTATION_NEEDED;
    error.icmp.mtu = bpf_htons(most);
    error.icmp.checksum = ~fold(add_up(&error.icmp, sizeof error.icmp + sizeof error.quoted, 0));
    return turn_round(skb, &error, sizeof error);
}

static __always_inline int answer_too_big6(struct __sk_buff *skb, __u32 most)
{
    struct error6 error = {};
    const __u32 size = sizeof error.icmp + sizeof error.quoted;
    if (bpf_skb_load_bytes(skb, ETH_HLEN, error.quoted, sizeof error.quoted))
        return TC_ACT_SHOT;
    error.ip.version = 6, error.ip.nexthdr = IPPROTO_ICMPV6, error.ip.hop_limit = HOP_LIMIT;
    error.ip.payload_len = bpf_htons(size);
    __builtin_memcpy(&error.ip.saddr, error.quoted + 24, 16);
    __builtin_memcpy(&error.ip.daddr, error.quoted + 8, 16);
    error.icmp.type = TOO_BIG6, error.icmp.mtu = bpf_htons(most);
    __u64 pseudo = add_up(&error.ip.saddr, 32, bpf_htons(size) + bpf_htons(IPPROTO_ICMPV6));
    error.icmp.checksum = ~fold(add_up(&error.icmp, size, pseudo));
    return turn_round(skb, &error, sizeof error);
}

__noinline int answer_too_big(struct __sk_buff *skb, int six, __u32 most)
{
    return six ? answer_too_big6(skb, most) : answer_too_big4(skb, most);
}

/* Find whom a router speaks to that quotes a packet of ours with this sequence number, sent to the peer `whose`. RFC
 * 5927 §7: only what is under way can have been too big. */
static __always_inline struct pair *spoken_of(__u32 value, __u32 seq)
{
    __u32 place = place_of(value), whose = value & 1;
    struct pair *pair = bpf_map_lookup_elem(&pairs, &place);
    if (!pair || state_of(pair->word) != SPLICED || !is_of_turn(value, pair->word))
        return 0;
    if (whose == CLIENT)
        seq -= pair->half[CORRESPONDENT].seq_delta;
    const struct stream *stream = &pair->stream[!whose];
    return seq - (__u32)stream->acked <= (__u32)(stream->sent - stream->acked) ? pair : 0;
}

struct quoted4 {
    struct icmp icmp;
    struct iphdr ip;
    __be16 source, dest;
    __be32 seq;
};

static __noinline int hand_on_too_big4(struct __sk_buff *skb)
{
    struct iphdr head;
    struct quoted4 said, now;
    if (bpf_skb_load_bytes(skb, ETH_HLEN, &head, sizeof head) ||
        bpf_skb_load_bytes(skb, ETH_HLEN + sizeof head, &said, sizeof said))
        return TC_ACT_UNSPEC;
    if (said.icmp.type != UNREACHABLE || said.icmp.code != FRAGMENTATION_NEEDED || said.ip.ihl != 5 ||
        said.ip.protocol != IPPROTO_TCP)
        return TC_ACT_UNSPEC;
    struct tuple4 tuple = {.remote_port = said.dest, .local_port = said.source};
    __builtin_memcpy(tuple.remote, &said.ip.daddr, 4);
    __builtin_memcpy(tuple.local, &said.ip.saddr, 4);
    __u32 *value = bpf_map_lookup_elem(&tuples4, &tuple);
    struct pair *pair = value ? spoken_of(*value, bpf_ntohl(said.seq)) : 0;
    if (!pair)
        return TC_ACT_UNSPEC;
    struct half *half = &pair->half[*value & 1];
    now = said;
    __builtin_memcpy(&now.ip.saddr, half->to, 4);
    __builtin_memcpy(&now.ip.daddr, half->from, 4);
    now.ip.check = 0;
    now.ip.check = ~fold(add_up(&now.ip, sizeof now.ip, 0));
    now.source = half->to_port, now.dest = half->from_port;
    now.seq = bpf_htonl(bpf_ntohl(said.seq) - pair->half[!(*value & 1)].seq_delta);
    __u32 change = bpf_csum_diff((__be32 *)&said, sizeof said, (__be32 *)&now, sizeof now, 0);
    now.icmp.checksum = ~fold((__u16)~said.icmp.checksum + (__u64)change);
    __builtin_memcpy(&head.saddr, half->from, 4);
    __builtin_memcpy(&head.daddr, half->to, 4);
    head.check = 0;
    head.check = ~fold(add_up(&head, sizeof head, 0));
    if (bpf_skb_store_bytes(skb, ETH_HLEN, &head, sizeof head, 0) ||
        bpf_skb_store_bytes(skb, ETH_HLEN + sizeof head, &now, sizeof now, 0))
        return TC_ACT_SHOT;
    return count(TRANSLATED, bpf_redirect_neigh(half->interface, 0, 0, 0));
}

struct quoted6 {
    struct icmp icmp;
    struct ipv6hdr ip;
    __be16 source, dest;
    __be32 seq;
};

static __noinline int hand_on_too_big6(struct __sk_buff *skb)
{
    struct ipv6hdr head;
    struct quoted6 said, now;
    if (bpf_skb_load_bytes(skb, ETH_HLEN, &head, sizeof head) ||
        bpf_skb_load_bytes(skb, ETH_HLEN + sizeof head, &said, sizeof said))
        return TC_ACT_UNSPEC;
    if (said.icmp.type != TOO_BIG6 || said.ip.nexthdr != IPPROTO_TCP)
        return TC_ACT_UNSPEC;
    struct tuple6 tuple = {.remote_port = said.dest, .local_port = said.source};
    __builtin_memcpy(tuple.remote, &said.ip.daddr, 16);
    __builtin_memcpy(tuple.local, &said.ip.saddr, 16);
    __u32 *value = bpf_map_lookup_elem(&tuples6, &tuple);
    struct pair *pair = value ? spoken_of(*value, bpf_ntohl(said.seq)) : 0;
    if (!pair)
        return TC_ACT_UNSPEC;
    struct half *half = &pair->half[*value & 1];
    now = said;
    __u32 change = bpf_csum_diff((__be32 *)&head, sizeof head, 0, 0, 0);
    __builtin_memcpy(&now.ip.saddr, half->to, 16);
    __builtin_memcpy(&now.ip.daddr, half->from, 16);
    now.source = half->to_port, now.dest = half->from_port;
    now.seq = bpf_htonl(bpf_ntohl(said.seq) - pair->half[!(*value & 1)].seq_delta);
    __builtin_memcpy(&head.saddr, half->from, 16);
    __builtin_memcpy(&head.daddr, half->to, 16);
    change = bpf_csum_diff(0, 0, (__be32 *)&head, sizeof head, change);
    change = bpf_csum_diff((__be32 *)&said, sizeof said, (__be32 *)&now, sizeof now, change);
    now.icmp.checksum = ~fold((__u16)~said.icmp.checksum + (__u64)change);
    if (bpf_skb_store_bytes(skb, ETH_HLEN, &head, sizeof head, 0) ||
        bpf_skb_store_bytes(skb, ETH_HLEN + sizeof head, &now, sizeof now, 0))
        return TC_ACT_SHOT;
    return count(TRANSLATED, bpf_redirect_neigh(half->interface, 0, 0, 0));
}

#endif
