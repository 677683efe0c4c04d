/* What is in a packet: the protocol's numbers, ours, headers, flow keys and checksums (packet.c). No state. */
#ifndef SOJOURN_PACKET_H
#define SOJOURN_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The protocol's (docs/wire.md); packet/seal.py has the same. */
enum {
    HEADER_BYTES = 8,
    TAG_BYTES = 16,
    OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES,
    KEY_BYTES = 32,
    IV_BYTES = 12,
    REPLAY_WINDOW = 8192,
    PACKETS_PER_EPOCH = 1 << 23,
    SEALED = 0x80,
    KIND_MASK = 0xE0,
    CONTINUES = 0x10,
    PARTIAL = 0x08,
};

/* Ours. */
enum {
    STEP_MARGIN = 1 << 16, /* packets before the end of an epoch at which Python is asked for the next one */
    VNET_BYTES = 10,       /* struct virtio_net_hdr */
    MAX_PACKET = 65535,
    MAX_MESSAGE = 65535 - 48, /* linux/udp.py: one super-packet, with IPv6 headers too */
    MAX_SEGMENTS = 64,        /* UDP_MAX_SEGMENTS before Linux 6.9 */
    MAX_CUT = 1024,           /* segments of one super-packet; engine_send.py */
    MAX_HEAD = 40 + 60,
    FLOW_KEY_MOST = 37,
    MAX_SOCKETS = 256,
    MAX_WORKERS = 4, /* of each direction */
    MAX_THREADS = 1 + 2 * MAX_WORKERS, /* Python's is number 0 */
    ANSWERING = 1 + MAX_WORKERS,       /* of send keys: whoever delivers; receivers have no other use for them */
    RECEIVE_KEYS = 12,
    VIA_BYTES = 20,
    INPUT_BYTES = VNET_BYTES + 65536,
};

#define NO_TUNNEL (-1)

enum { TCP = 6, UDP = 17 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, CWR = 0x80 };
enum { NEEDS_CHECKSUM = 1, NO_GSO = 0, GSO_TCP4 = 1, GSO_TCP6 = 4, GSO_UDP = 5 };

struct flow_key {
    uint8_t size; /* 13 or 37; 0 = none */
    uint8_t bytes[FLOW_KEY_MOST];
};

/* An ordinary packet: TCP or UDP right after an IP header without options, whole, no fragment. */
struct view {
    uint8_t at;       /* bytes of IP header */
    uint8_t protocol; /* TCP or UDP */
    uint8_t flags;    /* TCP's */
    uint8_t ecn;
    uint16_t head; /* bytes of IP and transport header */
    bool dont_fragment;
    struct flow_key key;
};

struct vnet {
    uint8_t flags, gso_type;
    uint16_t header_bytes, segment_bytes, checksum_start, checksum_offset;
};

static inline uint16_t read16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t read32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void write16(uint8_t *p, uint32_t value) { p[0] = (uint8_t)(value >> 8), p[1] = (uint8_t)value; }
static inline void write32(uint8_t *p, uint32_t value) { write16(p, value >> 16), write16(p + 2, value); }
static inline unsigned checksum_offset(uint8_t protocol) { return protocol == TCP ? 16 : 6; }

bool look(const uint8_t *packet, size_t size, bool inbound, struct view *view);
uint32_t sum(const uint8_t *data, size_t size, uint32_t initial);
uint16_t pseudo(const uint8_t *packet, const struct view *view, size_t size);
void set_length(uint8_t *header, const struct view *view, size_t size);
bool checksum_holds(const uint8_t *packet, const struct view *view, size_t size);
bool clamp_mss(uint8_t *packet, const struct view *view, uint16_t mss, bool open);

#endif
