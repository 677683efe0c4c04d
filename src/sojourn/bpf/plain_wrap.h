/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Putting an inner packet behind the headers of its tunnel. */
#ifndef SOJOURN_PLAIN_WRAP_H
#define SOJOURN_PLAIN_WRAP_H

#include <linux/if_ether.h>
#include <linux/udp.h>

#include "plain.h"
#include "plain_view.h"

#define HOP_LIMIT 64 /* RFC 1700's, and net.ipv4.ip_default_ttl */

static __always_inline __u16 checksum(const __u16 *words, int count)
{
    __u32 sum = 0;
#pragma unroll
    for (int i = 0; i < count; i++)
        sum += words[i];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

struct outer4 {
    struct iphdr ip;
    struct udphdr udp;
};

struct outer6 {
    struct ipv6hdr ip;
    struct udphdr udp;
};

/* What a packet of a tunnel begins with. */
struct front4 {
    struct ethhdr link;
    struct outer4 outer;
} __attribute__((packed));

struct front6 {
    struct ethhdr link;
    struct outer6 outer;
} __attribute__((packed));

/* Make room for the outer headers behind a link-layer header, which a TUN's packets get now, because to be redirected
 * they need one. -1: nothing has been changed. */
static __always_inline int make_room(struct __sk_buff *skb, __u32 at, __u32 size, __u64 flags)
{
    if (bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC,
                            BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | flags))
        return -1;
    return !at && bpf_skb_change_head(skb, ETH_HLEN, 0);
}

static __always_inline int wrap4(struct __sk_buff *skb, __u32 at, const struct tunnel *tunnel, const struct view *view)
{
    struct front4 front = {.link.h_proto = bpf_htons(ETH_P_IP)};
    struct outer4 outer = {};
    __builtin_memcpy(&front.link, tunnel->way, 2 * ETH_ALEN);
    outer.ip.version = 4, outer.ip.ihl = 5, outer.ip.ttl = HOP_LIMIT, outer.ip.protocol = IPPROTO_UDP;
    outer.ip.tos = view->ecn; /* RFC 6040 §4.1, normal mode */
    outer.ip.tot_len = bpf_htons(view->total + sizeof outer);
    if (tunnel->flags & MAY_FRAGMENT)
        outer.ip.id = bpf_get_prandom_u32();
    else
        outer.ip.frag_off = bpf_htons(DONT_FRAGMENT);
    __builtin_memcpy(&outer.ip.saddr, tunnel->local, 4);
    __builtin_memcpy(&outer.ip.daddr, tunnel->remote, 4);
    outer.ip.check = checksum((__u16 *)&outer.ip, sizeof outer.ip / 2);
    outer.udp.source = tunnel->local_port, outer.udp.dest = tunnel->remote_port;
    outer.udp.len = bpf_htons(view->total + sizeof outer.udp);
    front.outer = outer;
    int failed = make_room(skb, at, sizeof outer, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);
    return failed ? failed : bpf_skb_store_bytes(skb, 0, &front, sizeof front, 0) != 0;
}

static __always_inline int wrap6(struct __sk_buff *skb, __u32 at, const struct tunnel *tunnel, const struct view *view)
{
    struct front6 front = {.link.h_proto = bpf_htons(ETH_P_IPV6)};
    struct outer6 outer = {};
    __builtin_memcpy(&front.link, tunnel->way, 2 * ETH_ALEN);
    outer.ip.version = 6, outer.ip.hop_limit = HOP_LIMIT, outer.ip.nexthdr = IPPROTO_UDP;
    outer.ip.flow_lbl[0] = view->ecn << 4;
    outer.ip.payload_len = bpf_htons(view->total + sizeof outer.udp);
    __builtin_memcpy(&outer.ip.saddr, tunnel->local, 16);
    __builtin_memcpy(&outer.ip.daddr, tunnel->remote, 16);
    outer.udp.source = tunnel->local_port, outer.udp.dest = tunnel->remote_port;
    outer.udp.len = outer.ip.payload_len;
    front.outer = outer;
    int failed = make_room(skb, at, sizeof outer, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
    return failed ? failed : bpf_skb_store_bytes(skb, 0, &front, sizeof front, 0) != 0;
}

#endif
