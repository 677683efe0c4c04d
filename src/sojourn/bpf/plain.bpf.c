/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The kernel path: plain tunnels (IP in UDP, 28 or 48 bytes) without a copy to userspace.
 *
 *   leave     egress of the capturing device: a packet whose flow has a row is put into its tunnel and sent on
 *   arrive    ingress of a network's interface: a tunnel's packet is taken out and given to that device
 *   depart    egress of a network's interface: once a second it notes by which hardware addresses a tunnel's packets go
 *   joined    ingress of the second of two veths, by which single TCP packets take the way there, so that the
 *             kernel joins them (linux/joiner.py)
 *
 * Python (datapath/kernel.py) decides and these programs carry out: all that one row and one tunnel do not answer goes
 * on as if they were not there, to the engine: new flows, TCP packets with SYN, FIN or RST, fragments, what is too
 * large, control frames, signals, ICMP but echo, options and extension headers. Nothing here makes or moves a row, so
 * learning is where signalling is. A packet is changed only when all of it has been looked at.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC_COARSE: reading a finer clock twice takes 3 % of what a small packet
 * costs. IPv4 flows have a table with keys of their own length for that reason. */
#include <stddef.h>

#include <linux/pkt_cls.h>

#include "plain.h"
#include "plain_view.h"
#include "plain_wrap.h"

#define MAX_IP 65535

enum { NOT_ECT = 0, ECT1 = 1, CE = 3 };

static __always_inline int pass(enum reason why, int inwards)
{
    __u32 at = why * 2 + inwards;
    __u64 *count = bpf_map_lookup_elem(&reasons, &at);
    if (count)
        __sync_fetch_and_add(count, 1);
    return TC_ACT_UNSPEC;
}

static __always_inline int lose(enum reason why, int inwards)
{
    pass(why, inwards);
    return TC_ACT_SHOT;
}

/* Return how many packets a super-packet is, and how many bytes they have together, as the engine counts them. */
static __always_inline __u32 packets_of(struct __sk_buff *skb, const struct view *view, __u64 *bytes)
{
    __u32 head = view->head + view->transport, size = skb->gso_size, count = 1;
    if (size && view->total > head)
        count = (view->total - head + size - 1) / size;
    *bytes = view->total + (__u64)(count - 1) * head;
    return count;
}

static __always_inline void note(struct counts *counts, int inwards, __u32 packets, __u64 bytes, __u64 now)
{
    __sync_fetch_and_add(inwards ? &counts->packets_in : &counts->packets_out, packets);
    __sync_fetch_and_add(inwards ? &counts->bytes_in : &counts->bytes_out, bytes);
    if (inwards)
        counts->in_at = now;
    else
        counts->out_at = now;
}

/* Count a packet that has taken this path, and wake Python when it begins to be used. */
static __always_inline void account(const struct row *row, __u32 slot, int inwards, __u32 packets, __u64 bytes,
                                    __u64 now)
{
    __u32 place = row->place;
    struct counts *counts = bpf_map_lookup_elem(&row_counts, &place);
    if (counts)
        note(counts, inwards, packets, bytes, now);
    counts = bpf_map_lookup_elem(&tunnel_counts, &slot);
    if (!counts)
        return;
    __u64 before = inwards ? counts->in_at : counts->out_at;
    note(counts, inwards, packets, bytes, now);
    if (now - before > NANOSECONDS_OF_IDLENESS) {
        struct woken woken = {.slot = slot, .inwards = inwards};
        bpf_ringbuf_output(&wakes, &woken, sizeof woken, 0);
    }
}

static __always_inline struct settings *attended(__u64 now)
{
    __u32 only = 0;
    struct settings *found = bpf_map_lookup_elem(&settings, &only);
    return found && now < found->until ? found : 0;
}

/* Say why a packet of `view` cannot go into the tunnel as it is. */
static __always_inline enum reason fits(struct __sk_buff *skb, const struct tunnel *tunnel, const struct view *view)
{
    __u32 outer = tunnel->family == 4 ? sizeof(struct outer4) : sizeof(struct outer6), device_mtu = 0;
    __u32 largest = skb->gso_size ? view->head + view->transport + skb->gso_size : view->total;
    if (largest > tunnel->inner_mtu || view->total + outer > MAX_IP)
        return TOO_LARGE;
    if (bpf_check_mtu(skb, tunnel->interface, &device_mtu, 0, 0) < 0)
        return UNUSABLE;
    return largest + outer > device_mtu ? TOO_LARGE : OK;
}

/* Say whether packets may go without UDP checksum: over IPv6 both ends have to be for it (RFC 6936 §5). A host that is
 * sends its probes so, too, and is told by their answers; an anchor believes a host that has done so. */
static __always_inline int may_leave(const struct tunnel *tunnel, __u32 slot, int is_anchor)
{
    if (!(tunnel->flags & USABLE))
        return 0;
    if (tunnel->family == 4)
        return 1;
    struct counts *counts = bpf_map_lookup_elem(&tunnel_counts, &slot);
    return tunnel->flags & ZERO_CHECKSUM6 && counts && (!is_anchor || counts->zero_seen);
}

static __always_inline int leave(struct __sk_buff *skb, __u32 at)
{
    __u64 now = bpf_ktime_get_coarse_ns(), bytes;
    struct settings *ours = attended(now);
    if (!ours)
        return TC_ACT_UNSPEC;
    struct view view;
    enum reason why = look(skb, at, ours->is_anchor, &view);
    if (why)
        return pass(why, 0);
    if (at + view.total != skb->len)
        return pass(NOT_A_PACKET, 0);
    struct row *row = row_of(&view);
    if (!row)
        return pass(NO_ROW, 0);
    __u32 slot = row->slot;
    struct tunnel *tunnel = bpf_map_lookup_elem(&tunnels, &slot);
    if (!tunnel || !may_leave(tunnel, slot, ours->is_anchor))
        return pass(UNUSABLE, 0);
    why = fits(skb, tunnel, &view);
    if (why)
        return pass(why, 0);
    __u32 packets = packets_of(skb, &view, &bytes);
    int knows_way = now < tunnel->way_until;
    int failed = tunnel->family == 4 ? wrap4(skb, at, tunnel, &view) : wrap6(skb, at, tunnel, &view);
    if (failed)
        return failed < 0 ? pass(REFUSED_BY_KERNEL, 0) : lose(LOST, 0);
    account(row, slot, 0, packets, bytes, now);
    skb->mark = 0; /* of the inner packet's own route */
    if (knows_way)
        return bpf_redirect(tunnel->interface, 0);
    /* So the kernel looks for the route, and after its neighbours. With an explicit next hop a packet that waits for
     * its neighbour would leave with a wrong address. */
    skb->tc_index = WAY_WANTED | slot;
    return bpf_redirect_neigh(tunnel->interface, 0, 0, 0);
}

static __always_inline int is_same(const __u8 *one, const __u8 *other)
{
    __u32 different = 0;
#pragma unroll
    for (int i = 0; i < 16; i++)
        different |= one[i] ^ other[i];
    return !different;
}

SEC("tc")
int leave_bare(struct __sk_buff *skb)
{
    return leave(skb, 0);
}

/* Capture devices with a link-layer header, such as ifb. */
SEC("tc")
int leave_ethernet(struct __sk_buff *skb)
{
    return leave(skb, ETH_HLEN);
}

/* Note the hardware addresses of a packet that has waited for them, if it had to. For a second the tunnel's others take
 * the same: what a route and a neighbour cost is a tenth of a small packet. bpf_fib_lookup answers only those who
 * forward, which a mobile host doesn't. */
SEC("tc")
int depart_ethernet(struct __sk_buff *skb)
{
    __u32 slot = skb->tc_index;
    if (!(slot & WAY_WANTED))
        return TC_ACT_UNSPEC;
    slot &= ~WAY_WANTED;
    __u64 way[2] = {};
    struct tunnel *tunnel = bpf_map_lookup_elem(&tunnels, &slot);
    if (!tunnel || skb->ifindex != tunnel->interface || bpf_skb_load_bytes(skb, 0, way, 2 * ETH_ALEN))
        return TC_ACT_UNSPEC;
    __u8 remote[16] = {};
    int six = tunnel->family == 6;
    if (six ? bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, daddr), remote, 16)
            : bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, daddr), remote, 4))
        return TC_ACT_UNSPEC;
    if (!is_same(remote, tunnel->remote)) /* it has moved meanwhile */
        return TC_ACT_UNSPEC;
    skb->tc_index = 0;
    tunnel->way[0] = way[0], tunnel->way[1] = way[1]; /* the other's address in one piece */
    tunnel->way_until = bpf_ktime_get_coarse_ns() + NANOSECONDS_OF_WAY;
    return TC_ACT_UNSPEC;
}

/* Where the inner packet is, and how the outer one came. */
struct arrival {
    struct sender *sender; /* whose tunnel's it is, or none's */
    __u32 family;
    __u32 inner;
    __u32 bytes;
    __u8 ecn;
    __u8 has_checksum;
};

static __always_inline int read_outer4(struct __sk_buff *skb, __u32 at, struct arrival *arrival)
{
    struct outer4 outer;
    if (bpf_skb_load_bytes(skb, at, &outer, sizeof outer) || outer.ip.ihl != 5 || outer.ip.protocol != IPPROTO_UDP)
        return -1;
    if (outer.ip.frag_off & bpf_htons(MORE_OR_OFFSET) ||
        bpf_ntohs(outer.ip.tot_len) != bpf_ntohs(outer.udp.len) + sizeof outer.ip)
        return -1;
    struct source4 source = {.remote_port = outer.udp.source, .local_port = outer.udp.dest};
    __builtin_memcpy(source.remote, &outer.ip.saddr, 4);
    __builtin_memcpy(source.local, &outer.ip.daddr, 4);
    arrival->sender = bpf_map_lookup_elem(&sources4, &source), arrival->family = 4;
    arrival->inner = at + sizeof outer, arrival->bytes = bpf_ntohs(outer.udp.len) - sizeof outer.udp;
    arrival->ecn = outer.ip.tos & 3, arrival->has_checksum = 1;
    return 0;
}

static __always_inline int read_outer6(struct __sk_buff *skb, __u32 at, struct arrival *arrival)
{
    struct outer6 outer;
    if (bpf_skb_load_bytes(skb, at, &outer, sizeof outer) || outer.ip.nexthdr != IPPROTO_UDP ||
        outer.ip.payload_len != outer.udp.len)
        return -1;
    struct source6 source = {.remote_port = outer.udp.source, .local_port = outer.udp.dest};
    __builtin_memcpy(source.remote, &outer.ip.saddr, 16);
    __builtin_memcpy(source.local, &outer.ip.daddr, 16);
    arrival->sender = bpf_map_lookup_elem(&sources6, &source), arrival->family = 6;
    arrival->inner = at + sizeof outer, arrival->bytes = bpf_ntohs(outer.udp.len) - sizeof outer.udp;
    arrival->ecn = outer.ip.flow_lbl[0] >> 4 & 3, arrival->has_checksum = outer.udp.check != 0;
    return 0;
}

/* Write the ECN field of the packet at `at`: RFC 6040 §4.2, figure 4, but for what is dropped. */
static __always_inline int mark_congestion(struct __sk_buff *skb, __u32 at, const struct view *view, __u8 ecn)
{
    __u8 bytes[2];
    if (bpf_skb_load_bytes(skb, at, bytes, 2))
        return -1;
    if (view->version == 6) {
        bytes[1] = (bytes[1] & 0xcf) | ecn << 4;
        return bpf_skb_store_bytes(skb, at + 1, bytes + 1, 1, BPF_F_RECOMPUTE_CSUM);
    }
    __be16 from = bpf_htons(bytes[0] << 8 | bytes[1]);
    bytes[1] = (bytes[1] & 0xfc) | ecn;
    __be16 to = bpf_htons(bytes[0] << 8 | bytes[1]);
    return bpf_l3_csum_replace(skb, at + 10, from, to, 2) ||
           bpf_skb_store_bytes(skb, at + 1, bytes + 1, 1, BPF_F_RECOMPUTE_CSUM);
}

/* Take the outer headers off. -1: nothing has been changed; -2: what is left is no packet. */
static __always_inline int unwrap(struct __sk_buff *skb, const struct arrival *arrival, __u8 version)
{
    int size = version == 4 ? sizeof(struct outer4) : sizeof(struct outer6);
    /* Of the other family: its outer header first gets the size of one of the inner family, whatever is in it.
     * BPF_F_ADJ_ROOM_DECAP_L3_IPV4 and _IPV6 would do it in one go, from Linux 6.3 on. */
    if (arrival->family != version && bpf_skb_change_proto(skb, bpf_htons(version == 4 ? ETH_P_IP : ETH_P_IPV6), 0))
        return -1;
    if (bpf_skb_adjust_room(skb, -size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET))
        return arrival->family == version ? -1 : -2;
    /* What a network card has verified was the outermost checksum. */
    bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
    return 0;
}

/* Send an unwrapped packet through the pair of interfaces that joins what belongs together. All of TCP with data goes
 * there but what is joined already, so that a flow's data keep their order. What only acknowledges is never joined, and
 * does no harm when it comes early. */
static __always_inline int join(struct __sk_buff *skb, __u32 at, __u8 version, const struct settings *ours)
{
    struct ethhdr header = {.h_proto = bpf_htons(version == 4 ? ETH_P_IP : ETH_P_IPV6)};
    __builtin_memcpy(header.h_dest, ours->joined, ETH_ALEN);
    if ((!at && bpf_skb_change_head(skb, ETH_HLEN, 0)) || bpf_skb_store_bytes(skb, 0, &header, sizeof header, 0))
        return lose(LOST, 1);
    return bpf_redirect(ours->joiner, 0);
}

static __always_inline int arrive(struct __sk_buff *skb, __u32 at)
{
    struct arrival arrival = {};
    int no;
    if (skb->protocol == bpf_htons(ETH_P_IP))
        no = read_outer4(skb, at, &arrival);
    else if (skb->protocol == bpf_htons(ETH_P_IPV6))
        no = read_outer6(skb, at, &arrival);
    else
        return TC_ACT_UNSPEC;
    if (no || !arrival.sender)
        return TC_ACT_UNSPEC;
    __u64 now = bpf_ktime_get_coarse_ns(), bytes;
    struct settings *ours = attended(now);
    const struct sender *sender = arrival.sender;
    __u32 slot = sender->slot;
    if (!ours)
        return TC_ACT_UNSPEC;
    if (!arrival.has_checksum) {
        if (!(sender->flags & ZERO_CHECKSUM6))
            return TC_ACT_UNSPEC; /* the kernel drops it (RFC 8200 §8.1) */
        struct counts *counts = bpf_map_lookup_elem(&tunnel_counts, &slot);
        if (counts)
            counts->zero_seen = 1;
    }
    struct view view;
    enum reason why = look(skb, arrival.inner, !ours->is_anchor, &view);
    if (why)
        return pass(why, 1);
    if (view.total != arrival.bytes)
        return pass(NOT_A_PACKET, 1);
    if (skb->gso_size && view.protocol != IPPROTO_TCP)
        return pass(SEGMENTS, 1); /* once unwrapped, the kernel would cut it as the tunnel's (reference: pitfall 3) */
    struct row *row = row_of(&view);
    if (!row || row->association != sender->association)
        return pass(NO_ROW, 1);
    __u32 packets = packets_of(skb, &view, &bytes);
    __u8 version = view.version, ecn = arrival.ecn;
    if (ecn == CE && view.ecn == NOT_ECT) {
        account(row, slot, 1, packets, bytes, now);
        return lose(CONGESTION, 1);
    }
    no = unwrap(skb, &arrival, version);
    if (no)
        return no == -1 ? pass(REFUSED_BY_KERNEL, 1) : lose(LOST, 1);
    account(row, slot, 1, packets, bytes, now);
    if ((ecn == CE || ecn == ECT1) && view.ecn != NOT_ECT && view.ecn != CE && view.ecn != ecn &&
        mark_congestion(skb, at, &view, ecn))
        return lose(LOST, 1);
    if (ours->joiner && view.protocol == IPPROTO_TCP && !skb->gso_size && view.total > view.head + view.transport)
        return join(skb, at, version, ours);
    return bpf_redirect(ours->device, BPF_F_INGRESS);
}

SEC("tc")
int arrive_ethernet(struct __sk_buff *skb)
{
    return arrive(skb, ETH_HLEN);
}

/* Interfaces without link-layer header: PPP, mobile broadband. */
SEC("tc")
int arrive_bare(struct __sk_buff *skb)
{
    return arrive(skb, 0);
}

SEC("tc")
int joined_ethernet(struct __sk_buff *skb)
{
    __u32 only = 0;
    struct settings *ours = bpf_map_lookup_elem(&settings, &only);
    return ours ? bpf_redirect(ours->device, BPF_F_INGRESS) : TC_ACT_SHOT;
}

/* bpf_check_mtu is for programs that may be used under the GPL. */
char _license[] SEC("license") = "Dual MIT/GPL";
