/* Reads of a TUN: whatever the kernel, or a guest behind it, may hand over. What is sent must open again. */
#include "common.h"

static void opened_again(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                         size_t size, unsigned width, unsigned count, unsigned ecn)
{
    uint8_t copy[65536], scratch[65536];
    unsigned seen = 0;
    CHECK(size <= MAX_MESSAGE && count >= 1 && count <= MAX_SEGMENTS && ecn < 4);
    CHECK((count - 1) * (size_t)width < size && size <= (size_t)count * width);
    memcpy(copy, data, size);
    for (size_t at = 0; at < size; at += width, seen++) {
        size_t one = size - at < width ? size - at : width;
        struct found found;
        struct opened opened = {0};
        struct view view;
        CHECK(one > OVERHEAD_BYTES && one - OVERHEAD_BYTES <= MTU);
        CHECK(tunnel_open(tunnel, 0, copy + at, one, scratch, &found) == OPENED_NEW);
        CHECK(tunnel_mark(tunnel, &found, &opened)); /* no counter twice */
        CHECK(look(copy + at + HEADER_BYTES, one - OVERHEAD_BYTES, false, &view));
    }
    CHECK(seen == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core *core;
    static struct sender sender;
    if (!core) {
        core = fuzz_core(false);
        CHECK(sender_init(&sender, core, 0, opened_again, NULL));
    }
    /* Reads, each behind its length. */
    for (int64_t now = 1000000000; size >= 2; now += 1000) {
        size_t one = read16(data);
        data += 2, size -= 2;
        if (one > size)
            one = size;
        memcpy(sender.input, data, one);
        data += one, size -= one;
        if (one > VNET_BYTES)
            know(core, sender.input + VNET_BYTES, one - VNET_BYTES, false);
        ASAN_POISON_MEMORY_REGION(sender.input + one, INPUT_BYTES - one);
        sender_take(&sender, one, now);
        ASAN_UNPOISON_MEMORY_REGION(sender.input, INPUT_BYTES);
    }
    sender_flush(&sender, 2000000000);
    fuzz_clean(core);
    atomic_store(&atomic_load(&tunnel_find(core, TUNNEL)->send)->counter, 0);
    struct receive_key *receive = atomic_load(&tunnel_find(core, TUNNEL)->receive)->keys[0];
    window_clear(&receive->window);
    atomic_store(&receive->window.top, -1);
    return 0;
}
