/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Reading an inner packet, as packet/ip.py does it: only what is ordinary, and nothing is changed. */
#ifndef SOJOURN_PLAIN_VIEW_H
#define SOJOURN_PLAIN_VIEW_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "plain.h"

enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO = 8, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129 };
enum { FIN = 1, SYN = 2, RST = 4 };
enum { MORE_OR_OFFSET = 0x3fff, DONT_FRAGMENT = 0x4000 };

/* What the headers of an inner packet say. */
struct view {
    struct row_key6 key; /* or the first bytes of it */
    __u32 head;      /* bytes of IP header */
    __u32 transport; /* of the one after it */
    __u32 total;
    __u8 version, protocol, ecn;
};

/* Read ports, or an echo's identifier: what the key ends with, as the mobile host sees it. */
static __always_inline enum reason read_transport(struct __sk_buff *skb, __u32 at, int to_host, struct view *view,
                                                  __u8 *ports)
{
    __u8 bytes[14];
    if (view->protocol == IPPROTO_TCP) {
        if (view->total < view->head + 20 || bpf_skb_load_bytes(skb, at, bytes, 14))
            return NOT_A_PACKET;
        if (bytes[13] & (FIN | SYN | RST))
            return UNUSUAL;
        view->transport = (bytes[12] >> 4) * 4;
        if (view->transport < 20 || view->head + view->transport > view->total)
            return NOT_A_PACKET;
    } else if (view->protocol == IPPROTO_UDP) {
        if (view->total < view->head + 8 || bpf_skb_load_bytes(skb, at, bytes, 8))
            return NOT_A_PACKET;
        view->transport = 8;
    } else if (view->protocol == (view->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
        if (view->total < view->head + 8 || bpf_skb_load_bytes(skb, at, bytes, 8))
            return NOT_A_PACKET;
        __u8 kind = bytes[0];
        if (view->version == 4 ? kind != ICMP_ECHO && kind != ICMP_ECHO_REPLY
                               : kind != ICMP6_ECHO && kind != ICMP6_ECHO_REPLY)
            return UNUSUAL;
        view->transport = 8;
        ports[0] = bytes[4], ports[1] = bytes[5], ports[2] = 0, ports[3] = 0;
        return OK;
    } else {
        return UNUSUAL;
    }
    ports[0] = bytes[to_host ? 2 : 0], ports[1] = bytes[to_host ? 3 : 1];
    ports[2] = bytes[to_host ? 0 : 2], ports[3] = bytes[to_host ? 1 : 3];
    return OK;
}

static __always_inline enum reason read4(struct __sk_buff *skb, __u32 at, int to_host, struct view *view,
                                         struct iphdr ip)
{
    view->version = 4, view->protocol = ip.protocol, view->ecn = ip.tos & 3;
    view->head = ip.ihl * 4, view->total = bpf_ntohs(ip.tot_len);
    if (view->head < sizeof ip || view->total < view->head)
        return NOT_A_PACKET;
    if (ip.frag_off & bpf_htons(MORE_OR_OFFSET))
        return UNUSUAL;
    view->key.bytes[0] = ip.protocol;
    __builtin_memcpy(view->key.bytes + 1, to_host ? &ip.daddr : &ip.saddr, 4);
    __builtin_memcpy(view->key.bytes + 5, to_host ? &ip.saddr : &ip.daddr, 4);
    return read_transport(skb, at + view->head, to_host, view, view->key.bytes + 9);
}

static __always_inline enum reason read6(struct __sk_buff *skb, __u32 at, int to_host, struct view *view)
{
    struct ipv6hdr ip;
    if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip))
        return NOT_A_PACKET;
    view->version = 6, view->protocol = ip.nexthdr, view->ecn = ip.flow_lbl[0] >> 4 & 3;
    view->head = sizeof ip, view->total = sizeof ip + bpf_ntohs(ip.payload_len);
    view->key.bytes[0] = ip.nexthdr;
    __builtin_memcpy(view->key.bytes + 1, to_host ? &ip.daddr : &ip.saddr, 16);
    __builtin_memcpy(view->key.bytes + 17, to_host ? &ip.saddr : &ip.daddr, 16);
    return read_transport(skb, at + view->head, to_host, view, view->key.bytes + 33);
}

/* Look at the inner packet at `at`, which ends with the buffer or earlier. */
static __always_inline enum reason look(struct __sk_buff *skb, __u32 at, int to_host, struct view *view)
{
    struct iphdr ip;
    __builtin_memset(view, 0, sizeof *view);
    if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip))
        return NOT_A_PACKET;
    if (ip.version == 4)
        return read4(skb, at, to_host, view, ip);
    if (ip.version == 6)
        return read6(skb, at, to_host, view);
    return NOT_A_PACKET;
}

static __always_inline struct row *row_of(const struct view *view)
{
    return view->version == 4 ? bpf_map_lookup_elem(&rows4, &view->key) : bpf_map_lookup_elem(&rows6, &view->key);
}

#endif
