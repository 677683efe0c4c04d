/* Headers, checksums and options of any bytes. */
#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view view, back;
    if (size < 3)
        return 0;
    uint8_t how = data[0];
    uint16_t mss = read16(data + 1);
    size -= 3;
    uint8_t *packet = malloc(size ? size : 1);
    memcpy(packet, data + 3, size);
    if (look(packet, size, how & 1, &view)) {
        CHECK(view.head <= size && view.at < view.head && (view.key.size == 13 || view.key.size == 37));
        CHECK(look(packet, size, !(how & 1), &back) && back.key.size == view.key.size);
        bool held = checksum_holds(packet, &view, size);
        if (view.protocol == TCP && clamp_mss(packet, &view, mss, false))
            CHECK(checksum_holds(packet, &view, size) == held);
        set_length(packet, &view, size);
        CHECK(look(packet, size, how & 1, &back) && back.head == view.head);
        /* A checksum that is made is right. */
        write16(packet + view.at + checksum_offset(view.protocol), pseudo(packet, &view, size));
        uint32_t whole = sum(packet + view.at, size - view.at, 0) ^ 0xFFFF;
        write16(packet + view.at + checksum_offset(view.protocol), whole ? whole : 0xFFFF);
        CHECK(checksum_holds(packet, &view, size));
    }
    free(packet);
    return 0;
}
