// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The splice: two TCP connections of the SOCKS proxy become one, from the client to its correspondent.
 *
 * Attached where packets arrive (tc ingress, Ethernet). A packet of a spliced connection is translated (addresses,
 * ports, sequence and acknowledgement numbers, SACK edges, timestamps, window, checksums) and leaves at once: no socket
 * sees it, and every acknowledgement comes from the other end. All else passes untouched.
 */
#include "splice_answer.h"

#define SECOND 1000000000ull
enum { IS_HOST = 0 /* PACKET_HOST */, MORE_OR_OFFSET = 0x3fff };

/* Change 32 bits of a packet, and note what that does to a one's complement sum. */
#define CHANGE(sum, field, value)                                                                                      \
    do {                                                                                                               \
        __u32 *at_ = (__u32 *)(field), new_ = (value);                                                                 \
        (sum) += (__u32)~*at_;                                                                                         \
        (sum) += new_;                                                                                                 \
        *at_ = new_;                                                                                                   \
    } while (0)

/* Translate the fixed part of a TCP header; `seq` is what it shall say. */
static __always_inline __u64 translate_tcp(struct tcphdr *tcp, const struct pair *pair, __u32 whose, __u32 seq)
{
    const struct half *half = &pair->half[whose];
    __u64 sum = 0;
    CHANGE(sum, &tcp->source, (__u32)half->from_port | (__u32)half->to_port << 16);
    CHANGE(sum, &tcp->seq, bpf_htonl(seq + half->seq_delta));
    if (tcp->ack) {
        __u32 ack = bpf_ntohl(tcp->ack_seq);
        /* What an earlier leg has sent may be acknowledged before the present one has sent it again: RFC 9293 §3.10.7.4
         * would have the client drop that segment with all that it carries. */
        __u32 leg_sent = now64(&pair->leg_sent);
        if (whose == CORRESPONDENT && (__s32)(ack - leg_sent) > 0)
            ack = leg_sent;
        CHANGE(sum, &tcp->ack_seq, bpf_htonl(ack + half->ack_delta));
    }
    if (half->in_scale != half->out_scale && !tcp->syn) {
        __u32 window = (__u32)bpf_ntohs(tcp->window) << (half->in_scale & 15) >> (half->out_scale & 15);
        __be16 now = bpf_htons(window > 0xffff ? 0xffff : window);
        sum += (__u16)~tcp->window;
        sum += now;
        tcp->window = now;
    }
    return sum;
}

/* Translate timestamps where they stand as every usual sender puts them: NOP, NOP, TS and nothing else. */
static __always_inline __u64 translate_usual_options(__u32 *words, struct half *half, const struct half *other,
                                                     __u32 turn)
{
    __u64 sum = 0;
    CHANGE(sum, &words[1], bpf_htonl(ts_value(half, turn, bpf_ntohl(words[1]))));
    if (words[2])
        CHANGE(sum, &words[2], bpf_htonl(ts_echo(other, turn, bpf_ntohl(words[2]))));
    return sum;
}

static __always_inline int is_fresh(const struct half *half, __u32 turn, __u64 now)
{
    return half->fresh_turn == turn && now < half->fresh_until;
}

/* Ask the kernel for the way, and keep what it says for a second. */
__noinline int find_way(struct __sk_buff *skb, struct half *half, int six, __u32 turn)
{
    if (!half)
        return 0;
    struct bpf_fib_lookup way = {.family = six ? AF_INET6 : AF_INET, .l4_protocol = IPPROTO_TCP, .tot_len = 1};
    way.ifindex = half->interface, way.sport = half->from_port, way.dport = half->to_port;
    __builtin_memcpy(way.ipv6_src, half->from, 16);
    __builtin_memcpy(way.ipv6_dst, half->to, 16);
    if (bpf_fib_lookup(skb, &way, sizeof way, BPF_FIB_LOOKUP_OUTPUT) || way.ifindex != half->interface)
        return 0;
    __builtin_memcpy(half->dmac, way.dmac, 6);
    __builtin_memcpy(half->smac, way.smac, 6);
    half->path_mtu = way.mtu_result;
    half->fresh_turn = turn;
    half->fresh_until = bpf_ktime_get_coarse_ns() + SECOND;
    return 0;
}

/* Send a copy of a translated packet on; the packet is the sender's again, but for its numbers. */
__noinline int send_copy(struct __sk_buff *skb, const struct half *half)
{
    struct ethhdr before, after;
    if (!half || bpf_skb_load_bytes(skb, 0, &before, sizeof before))
        return -1;
    after = before;
    __builtin_memcpy(after.h_dest, half->dmac, 6);
    __builtin_memcpy(after.h_source, half->smac, 6);
    if (bpf_skb_store_bytes(skb, 0, &after, sizeof after, 0) || bpf_clone_redirect(skb, half->interface, 0) ||
        bpf_skb_store_bytes(skb, 0, &before, sizeof before, 0))
        return -1;
    return 0;
}

/* Send a translated packet on. Once a second the kernel is asked for the way, and looks after its neighbours. */
static __always_inline int leave(struct __sk_buff *skb, struct half *half, int six, __u32 turn, __u64 now)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct ethhdr *ethernet = data;
    if (data + sizeof *ethernet > end)
        return count(LOST, TC_ACT_SHOT);
    if (is_fresh(half, turn, now)) {
        __builtin_memcpy(ethernet->h_dest, half->dmac, 6);
        __builtin_memcpy(ethernet->h_source, half->smac, 6);
        return bpf_redirect(half->interface, 0);
    }
    find_way(skb, half, six, turn);
    return bpf_redirect_neigh(half->interface, 0, 0, 0);
}

static __always_inline int too_big(const struct __sk_buff *skb, const struct half *half, __u32 head, __u32 length)
{
    __u32 most = half->most && (!half->path_mtu || half->most < half->path_mtu) ? half->most : half->path_mtu;
    __u32 size = skb->gso_size ? head + skb->gso_size : length;
    return most && size > most ? most : 0;
}

/* Carry a segment of a spliced connection. `ip`: bytes of IP header; `length`: of the whole IP packet. */
static __always_inline int carry(struct __sk_buff *skb, __u32 value, const int six, __u32 length)
{
    const __u32 ip = six ? 40 : 20, at = ETH_HLEN + ip;
    __u32 place = place_of(value), whose = value & 1;
    struct pair *pair = bpf_map_lookup_elem(&pairs, &place);
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct tcphdr *tcp = data + at;
    if (!pair || (void *)(tcp + 1) > end)
        return TC_ACT_SHOT;
    const __u32 word = now32(&pair->word), header = tcp->doff * 4, turn = turn_of(word);
    if (!is_of_turn(value, word))
        return count(STRAY, TC_ACT_SHOT);
    if (header < 20 || ip + header > length)
        return count(MALFORMED, TC_ACT_SHOT);
    struct segment segment = {
        .seq = bpf_ntohl(tcp->seq), .ack = bpf_ntohl(tcp->ack_seq), .window = bpf_ntohs(tcp->window),
        .payload = length - ip - header, .header = header, .flags = ((__u8 *)tcp)[13],
    };
    struct half *half = &pair->half[whose], *other = &pair->half[!whose];
    __u64 now = bpf_ktime_get_coarse_ns(), sum = 0;
    if (state_of(word) >= SPLICED) {
        __u32 most = too_big(skb, half, ip + header, length);
        if (most && state_of(word) == SPLICED)
            return count(TOO_BIG, answer_too_big(skb, six, most));
        half->heard = now;
    }
    __u32 options = header - 20, *words = (void *)(tcp + 1), value_came = 0;
    int usual = options == 12 && half->flags & TIMESTAMPS && (void *)(words + 3) <= end &&
                words[0] == bpf_htonl(0x0101080a);
    if (usual)
        value_came = bpf_ntohl(words[1]);
    enum verdict verdict = judge(pair, word, place, whose, &segment);
    if (verdict == UP)
        return TC_ACT_UNSPEC;
    if (verdict == DROP)
        return count(state_of(word) == HOLD ? HELD : STRAY, TC_ACT_SHOT);
    if (verdict == ANSWER)
        return count(ZERO_WINDOW, answer_zero_window(skb, pair, six, at, value_came));
    if (options && !usual) {
        __s64 changed = translate_options(skb, at, options, pair, (__u64)turn << 1 | whose);
        if (changed < 0)
            return count(MALFORMED, TC_ACT_SHOT);
        sum += changed;
        data = (void *)(long)skb->data, end = (void *)(long)skb->data_end, tcp = data + at;
        if ((void *)(tcp + 1) > end)
            return TC_ACT_SHOT;
    } else if (usual) {
        sum += translate_usual_options(words, half, other, turn);
    }
    sum += translate_tcp(tcp, pair, whose, seq_within(pair, whose, &segment));
    __u64 addresses = 0;
    if (six) {
        struct ipv6hdr *head = data + ETH_HLEN;
        if (head->hop_limit <= 1)
            return count(MALFORMED, TC_ACT_SHOT);
        head->hop_limit--;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            CHANGE(addresses, &head->saddr.in6_u.u6_addr32[i], ((__u32 *)half->from)[i]);
            CHANGE(addresses, &head->daddr.in6_u.u6_addr32[i], ((__u32 *)half->to)[i]);
        }
    } else {
        struct iphdr *head = data + ETH_HLEN;
        if (head->ttl <= 1)
            return count(MALFORMED, TC_ACT_SHOT);
        CHANGE(addresses, &head->saddr, *(__u32 *)half->from);
        CHANGE(addresses, &head->daddr, *(__u32 *)half->to);
        __u16 before = *(__u16 *)&head->ttl;
        head->ttl--;
        head->check = ~fold((__u16)~head->check + addresses + (__u16)~before + *(__u16 *)&head->ttl);
    }
    if (bpf_l4_csum_replace(skb, at + 16, 0, narrow(addresses), BPF_F_PSEUDO_HDR) ||
        bpf_l4_csum_replace(skb, at + 16, 0, narrow(sum), 0))
        return count(LOST, TC_ACT_SHOT);
    if (now32(&pair->word) != word) /* another leg meanwhile: the numbers above may be both legs' */
        return count(STRAY, TC_ACT_SHOT);
    count(FORWARDED, 0);
    if (verdict == FORWARD_AND_ANSWER && is_fresh(half, turn, now)) {
        if (send_copy(skb, half))
            return TC_ACT_SHOT;
        return count(ZERO_WINDOW, answer_zero_window(skb, pair, six, at, value_came));
    }
    return leave(skb, half, six, turn, now);
}

static __noinline int arrive4(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct iphdr *head = data + ETH_HLEN;
    if ((void *)(head + 1) > end || head->ihl != 5 || head->frag_off & bpf_htons(MORE_OR_OFFSET))
        return TC_ACT_UNSPEC;
    if (head->protocol == IPPROTO_ICMP)
        return hand_on_too_big4(skb);
    struct tcphdr *tcp = (void *)(head + 1);
    if (head->protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
        return TC_ACT_UNSPEC;
    struct tuple4 tuple = {.remote_port = tcp->source, .local_port = tcp->dest};
    __builtin_memcpy(tuple.remote, &head->saddr, 4);
    __builtin_memcpy(tuple.local, &head->daddr, 4);
    __u32 *value = bpf_map_lookup_elem(&tuples4, &tuple);
    __u32 length = bpf_ntohs(head->tot_len);
    if (!value || ETH_HLEN + length > skb->len)
        return TC_ACT_UNSPEC;
    return carry(skb, *value, 0, length);
}

static __noinline int arrive6(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct ipv6hdr *head = data + ETH_HLEN;
    if ((void *)(head + 1) > end)
        return TC_ACT_UNSPEC;
    if (head->nexthdr == IPPROTO_ICMPV6)
        return hand_on_too_big6(skb);
    struct tcphdr *tcp = (void *)(head + 1);
    if (head->nexthdr != IPPROTO_TCP || (void *)(tcp + 1) > end)
        return TC_ACT_UNSPEC;
    struct tuple6 tuple = {.remote_port = tcp->source, .local_port = tcp->dest};
    __builtin_memcpy(tuple.remote, &head->saddr, 16);
    __builtin_memcpy(tuple.local, &head->daddr, 16);
    __u32 *value = bpf_map_lookup_elem(&tuples6, &tuple);
    __u32 length = 40 + bpf_ntohs(head->payload_len);
    if (!value || ETH_HLEN + length > skb->len)
        return TC_ACT_UNSPEC;
    return carry(skb, *value, 1, length);
}

SEC("tc")
int splice(struct __sk_buff *skb)
{
    int four = skb->protocol == bpf_htons(ETH_P_IP);
    if ((!four && skb->protocol != bpf_htons(ETH_P_IPV6)) || skb->pkt_type != IS_HOST || skb->vlan_present)
        return TC_ACT_UNSPEC;
    /* Headers have to lie in one piece; what is shorter than this is padded, or not ours. */
    __u32 wanted = ETH_HLEN + (four ? 20 : 40) + 32;
    if ((long)skb->data + wanted > (long)skb->data_end)
        bpf_skb_pull_data(skb, wanted < skb->len ? wanted : skb->len);
    return four ? arrive4(skb) : arrive6(skb);
}

/* bpf_ringbuf_output and bpf_fib_lookup are for programs that may be used under the GPL. */
char _license[] SEC("license") = "Dual MIT/GPL";
