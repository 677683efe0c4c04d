/* Datagrams: authentic ones of a peer that lies in every byte it seals, and any others. */
#include "common.h"

static size_t written;

static void look_at_write(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    uint8_t whole[VNET_BYTES + 65536];
    size_t size = 0;
    struct vnet vnet;
    struct view view;
    for (int i = 0; i < count; i++) {
        CHECK(size + parts[i].iov_len <= sizeof whole);
        memcpy(whole + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    CHECK(size > VNET_BYTES && size <= VNET_BYTES + MAX_PACKET);
    memcpy(&vnet, whole, VNET_BYTES);
    CHECK(look(whole + VNET_BYTES, size - VNET_BYTES, true, &view));
    CHECK(!vnet.flags || (vnet.flags == NEEDS_CHECKSUM && vnet.checksum_start == view.at));
    CHECK(!vnet.gso_type || (vnet.segment_bytes && vnet.header_bytes == view.head && vnet.flags == NEEDS_CHECKSUM));
    CHECK(vnet.gso_type || count <= 2);
    for (int i = 1; vnet.gso_type && i < count; i++) /* the kernel cuts it where the datagrams were */
        CHECK(i + 1 < count ? parts[i].iov_len == vnet.segment_bytes
                            : parts[i].iov_len && parts[i].iov_len <= vnet.segment_bytes);
    written += size;
}

/* An answer is one datagram of a known size, sealed under the newest key, that says what its tunnel's probe said. */
static void look_at_answer(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                           size_t size)
{
    static const uint8_t secret[KEY_BYTES] = {1}, iv[IV_BYTES] = {2};
    static struct aead aead;
    uint8_t sealed[128], text[128];
    CHECK(size == 69 + OVERHEAD_BYTES && tunnel->id == TUNNEL && path == atomic_load(&tunnel->path));
    if (!aead.algorithm)
        aead_init(&aead, AES_256_GCM, secret, iv);
    memcpy(sealed, data + HEADER_BYTES, size - HEADER_BYTES);
    CHECK(read32(data) == atomic_load(&tunnel->send)->first_word);
    CHECK(aead_open(&aead, 0, read32(data + 4), data, sealed, 69, text));
    CHECK(text[0] == 2 && !text[1] && read32(text + 2) == EPOCH && read32(text + 38) >= 8 && read32(text + 46) >= 10);
    CHECK(text[50] == 6 && !read16(text + 67));
}

/* What Python has counted is known: probes may be answered. */
static void open_books(struct core *core)
{
    struct tunnel *tunnel = tunnel_find(core, TUNNEL);
    tunnel->books = (struct books){true, tunnel->last_up, 7, 9};
}

/* One batch: how, the bytes of each datagram, how many of them, and then the datagrams' texts. */
static void take_batch(struct core *core, struct receiver *receiver, struct send_key *key, uint8_t *buffer, unsigned bank,
                       const uint8_t **from, size_t *left)
{
    static uint32_t counter;
    const uint8_t *data = *from;
    size_t size = *left;
    struct batch batch = {.data = buffer, .socket = fuzz_socket, .from_bytes = sizeof batch.from, .bank = bank};
    batch.from.sin6_family = AF_INET6;
    uint8_t how = data[0];
    unsigned most = (how >> 4 & 3) == 3 ? 64 : (how >> 4 & 3) + 1;
    batch.ecn = how >> 6;
    batch.segment = read16(data + 1) % 2000 + 1;
    data += 3, size -= 3;
    for (; size && most && batch.size + batch.segment <= 60000; most--) {
        size_t width = batch.segment, text = width > OVERHEAD_BYTES ? width - OVERHEAD_BYTES : 0;
        uint8_t *at = buffer + batch.size;
        if (how & 1 || !text) { /* as they are */
            width = size < width ? size : width;
            memcpy(at, data, width);
            data += width, size -= width;
        } else {
            if (size < text)
                text = size, width = text + OVERHEAD_BYTES;
            if (!(how & 2))
                know(core, data, text, true);
            uint32_t hints = how & 4 ? PARTIAL | CONTINUES : how & 8 ? PARTIAL : 0;
            write32(at, key->first_word | hints << 24);
            write32(at + 4, counter);
            CHECK(aead_seal(&key->aead, 0, counter++, at, data, text, at + HEADER_BYTES));
            data += text, size -= text;
        }
        batch.size += width;
        if (width < batch.segment)
            break;
    }
    ASAN_POISON_MEMORY_REGION(buffer + batch.size, 65536 - batch.size);
    take_in(receiver, &batch, 1000000000);
    *from = data;
    *left = size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core *core;
    static struct receiver receiver;
    if (!core) {
        core = fuzz_core(false);
        receiver_init(&receiver, core, look_at_write, NULL);
        receiver.answer = look_at_answer;
    }
    struct send_key *key = atomic_load(&tunnel_find(core, TUNNEL)->send);
    uint8_t *buffers[BANKS] = {malloc(65536), malloc(65536)};
    for (unsigned bank = 0; size >= 3; bank = (bank + 1) % BANKS) {
        ASAN_UNPOISON_MEMORY_REGION(buffers[bank], 65536);
        open_books(core);
        take_batch(core, &receiver, key, buffers[bank], bank, &data, &size);
        receiver_keep_bank(&receiver, bank);
    }
    receiver_flush(&receiver);
    for (unsigned bank = 0; bank < BANKS; bank++) {
        ASAN_UNPOISON_MEMORY_REGION(buffers[bank], 65536);
        free(buffers[bank]);
    }
    fuzz_clean(core);
    return 0;
}
