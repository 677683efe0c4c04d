/* What is in a packet. Every function here checks what it reads: the bytes are a stranger's. */
#include "packet.h"

#include <arpa/inet.h>
#include <string.h>

static void make_key(struct flow_key *key, uint8_t protocol, const uint8_t *addresses, size_t each,
                     const uint8_t *ports, bool inbound)
{
    const uint8_t *local = addresses + (inbound ? each : 0), *remote = addresses + (inbound ? 0 : each);
    uint8_t *to = key->bytes;
    key->size = (uint8_t)(5 + 2 * each);
    *to++ = protocol;
    memcpy(to, local, each);
    memcpy(to + each, remote, each);
    memcpy(to + 2 * each, ports + (inbound ? 2 : 0), 2);
    memcpy(to + 2 * each + 2, ports + (inbound ? 0 : 2), 2);
}

/* Say whether a packet is ordinary, and what it is then. `inbound`: it travels to a mobile host.
 * The key is that of packet/ip.py. */
bool look(const uint8_t *packet, size_t size, bool inbound, struct view *view)
{
    if (size < 28 || size > MAX_PACKET)
        return false;
    if (packet[0] == 0x45) {
        if (packet[6] & 0x3F || packet[7] || read16(packet + 2) != size)
            return false;
        view->at = 20;
        view->protocol = packet[9];
        view->ecn = packet[1] & 3;
        view->dont_fragment = packet[6] & 0x40;
    } else if (packet[0] >> 4 == 6 && size >= 48) {
        if (read16(packet + 4) != size - 40)
            return false;
        view->at = 40;
        view->protocol = packet[6];
        view->ecn = packet[1] >> 4 & 3;
        view->dont_fragment = true;
    } else {
        return false;
    }
    size_t at = view->at;
    if (view->protocol == TCP) {
        if (size < at + 20)
            return false;
        view->head = (uint16_t)(at + (packet[at + 12] >> 4) * 4);
        view->flags = packet[at + 13];
        if (view->head < at + 20 || view->head > size)
            return false;
    } else if (view->protocol == UDP) {
        view->head = (uint16_t)(at + 8);
        view->flags = 0;
    } else {
        return false;
    }
    if (at == 20)
        make_key(&view->key, view->protocol, packet + 12, 4, packet + at, inbound);
    else
        make_key(&view->key, view->protocol, packet + 8, 16, packet + at, inbound);
    return true;
}

/* The one's complement sum of 16-bit words (RFC 1071), folded; an odd byte is padded with zero. */
uint32_t sum(const uint8_t *data, size_t size, uint32_t initial)
{
    uint64_t total = 0; /* in the machine's order: swapped at the end */
    while (size >= 8) {
        uint32_t words[2];
        memcpy(words, data, 8);
        total += (uint64_t)words[0] + words[1];
        data += 8, size -= 8;
    }
    while (size >= 2) {
        uint16_t word;
        memcpy(&word, data, 2);
        total += word;
        data += 2, size -= 2;
    }
    if (size) {
        uint8_t last[2] = {*data, 0};
        uint16_t word;
        memcpy(&word, last, 2);
        total += word;
    }
    while (total >> 16)
        total = (total & 0xFFFF) + (total >> 16);
    uint32_t value = (uint32_t)ntohs((uint16_t)total) + initial;
    while (value >> 16)
        value = (value & 0xFFFF) + (value >> 16);
    return value;
}

/* What an open checksum field holds in a packet of `size` bytes. */
uint16_t pseudo(const uint8_t *packet, const struct view *view, size_t size)
{
    uint32_t initial = view->protocol + (uint32_t)(size - view->at);
    initial = (initial & 0xFFFF) + (initial >> 16);
    return (uint16_t)(view->at == 20 ? sum(packet + 12, 8, initial) : sum(packet + 8, 32, initial));
}

/* Write the length fields for a packet of `size` bytes, and the IPv4 checksum. */
void set_length(uint8_t *header, const struct view *view, size_t size)
{
    if (view->at == 20) {
        write16(header + 2, (uint32_t)size);
        write16(header + 10, 0);
        write16(header + 10, ~sum(header, 20, 0) & 0xFFFF);
    } else {
        write16(header + 4, (uint32_t)(size - 40));
    }
    if (view->protocol == UDP)
        write16(header + view->at + 4, (uint32_t)(size - view->at));
}

/* Say whether the transport checksum of a complete packet is right (UDP's may be left out over IPv4). */
bool checksum_holds(const uint8_t *packet, const struct view *view, size_t size)
{
    const uint8_t *transport = packet + view->at;
    if (view->protocol == UDP && (!read16(transport + 6) || read16(transport + 4) != size - view->at))
        return false;
    return sum(transport, size - view->at, pseudo(packet, view, size)) == 0xFFFF;
}

/* Lower the MSS option of a SYN (RFC 9293 §3.7.1). A complete checksum follows (RFC 1624); one that is `open` does
 * not cover the option yet. False: a form of options that is left to Python. */
bool clamp_mss(uint8_t *packet, const struct view *view, uint16_t mss, bool open)
{
    size_t option = view->at + 20, end = view->head;
    while (option < end && packet[option]) {
        if (packet[option] == 1) {
            option += 1;
            continue;
        }
        if (option + 2 > end || packet[option + 1] < 2 || option + packet[option + 1] > end)
            return false;
        if (packet[option] == 2) {
            if (packet[option + 1] != 4 || (option - view->at) & 1)
                return false;
            uint16_t old = read16(packet + option + 2);
            if (old > mss) {
                uint8_t *field = packet + view->at + 16;
                uint32_t value = (uint32_t)(read16(field) ^ 0xFFFF) + (old ^ 0xFFFF) + mss;
                value = (value & 0xFFFF) + (value >> 16);
                value = (value & 0xFFFF) + (value >> 16);
                write16(packet + option + 2, mss);
                if (!open)
                    write16(field, value ^ 0xFFFF);
            }
            return true;
        }
        option += packet[option + 1];
    }
    return true;
}
