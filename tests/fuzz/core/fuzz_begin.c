/* First packets at an anchor, of flows of any kind, and rules of any kind asked about them: each flow begins once, and
 * what Python gives a flow meanwhile stays. */
#include "common.h"
#include "rules.h"

static void written(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    CHECK(count >= 1 && parts[0].iov_len >= VNET_BYTES);
}

static void fill_net(struct net *net, const uint8_t *data)
{
    net->size = data[0] & 1 ? 16 : data[0] & 2 ? 4 : 0;
    net->negated = data[0] & 4;
    for (unsigned i = 0; i < net->size; i++) {
        net->mask[i] = data[1 + i % 4];
        net->prefix[i] = data[5 + i % 4] & net->mask[i];
    }
}

/* Any rules: two of one match each, and to one network each. 32 bytes. */
static void ask_rules(const uint8_t *data, const struct flow_key *key)
{
    struct flow_match matches[2] = {0};
    struct net nets[2] = {0};
    struct rule rules[2] = {0};
    uint16_t numbers[3] = {data[0] % 3, data[1] % 3, data[2] % 3};
    struct chain chain = {data[3] % 4, numbers};
    struct book book = {.otherwise = TO_PYTHON, .count = 2, .rules = rules};
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *at = data + 4 + 14 * i;
        matches[i].protocol = at[0] & 1 ? TCP : at[0] & 2 ? UDP : -1;
        matches[i].negated = at[0] & 4;
        fill_net(&matches[i].destination, at + 1);
        fill_net(&nets[i], at + 2);
        matches[i].source_ports = (struct ports){at[11] & 1, at[11] & 2, at[12], 0xFFFF};
        rules[i] = (struct rule){i + 1, at[0] & 8, at[0] >> 4 & 1, 1, &matches[i], &nets[i]};
    }
    int which;
    int64_t tunnel = book_place(&book, &chain, key, &which);
    CHECK(which >= -1 && which < 2 && tunnel == (which < 0 ? TO_PYTHON : which + 1));
}

static struct guard *any_guard(void)
{
    struct guard *guard = calloc(1, sizeof *guard);
    guard->signal_port = 5060;
    guard->refused = calloc(1, sizeof *guard->refused);
    guard->refused_count = 1;
    guard->refused->size = 4;
    guard->refused->prefix[0] = 127;
    guard->refused->mask[0] = 255;
    return guard;
}

static void take_births(struct core *core, bool replace)
{
    for (struct birth *birth; (birth = births_take(core)); free(birth)) {
        struct row *mine = replace ? row_new(1, TUNNEL) : NULL;
        if (mine)
            CHECK(row_link(core, mine, &birth->row->key, true) && row_find(core, &birth->row->key) == mine);
        CHECK(row_adopt(core, birth->row) == !mine);
        CHECK(mine || row_find(core, &birth->row->key) == birth->row);
        if (mine)
            row_unlink(core, mine);
        row_unlink(core, birth->row);
        CHECK(!row_find(core, &birth->row->key));
        free(mine);
        free(birth->row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core *core;
    static struct receiver receiver;
    static uint32_t counter;
    if (!core) {
        core = fuzz_core(true);
        receiver_init(&receiver, core, written, NULL);
        atomic_store(&core->births->guard, any_guard());
    }
    struct send_key *key = atomic_load(&tunnel_find(core, TUNNEL)->send);
    uint8_t *buffer = malloc(65536);
    while (size > 35) { /* how, rules, and a text behind its length */
        const uint8_t how = data[0], *rules = data + 1;
        size_t text = read16(data + 33);
        struct batch batch = {.data = buffer, .socket = fuzz_socket, .from_bytes = sizeof batch.from, .ecn = how & 3};
        struct view view;
        batch.from.sin6_family = AF_INET6;
        data += 35, size -= 35;
        text = text % 2000 < size ? text % 2000 : size;
        if (look(data, text, false, &view)) {
            ask_rules(rules, &view.key);
            if (how & 4) /* its sender is who it says */
                CHECK(holder_set(core, 1, view.at == 20 ? data + 12 : NULL, view.at == 40 ? data + 8 : NULL));
        }
        batch.size = batch.segment = text + OVERHEAD_BYTES;
        write32(buffer, key->first_word | (how & 8 ? PARTIAL << 24 : 0));
        write32(buffer + 4, counter);
        CHECK(aead_seal(&key->aead, 0, counter++, buffer, data, text, buffer + HEADER_BYTES));
        take_in(&receiver, &batch, 1000000000 + (int64_t)counter * (how & 16 ? 1 : 10000000));
        receiver_flush(&receiver);
        if (how & 32)
            take_births(core, how & 64);
        data += text, size -= text;
    }
    free(buffer);
    take_births(core, false);
    CHECK(core->births->count == 0 && !core->births->first);
    holder_drop(core, 1);
    fuzz_clean(core);
    reap(core);
    return 0;
}
